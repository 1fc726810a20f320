package rows

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"kiln/test/kilntest"
)

// The fleets.
const (
	lowVolume  = "low-volume"
	highVolume = "high-volume"
)

// served is where executions of one function ran, as the code saw it and as the server says: boot ids by fleet.
type served map[string]map[string]bool

// call invokes a function and notes where it ran.
func (s served) call(t *testing.T, a *kilntest.Account, function string) (fleet string, answer *kilntest.Answer) {
	t.Helper()
	answer = a.Invoke(kilntest.Invocation{Function: function})
	fleet = answer.Fleet()
	s.note(fleet, answer.Facts())
	return fleet, answer
}

func (s served) note(fleet string, f kilntest.Facts) {
	if s[fleet] == nil {
		s[fleet] = map[string]bool{}
	}
	s[fleet][f.MachineID] = true
}

// apart demands that no instance, by the boot id the code read, served two fleets, and that each is listed under the one
// it served.
func (s served) apart(t *testing.T, instances []kilntest.Instance) {
	t.Helper()
	for id := range s[lowVolume] {
		if s[highVolume][id] {
			t.Errorf("the instance with boot id %s served both fleets", id)
		}
	}
	for fleet, ids := range s {
		for id := range ids {
			if i, ok := byBoot(t, instances, id); ok && i.Fleet != fleet {
				t.Errorf("%s served %s and is listed under %s", i.ID, fleet, i.Fleet)
			}
		}
	}
}

// every calls after each pause until it was called n times.
func every(pause time.Duration, n int, call func(i int)) {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for i := range n {
		call(i)
		if i < n-1 {
			<-ticker.C
		}
	}
}

// A function is served by low-volume until the call that makes fleet.enter within fleet.window, and by high-volume from
// then on, on another instance as the code reads its boot id, one that was warm before; another function of the account
// stays where it is, and so does an execution under way. As many calls that lie wider apart than the window change
// nothing. After a silence it is served by low-volume again. // R50 R51 R52 R53 R54 R55
func TestFleetFollowsTheUsage(t *testing.T) {
	kilntest.NeedContainer(t)
	const window, enter = 12 * time.Second, 8
	s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"fleet.window": window.String(), "fleet.enter": fmt.Sprint(enter),
		"fleet.leave": "4", "instances.shapes": `[{"memory":1024,"cpus":2}]`}})
	a, operator := s.NewAccount(t), s.Operator(t)
	for _, name := range []string{"hot", "cold", "spread"} {
		a.Probe("python", name)
	}
	if high := operator.Fleets()[highVolume]; high.Instances != 0 || high.Target != 0 {
		t.Errorf("before any demand high-volume has %d instances and a target of %d", high.Instances, high.Target)
	}
	where := served{}
	var under sync.WaitGroup
	under.Go(func() { // the first of the calls goes on beyond the change
		answer, err := a.TryInvoke(kilntest.Invocation{Function: "hot", Payload: `{"sleepMs":6000}`})
		if err != nil || answer.Failure() != nil || answer.Fleet() != lowVolume {
			t.Errorf("the execution under way: %v %+v", err, answer)
		}
	})
	began := time.Now()
	kilntest.Eventually(t, 5*time.Second, func() error {
		if u := a.Usage("hot"); u.Requests != 1 {
			return fmt.Errorf("%d requests are counted, one was sent", u.Requests)
		}
		return nil
	})
	for i := 2; i <= enter-1; i++ {
		if fleet, _ := where.call(t, a, "hot"); fleet != lowVolume {
			t.Fatalf("call %d of %d was served by %s", i, enter, fleet)
		}
	}
	kilntest.Eventually(t, 10*time.Second, func() error {
		for _, i := range operator.Instances("fleet=" + highVolume) {
			if i.State == "warm" && i.Holds("python") {
				return nil
			}
		}
		return fmt.Errorf("high-volume keeps nothing warm for the function that comes near")
	})
	warmed := operator.Instances("fleet=" + highVolume)
	fleet, crossing := where.call(t, a, "hot")
	if took := time.Since(began); took > window {
		t.Fatalf("%d calls took %s, longer than the window: nothing is shown; run it alone", enter, took)
	}
	if i, ok := byBoot(t, warmed, crossing.Facts().MachineID); fleet != highVolume || !ok || crossing.Path() != "warming-pool" {
		t.Errorf("call %d of %d was served by %s on %s by %s; warm before were %+v", enter, enter, fleet, i.ID, crossing.Path(), warmed)
	}
	if u := a.Usage("hot"); u.Requests != enter || u.Fleet != highVolume {
		t.Errorf("%d calls were sent; the usage is %+v", enter, u)
	}
	if fleet, _ := where.call(t, a, "cold"); fleet != lowVolume {
		t.Errorf("the account's other function was served by %s", fleet)
	}
	under.Wait()
	every(window/6, enter, func(i int) {
		if fleet, _ := where.call(t, a, "spread"); fleet != lowVolume {
			t.Errorf("call %d of %d over %s was served by %s", i+1, enter, enter*window/6, fleet)
		}
	})
	where.apart(t, operator.Instances())
	kilntest.Eventually(t, 30*time.Second, func() error {
		if u := a.Usage("hot"); u.Fleet == highVolume {
			return fmt.Errorf("after the silence: %+v", u)
		}
		return nil
	})
	if fleet, _ := where.call(t, a, "hot"); fleet != lowVolume {
		t.Errorf("after the silence it was served by %s", fleet)
	}
	if n := len(kinds(a.Events("function=hot"), "fleet.change")); n != 2 {
		t.Errorf("%d events tell of its changes of fleet, want 2", n)
	}
}

// The usage of a function equals the calls sent, those included that were throttled; after kill -9 and a restart it is the
// same, and the function is served by the same fleet. // R51 R101
func TestUsageSurvivesAKill(t *testing.T) {
	kilntest.NeedContainer(t)
	s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"warming.instances": "0", "fleet.enter": "60"}})
	a := s.NewAccount(t)
	sent := map[string]int{"often": 75, "rarely": 13, "refused": 4}
	for name := range sent {
		a.Probe("python", name)
	}
	if _, err := a.Lambda().PutFunctionConcurrency(t.Context(), &lambda.PutFunctionConcurrencyInput{
		FunctionName: aws.String("refused"), ReservedConcurrentExecutions: aws.Int32(0)}); err != nil {
		t.Fatal(err)
	}
	for range sent["often"] {
		a.Invoke(kilntest.Invocation{Function: "often"}).OK()
	}
	for range 3 { // what is kept and what only the ledger has: the first are older than a write
		<-time.After(700 * time.Millisecond)
		a.Invoke(kilntest.Invocation{Function: "rarely"}).OK()
	}
	for range sent["rarely"] - 3 {
		a.Invoke(kilntest.Invocation{Function: "rarely"}).OK()
	}
	for range sent["refused"] {
		a.Invoke(kilntest.Invocation{Function: "refused"}).Refused(http.StatusTooManyRequests, "TooManyRequestsException")
	}
	check := func(when string) {
		t.Helper()
		for name, n := range sent {
			if u := a.Usage(name); u.Requests != n {
				t.Errorf("%s: %s was called %d times, the usage is %+v", when, name, n, u)
			}
		}
	}
	check("before the kill")
	<-time.After(300 * time.Millisecond) // records are on disk 100 ms after the answer
	for range 2 {
		s.Kill(t)
		s.Restart(t)
		check("after the kill")
	}
	if answer := a.Invoke(kilntest.Invocation{Function: "often"}); answer.Fleet() != highVolume {
		t.Errorf("after the kills the function is served by %s: %s", answer.Fleet(), answer.Body)
	}
	if answer := a.Invoke(kilntest.Invocation{Function: "rarely"}); answer.Fleet() != lowVolume {
		t.Errorf("after the kills the rare one is served by %s: %s", answer.Fleet(), answer.Body)
	}
}

// A fleet whose manager is stopped refuses its functions, naming itself, and boots nothing, while its executions end and
// the other fleet serves its own; started again it serves. // R50
func TestStoppedManagerLeavesTheOtherServing(t *testing.T) {
	kilntest.NeedContainer(t)
	s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"instances.shapes": `[{"memory":1024,"cpus":2}]`}})
	a, operator := s.NewAccount(t), s.Operator(t)
	a.Probe("python", "low")
	a.Probe("python", "high")
	a.Pin("high", highVolume)
	where := served{}
	where.call(t, a, "low")
	where.call(t, a, "high")
	var under sync.WaitGroup
	under.Go(func() {
		answer, err := a.TryInvoke(kilntest.Invocation{Function: "low", Payload: `{"sleepMs":4000}`})
		if err != nil || answer.Failure() != nil {
			t.Errorf("the execution under way: %v %+v", err, answer)
		}
	})
	kilntest.Eventually(t, 5*time.Second, func() error {
		if busy := slices.ContainsFunc(a.Containers(), func(c kilntest.Container) bool { return c.Function == "low" && c.State == "busy" }); !busy {
			return fmt.Errorf("not executing")
		}
		return nil
	})
	command(t, operator, "fleet", "stop", lowVolume)
	if f := operator.Fleets(); f[lowVolume].Manager != "stopped" || f[highVolume].Manager != "running" {
		t.Errorf("fleets %+v", f)
	}
	refused := a.Invoke(kilntest.Invocation{Function: "low"}).Refused(http.StatusServiceUnavailable, "ServiceUnavailableException")
	if text := fmt.Sprint(refused); !strings.Contains(text, lowVolume) {
		t.Errorf("the refusal does not name the fleet: %s", text)
	}
	if fleet, _ := where.call(t, a, "high"); fleet != highVolume {
		t.Errorf("the other fleet's function was served by %s", fleet)
	}
	under.Wait()
	last := lastEvent(operator)
	for _, i := range warm(operator.Instances("fleet=" + lowVolume)) {
		operator.EndInstance(i.ID)
	}
	where.call(t, a, "high")
	if made := kinds(operator.Events(), "instance.create"); slices.ContainsFunc(made, func(e kilntest.Event) bool { return e.ID > last }) {
		t.Errorf("something was booted by a stopped manager: %+v", made[len(made)-1])
	}
	where.apart(t, operator.Instances())
	command(t, operator, "fleet", "start", lowVolume)
	if fleet, _ := where.call(t, a, "low"); fleet != lowVolume {
		t.Errorf("started again, it was served by %s", fleet)
	}
}

// command runs kiln as the operator would from a shell.
func command(t *testing.T, a *kilntest.Account, args ...string) {
	t.Helper()
	if out, err := a.Command(t.Context(), args...).CombinedOutput(); err != nil {
		t.Fatalf("kiln %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// The tag kiln:fleet pins a function to a fleet from its next call on, whatever its usage; a fleet there is not is refused
// when it is named. // R56
func TestTagPinsTheFleet(t *testing.T) {
	a := account(t)
	a.Probe("python", "pinned")
	where := served{}
	for _, fleet := range []string{highVolume, lowVolume, highVolume} {
		a.Pin("pinned", fleet)
		for range 3 {
			if got, _ := where.call(t, a, "pinned"); got != fleet {
				t.Errorf("pinned to %s, served by %s", fleet, got)
			}
		}
		if u := a.Usage("pinned"); u.Fleet != fleet || !u.Pinned {
			t.Errorf("pinned to %s: %+v", fleet, u)
		}
	}
	where.apart(t, shared.Server(t).Operator(t).Instances())
	for _, bad := range []string{"high", "", "HIGH-VOLUME"} {
		if err := a.TryPin("pinned", bad); err == nil || !strings.Contains(err.Error(), "high-volume") || !strings.Contains(err.Error(), "InvalidParameterValueException") {
			t.Errorf("tagged %q: %v", bad, err)
		}
	}
	if _, err := a.Lambda().UntagResource(t.Context(), &lambda.UntagResourceInput{TagKeys: []string{"kiln:fleet"},
		Resource: aws.String("arn:aws:lambda:" + a.Region + ":" + a.ID + ":function:pinned")}); err != nil {
		t.Fatal(err)
	}
	if fleet, _ := where.call(t, a, "pinned"); fleet != lowVolume {
		t.Errorf("no longer pinned, served by %s", fleet)
	}
}

// While one fleet is full, and refuses, the other takes and keeps its own instances. // R56
func TestFullFleetTakesNothingFromTheOther(t *testing.T) {
	kilntest.NeedContainer(t)
	s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"instances.max": "2", "fleets.high-volume.instances.max": "1",
		"warming.instances": "0", "instances.shapes": `[{"memory":256,"cpus":1}]`, "wait.max": "3s"}})
	operator := s.Operator(t)
	a := s.NewAccount(t)
	a.Probe("python", "burst")
	a.Probe("python", "high")
	a.Pin("high", highVolume)
	var burst sync.WaitGroup
	var mu sync.Mutex
	where, statuses := served{}, map[int]int{}
	for range 5 {
		burst.Go(func() {
			answer, err := a.TryInvoke(kilntest.Invocation{Function: "burst", Payload: `{"sleepMs":9000}`})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			statuses[answer.Status]++
			if f, err := answer.TryFacts(); err == nil {
				where.note(answer.Fleet(), f)
			}
		})
	}
	kilntest.Eventually(t, 10*time.Second, func() error {
		if f := operator.Fleets()[lowVolume]; f.Instances != f.InstancesMax {
			return fmt.Errorf("low-volume has %d of %d instances", f.Instances, f.InstancesMax)
		}
		return nil
	})
	answer := a.Invoke(kilntest.Invocation{Function: "high"})
	if answer.Status != http.StatusOK || answer.Fleet() != highVolume {
		t.Errorf("while low-volume is full: %d by %s: %s", answer.Status, answer.Fleet(), answer.Body)
	}
	burst.Wait()
	where.note(answer.Fleet(), answer.Facts())
	where.apart(t, operator.Instances())
	if statuses[http.StatusOK] != 2 || statuses[http.StatusTooManyRequests] != 3 || len(where[lowVolume]) != 2 {
		t.Errorf("five at once on two instances: %v on %v", statuses, slices.Collect(maps.Keys(where[lowVolume])))
	}
}

// High-volume keeps what it has loaded when low-volume has long let go: the one's process counts on, the other's is a new
// one. Low-volume puts many rare functions onto few instances. // R55
func TestHighKeepsAndLowPacks(t *testing.T) {
	kilntest.NeedContainer(t)
	s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"retention.container": "2s", "retention.instance": "1m",
		"instances.shapes": `[{"memory":1024,"cpus":2}]`}})
	a := s.NewAccount(t)
	for _, fleet := range []string{lowVolume, highVolume} {
		a.Probe("python", fleet)
		a.Pin(fleet, fleet)
		if f := a.Invoke(kilntest.Invocation{Function: fleet}).Facts(); f.Count != 1 {
			t.Errorf("%s: execution %d of its process", fleet, f.Count)
		}
	}
	kilntest.Eventually(t, 20*time.Second, func() error {
		if slices.ContainsFunc(a.Containers(), func(c kilntest.Container) bool { return c.Function == lowVolume }) {
			return fmt.Errorf("low-volume's container is still there")
		}
		return nil
	})
	if f := a.Invoke(kilntest.Invocation{Function: highVolume}).Facts(); f.Count != 2 {
		t.Errorf("high-volume: execution %d of its process, want 2", f.Count)
	}
	if f := a.Invoke(kilntest.Invocation{Function: lowVolume}).Facts(); f.Count != 1 {
		t.Errorf("low-volume: execution %d of its process, want 1", f.Count)
	}
	const rare = 12
	where := served{}
	for i := range rare {
		name := fmt.Sprint("rare", i)
		f := kilntest.Probe(t, "python", name)
		f.MemoryMiB = 128
		a.Deploy(f)
		where.call(t, a, name)
	}
	if n := len(where[lowVolume]); n > 1+rare*128/1024 {
		t.Errorf("%d rare functions of 128 MiB, one at a time, took %d instances of 1024 MiB", rare, n)
	}
}

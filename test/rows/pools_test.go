package rows

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kiln/test/kilntest"
)

// languagesOf is what the warming pool is expected to hold on this machine.
func languagesOf(t *testing.T) []string {
	t.Helper()
	return []string{"python", "node"}
}

// waitWarm waits until an instance of a language is warm, and gives the list.
func waitWarm(t *testing.T, operator *kilntest.Account, language string) []kilntest.Instance {
	t.Helper()
	var instances []kilntest.Instance
	kilntest.Eventually(t, 20*time.Second, func() error {
		instances = operator.Instances()
		for _, i := range warm(instances) {
			if i.State == "warm" && i.Holds(language) {
				return nil
			}
		}
		return fmt.Errorf("no warm instance holds %s: %+v", language, instances)
	})
	return instances
}

// With no traffic at all instances are there: booted, owned by nobody, each with an interpreter running in it that this
// machine's kernel shows; and the one that then serves the first request is one of them. // R20 R28
func TestWarmBeforeAnyRequest(t *testing.T) {
	kilntest.NeedContainer(t)
	s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"warming.instances": "2"}})
	operator := s.Operator(t)
	instances := operator.Instances()
	if len(instances) == 0 {
		t.Fatal("there is no instance")
	}
	for _, i := range instances {
		if i.Pool != "warming" || i.State != "warm" || i.Account != "" {
			t.Errorf("%s is %s, in pool %s, of account %q, with %v", i.ID, i.State, i.Pool, i.Account, i.Runtimes)
		}
		if i.BootedAt.Before(s.Started.Add(-time.Second)) || i.BootedAt.After(s.Ready) {
			t.Errorf("%s was booted at %s; the server was started at %s and ready at %s", i.ID, i.BootedAt, s.Started, s.Ready)
		}
		if i.Driver != s.Driver || i.BootID == "" || len(i.Runtimes) == 0 || i.Shape.MemoryMiB == 0 || i.Node == "" || i.Fleet == "" {
			t.Errorf("incomplete: %+v", i)
		}
	}
	for _, language := range languagesOf(t) {
		if n := len(slices.DeleteFunc(slices.Clone(instances), func(i kilntest.Instance) bool { return !i.Holds(language) })); n != 2 {
			t.Errorf("%d instances hold %s, want 2: %+v", n, language, instances)
		}
	}
	for _, c := range operator.Containers() {
		if c.Pid == 0 || c.Function != "" || c.State != "prepared" {
			t.Errorf("container %+v is not a prepared one", c)
			continue
		}
		if p := s.Process(t, c.Pid); p.StartedAt > kilntest.Seconds(s.Ready) {
			t.Errorf("container %s: %s was started after the server said it was ready", c.ID, p.Exe)
		}
	}
	a := s.NewAccount(t)
	answer := a.Invoke(kilntest.Invocation{Function: a.Probe("python", "first")})
	f := answer.Facts()
	i, ok := byBoot(t, instances, f.MachineID)
	if !ok {
		t.Fatalf("the first request ran on %s, which was not there before", f.MachineID)
	}
	if answer.Instance() != i.ID || answer.Path() != "warming-pool" {
		t.Errorf("the answer names instance %s by path %s; the boot id is that of %s", answer.Instance(), answer.Path(), i.ID)
	}
}

// Whatever the load, each poll of the instances shows each in exactly one pool, the active ones with an owner and the
// warm ones without, and an owner never changes. // R21
func TestEachInstanceIsInOnePool(t *testing.T) {
	kilntest.NeedContainer(t)
	s := shared.Server(t)
	operator := s.Operator(t)
	accounts := []*kilntest.Account{s.NewAccount(t), s.NewAccount(t), s.NewAccount(t)}
	for _, a := range accounts {
		a.Probe("python", "loaded")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
	defer cancel()
	var load sync.WaitGroup
	served := make([]map[string]bool, len(accounts)) // by account: machine ids
	for n, a := range accounts {
		served[n] = map[string]bool{}
		load.Go(func() {
			for ctx.Err() == nil {
				answer, err := a.TryInvoke(kilntest.Invocation{Function: "loaded", Payload: `{"sleepMs":20}`})
				if err != nil {
					t.Error(err)
					return
				}
				f, err := answer.TryFacts()
				if err != nil {
					t.Error(err)
					return
				}
				served[n][f.MachineID] = true
				if f.Count%7 == 0 {
					operator.EndInstances(a.ID)
				}
			}
		})
	}
	owners := map[string]string{} // by instance and by boot id
	wrong := map[string]bool{}
	polls := 0
	for ctx.Err() == nil {
		instances, err := operator.TryInstances()
		if err != nil {
			t.Error(err)
			break
		}
		polls++
		for _, what := range checkPools(instances, owners) {
			wrong[what] = true
		}
	}
	load.Wait()
	for what := range wrong {
		t.Error(what)
	}
	if polls < 20 {
		t.Errorf("only %d polls", polls)
	}
	for n, a := range accounts {
		for machine := range served[n] {
			if owner := owners[machine]; owner != "" && owner != a.ID {
				t.Errorf("account %s ran on %s, which is listed as %s's", a.ID, machine, owner)
			}
		}
	}
}

// checkPools looks at one poll, remembers the owners and gives what is wrong.
func checkPools(instances []kilntest.Instance, owners map[string]string) (wrong []string) {
	seen := map[string]bool{}
	for _, i := range instances {
		if seen[i.ID] {
			wrong = append(wrong, i.ID+" is listed twice")
		}
		seen[i.ID] = true
		switch {
		case i.Pool == "warming" && i.Account == "" && (i.State == "booting" || i.State == "warm"):
		case i.Pool == "active" && i.Account != "" && (i.State == "assigned" || i.State == "draining"):
		default:
			wrong = append(wrong, fmt.Sprintf("%s: pool %q, state %q, account %q", i.ID, i.Pool, i.State, i.Account))
		}
		for _, key := range []string{i.ID, i.BootID} {
			if before := owners[key]; before != "" && before != i.Account {
				wrong = append(wrong, fmt.Sprintf("%s went from account %s to %q", i.ID, before, i.Account))
			}
			if key != "" && i.Account != "" { // an instance that is still booting may have no boot id
				owners[key] = i.Account
			}
		}
	}
	return wrong
}

// With nothing warm an instance is made for the request, which succeeds on it. // R29
func TestInstantiatedWhenNothingIsWarm(t *testing.T) {
	kilntest.NeedContainer(t)
	s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"warming.instances": "0"}})
	operator := s.Operator(t)
	if instances := operator.Instances(); len(instances) != 0 {
		t.Fatalf("with warming.instances=0 there are %+v", instances)
	}
	languages(t, func(t *testing.T, language string) {
		a := s.NewAccount(t)
		answer := a.Invoke(kilntest.Invocation{Function: a.Probe(language, "made")})
		f := answer.Facts()
		if answer.Path() != "instantiated" {
			t.Errorf("path %s", answer.Path())
		}
		if f.ProcessAt < kilntest.Seconds(answer.Sent)-slack.Seconds() {
			t.Errorf("the process was there %.3f s before the request", kilntest.Seconds(answer.Sent)-f.ProcessAt)
		}
		again := a.Invoke(kilntest.Invocation{Function: "made"})
		if took, first := again.Got.Sub(again.Sent), answer.Got.Sub(answer.Sent); took >= first {
			t.Errorf("instantiated took %s and the next one %s", first, took)
		}
	})
}

// At the limit of instances a request waits within its bound and then gets AWS's 429 with its reason; one that can be
// served when a busy container becomes idle waits for that and is. // R29
func TestThrottledAtTheLimit(t *testing.T) {
	kilntest.NeedContainer(t)
	s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"instances.max": "1", "warming.instances": "0",
		"instances.shapes": `[{"memory":256,"cpus":1}]`, "wait.max": "4s"}})
	busy, other := s.NewAccount(t), s.NewAccount(t)
	busy.Probe("python", "busy")
	other.Probe("python", "waits")
	busy.Invoke(kilntest.Invocation{Function: "busy"}).OK()
	var holding sync.WaitGroup
	hold := func(ms int) {
		holding.Go(func() {
			if answer, err := busy.TryInvoke(kilntest.Invocation{Function: "busy", Payload: fmt.Sprintf(`{"sleepMs":%d}`, ms)}); err != nil || answer.Failure() != nil {
				t.Errorf("the busy one: %v %v", err, answer)
			}
		})
		kilntest.Eventually(t, 20*time.Second, func() error {
			if c := busy.Containers(); len(c) != 1 || c[0].State != "busy" {
				return fmt.Errorf("not busy: %+v", c)
			}
			return nil
		})
	}
	hold(14_000)
	refused := other.Invoke(kilntest.Invocation{Function: "waits"})
	body := refused.Refused(http.StatusTooManyRequests, "TooManyRequestsException")
	if reason := fmt.Sprint(body["Reason"]); !slices.Contains(reasons, reason) {
		t.Errorf("reason %q is none of AWS's: %s", reason, refused.Body)
	}
	if waited := refused.Got.Sub(refused.Sent); waited < 3900*time.Millisecond || waited > 12*time.Second {
		t.Errorf("it was refused after %s; wait.max is 4 s", waited)
	}
	holding.Wait()
	hold(1000)
	waited := busy.Invoke(kilntest.Invocation{Function: "busy"})
	if f := waited.Facts(); waited.Path() != "container" || f.Count < 4 {
		t.Errorf("the one that waited for the busy container came by %s, execution %d of its process", waited.Path(), f.Count)
	}
	holding.Wait()
}

// reasons are the reasons of AWS's TooManyRequestsException (model 2015-03-31, ThrottleReason).
var reasons = []string{"ConcurrentInvocationLimitExceeded", "FunctionInvocationRateLimitExceeded", "ReservedFunctionConcurrentInvocationLimitExceeded",
	"ReservedFunctionInvocationRateLimitExceeded", "CallerRateLimitExceeded", "ConcurrentSnapshotCreateLimitExceeded"}

// ran is one execution as the code saw it.
type ran struct {
	facts kilntest.Facts
	asked int
}

// Under random amounts at once no execution reads a limit below what it asked for, and at no instant do the limits of
// the executions on one instance, as they read them, add up to more than its shape. // R30
func TestNeverLessAndNeverOvercommitted(t *testing.T) {
	kilntest.NeedContainer(t)
	s := shared.Server(t)
	operator := s.Operator(t)
	accounts := []*kilntest.Account{s.NewAccount(t), s.NewAccount(t)}
	for _, a := range accounts {
		a.Probe("python", "random")
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var mu sync.Mutex
	var all []ran
	var load sync.WaitGroup
	for worker := range 8 {
		chance := rand.New(rand.NewPCG(seed, uint64(worker)))
		a := accounts[worker%len(accounts)]
		load.Go(func() {
			for range 12 {
				asked := 128 + 64*chance.IntN(10)
				answer, err := a.TryInvoke(kilntest.Invocation{Function: "random", Payload: fmt.Sprintf(`{"sleepMs":%d}`, 10+chance.IntN(150)),
					Header: map[string]string{"X-Kiln-Memory": fmt.Sprint(asked)}})
				if err != nil {
					t.Error(err)
					return
				}
				f, err := answer.TryFacts()
				if err != nil {
					t.Errorf("asked %d MiB: %v", asked, err)
					continue
				}
				mu.Lock()
				all = append(all, ran{f, asked})
				mu.Unlock()
			}
		})
	}
	done := make(chan struct{})
	go func() { load.Wait(); close(done) }()
	shapes := map[string]int{} // by boot id, MiB
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		checkSums(t, operator, shapes)
	}
	checkRan(t, all, shapes)
}

// checkSums demands of one poll that the containers listed on an instance add up to no more than its shape.
func checkSums(t *testing.T, operator *kilntest.Account, shapes map[string]int) {
	t.Helper()
	containers, err := operator.TryContainers()
	if err != nil {
		t.Fatal(err)
	}
	instances, err := operator.TryInstances()
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]int{}
	for _, c := range containers {
		given[c.Instance] += c.MemoryMiB
	}
	for _, i := range instances {
		shapes[i.BootID] = i.Shape.MemoryMiB
		if given[i.ID] > i.Shape.MemoryMiB {
			t.Errorf("%s of %d MiB holds containers of %d MiB", i.ID, i.Shape.MemoryMiB, given[i.ID])
		}
	}
}

// checkRan demands the same of what the executions themselves read.
func checkRan(t *testing.T, all []ran, shapes map[string]int) {
	t.Helper()
	if len(all) < 80 {
		t.Errorf("only %d executions", len(all))
	}
	for _, r := range all {
		if r.facts.MemoryLimit < int64(r.asked)<<20 {
			t.Errorf("asked %d MiB, the code reads %d", r.asked, r.facts.MemoryLimit>>20)
		}
		shape, known := shapes[r.facts.MachineID]
		if !known {
			continue // made and gone between two polls
		}
		// At the instant this one began, whoever else was running on its instance held its limit too.
		held := map[string]int64{}
		for _, o := range all {
			if o.facts.MachineID == r.facts.MachineID && o.facts.BeganAt <= r.facts.BeganAt && r.facts.BeganAt < o.facts.EndedAt {
				held[o.facts.Hostname] = o.facts.MemoryLimit
			}
		}
		var sum int64
		for _, limit := range held {
			sum += limit
		}
		if sum > int64(shape)<<20 {
			t.Errorf("%d containers with %d MiB ran at once on an instance of %d MiB", len(held), sum>>20, shape)
		}
	}
}

// Losing every instance loses no code: all are ended, and the same code runs again, on another one. // R100
func TestEveryInstanceLost(t *testing.T) {
	kilntest.NeedContainer(t)
	s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"warming.instances": "1"}})
	operator := s.Operator(t)
	before := map[string]kilntest.Facts{}
	names := map[string]string{"python": "code-is-01", "node": "code-is-02", "go": "code-is-03"}
	for language, constant := range names {
		operator.Deploy(kilntest.Probe(t, language, language).Constant(constant))
		before[language] = operator.Invoke(kilntest.Invocation{Function: language}).Facts()
	}
	for _, i := range operator.Instances() {
		answer := operator.Do(kilntest.Call{Method: http.MethodDelete, Path: "/kiln/v1/instances/" + i.ID, Service: "kiln"})
		if answer.Status > 299 && answer.Status != http.StatusNotFound {
			t.Errorf("end %s: %d %s", i.ID, answer.Status, answer.Body)
		}
	}
	for language, constant := range names {
		f := operator.Invoke(kilntest.Invocation{Function: language}).Facts()
		if f.Constant != constant || f.Count != 1 {
			t.Errorf("%s: constant %q, execution %d", language, f.Constant, f.Count)
		}
		if f.MachineID == before[language].MachineID {
			t.Errorf("%s runs on %s, which was ended", language, f.MachineID)
		}
	}
	for _, e := range kinds(operator.Events(), "instance.terminate") {
		if e.Cause == "" || strings.TrimSpace(e.Instance) == "" {
			t.Errorf("an end without its cause: %+v", e)
		}
	}
}

package rows

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kiln/test/kilntest"
)

// small makes instances that four executions of 128 MiB fill.
const small = `[{"memory":512,"cpus":1}]`

// running lists the warm instances of a language in whose prepared container the kernel shows a process.
func running(t *testing.T, operator *kilntest.Account, language string) []string {
	t.Helper()
	holds := map[string]bool{}
	for _, i := range warm(operator.Instances("fleet=low-volume")) {
		holds[i.ID] = i.State == "warm" && i.Holds(language)
	}
	var found []string
	for _, c := range operator.Containers() {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", c.Pid)) // it may have gone since it was listed
		if holds[c.Instance] && err == nil && strings.Contains(exe, language) {
			found = append(found, c.Instance)
		}
	}
	return found
}

// eventually waits until so many are running.
func eventually(t *testing.T, operator *kilntest.Account, language string, least, most int) {
	t.Helper()
	kilntest.Eventually(t, 60*time.Second, func() error {
		if n := len(running(t, operator, language)); n < least || n > most {
			return fmt.Errorf("%d warm instances run %s, want %d to %d; %+v", n, language, least, most, operator.WarmingPool(language))
		}
		return nil
	})
}

// newcomers makes accounts with a function each that nobody has called.
func newcomers(t *testing.T, s *kilntest.Server, language string, n int) []*kilntest.Account {
	t.Helper()
	accounts := make([]*kilntest.Account, n)
	for i := range accounts {
		accounts[i] = s.NewAccount(t)
		accounts[i].Probe(language, "new")
	}
	return accounts
}

// arrive has accounts call for the first time, all at once.
func arrive(t *testing.T, accounts []*kilntest.Account) {
	t.Helper()
	var wg sync.WaitGroup
	for _, a := range accounts {
		wg.Go(func() {
			if answer, err := a.TryInvoke(kilntest.Invocation{Function: "new"}); err != nil || answer.Status != 200 {
				t.Errorf("a newcomer: %v %v", err, answer)
			}
		})
	}
	wg.Wait()
}

// A load that the client counts is reported within 5 %: of each function, of each language's instances, and in total. // R60
func TestKnownLoadIsReported(t *testing.T) {
	kilntest.NeedContainer(t)
	s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"instances.shapes": small}})
	operator, a := s.Operator(t), s.NewAccount(t)
	sent := map[string]int{}
	last := time.Now()
	for name, load := range map[string]struct {
		language string
		requests int
	}{"often": {"python", 400}, "seldom": {"python", 100}, "other": {"node", 200}} {
		a.Probe(load.language, name)
		for range load.requests {
			a.Invoke(kilntest.Invocation{Function: name}).OK()
		}
		sent[name] += load.requests
		sent[load.language] += load.requests
		sent["total"] += load.requests
		last = time.Now()
	}
	if took := last.Sub(s.Ready); took > 50*time.Second {
		t.Fatalf("the load took %s, longer than the minute it is to be counted in: nothing is shown; run it alone", took)
	}
	reported := map[string]float64{}
	for _, r := range operator.Rates() {
		switch r.Scope {
		case "total":
			reported["total"] += r.Minute
		case "code":
			if r.Account == a.ID {
				reported[r.Function] += r.Minute
			}
		case "configuration":
			for _, language := range []string{"python", "node"} {
				if strings.Contains(r.Configuration, "/"+language) {
					reported[language] += r.Minute
				}
			}
		}
	}
	for what, n := range sent {
		if want := float64(n) / 60; math.Abs(reported[what]-want) > 0.05*want {
			t.Errorf("%s: %d requests in a minute are %.3f a second; reported %.3f", what, n, want, reported[what])
		}
	}
	for _, r := range a.Rates() {
		if r.Account != a.ID {
			t.Errorf("an account sees %+v", r)
		}
	}
}

// Each instance that a new account takes from the warming pool is replaced by one while requests are few, by three while
// they come more often than is expected, and by one again afterwards. What is counted are the interpreters that the kernel
// shows in warm instances. // R61
func TestSurgeAddsTheSecondNumber(t *testing.T) {
	kilntest.NeedContainer(t)
	s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"warming.instances": "3", "warming.maximum": "40", "instances.max": "64",
		"surge.first": "1", "surge.second": "3", "warming.release": "1h", "instances.shapes": small, "fleet.enter": "1000000"}})
	operator := s.Operator(t)
	few, many, after := newcomers(t, s, "python", 3), newcomers(t, s, "python", 3), newcomers(t, s, "python", 1)
	eventually(t, operator, "python", 3, 3)
	for _, a := range few {
		arrive(t, []*kilntest.Account{a})
	}
	eventually(t, operator, "python", 3, 3)
	for range 250 {
		few[0].Invoke(kilntest.Invocation{Function: "new"}).OK()
	}
	for _, a := range many {
		arrive(t, []*kilntest.Account{a})
	}
	eventually(t, operator, "python", 9, 9) // 3, less 3 taken, and 9
	if causes := causes(operator, "instance.create", "the second number"); causes != 9 {
		t.Errorf("%d instances were created for the second number", causes)
	}
	kilntest.Eventually(t, 2*time.Minute, func() error {
		if p := operator.WarmingPool("python"); p.Demand.Surge {
			return fmt.Errorf("still a surge: %+v", p)
		}
		return nil
	})
	arrive(t, after)
	eventually(t, operator, "python", 9, 9)
}

// causes counts the events of a kind whose cause says so.
func causes(operator *kilntest.Account, kind, what string) (n int) {
	for _, e := range operator.Events("kind=" + kind) {
		if strings.Contains(e.Cause, what) {
			n++
		}
	}
	return n
}

// While new accounts ask for Python, several at once, Python's part of the warming pool grows and Node.js's is at its
// minimum; when they ask for Node.js instead it is the other way round. // R64
func TestMixOfTheWarmingPoolShifts(t *testing.T) {
	kilntest.NeedContainer(t)
	s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"warming.instances": "1", "instances.max": "64",
		"warming.window": "6s", "warming.release": "1s", "instances.shapes": small, "surge.second": "1"}})
	operator := s.Operator(t)
	for _, turn := range [][2]string{{"python", "node"}, {"node", "python"}} {
		accounts := newcomers(t, s, turn[0], 20)
		grown := false
		for group := range slices.Chunk(accounts, 4) {
			arrive(t, group)
			for _, a := range group {
				operator.EndInstances(a.ID)
			}
			grown = grown || operator.WarmingPool(turn[0]).Target >= 3
		}
		if !grown {
			t.Errorf("four new accounts at a time asked for %s: %+v", turn[0], operator.WarmingPool(turn[0]))
		}
		eventually(t, operator, turn[1], 1, 1)
	}
	eventually(t, operator, "python", 1, 1)
	eventually(t, operator, "node", 1, 1)
}

// held is one execution under way.
type held struct {
	id    int
	ended chan *kilntest.Answer
}

// hold starts an execution that sleeps.
func hold(t *testing.T, a *kilntest.Account, id, millis int) held {
	return holdOf(t, a, "held", id, millis)
}

func holdOf(t *testing.T, a *kilntest.Account, function string, id, millis int) held {
	h := held{id, make(chan *kilntest.Answer, 1)}
	go func() {
		answer, err := a.TryInvoke(kilntest.Invocation{Function: function, Payload: fmt.Sprintf(`{"sleepMs":%d,"id":%d}`, millis, id)})
		if err != nil {
			t.Error(err)
		}
		h.ended <- answer
	}()
	return h
}

// Four instances, each with one long execution, are more than is needed: one is chosen while it executes; new requests run
// on the others, though it has more room; its execution answers what it was asked, from the instance it began on; then the
// instance is gone. // R65
func TestConsolidationLetsAnExecutingInstanceEnd(t *testing.T) {
	kilntest.NeedContainer(t)
	s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"instances.shapes": small, "consolidation.after": "2s",
		"fleet.enter": "1000000"}})
	operator, a := s.Operator(t), s.NewAccount(t)
	for _, name := range []string{"held", "filler"} {
		f := kilntest.Probe(t, "python", name)
		f.MemoryMiB, f.TimeoutSeconds = 128, 120
		a.Deploy(f)
	}
	var long []held
	for group := range 4 { // four executions of 128 MiB fill an instance; they are ended when all are there
		long = append(long, hold(t, a, 10*group, 45_000))
		for i := range 3 {
			holdOf(t, a, "filler", 10*group+1+i, 100_000)
		}
		kilntest.Eventually(t, 30*time.Second, func() error {
			if n := len(operator.Containers("account="+a.ID, "state=busy")); n < 4*group+4 {
				return fmt.Errorf("%d are busy", n)
			}
			return nil
		})
	}
	for _, c := range operator.Containers("account="+a.ID, "function=filler") {
		operator.EndContainer(c.ID)
	}
	before := operator.Instances("account=" + a.ID)
	var drain kilntest.Event
	kilntest.Eventually(t, 30*time.Second, func() error {
		for _, e := range operator.Events("kind=instance.drain") {
			if strings.HasPrefix(e.Cause, "consolidation") {
				drain = e
				return nil
			}
		}
		return fmt.Errorf("no instance was chosen of %+v", operator.Instances("account="+a.ID))
	})
	chosen := slices.IndexFunc(before, func(i kilntest.Instance) bool { return i.ID == drain.Instance })
	if chosen < 0 {
		t.Fatalf("%s was chosen, which was not there: %+v", drain.Instance, before)
	}
	boot := before[chosen].BootID
	for range 6 {
		if f := a.Invoke(kilntest.Invocation{Function: "held"}).Facts(); f.MachineID == boot {
			t.Errorf("a new request ran on the instance that was chosen to end")
		}
	}
	onChosen := 0
	for _, h := range long {
		answer := <-h.ended
		if answer == nil {
			continue
		}
		f, err := answer.TryFacts()
		if err != nil {
			t.Errorf("execution %d: %v", h.id, err)
			continue
		}
		if !strings.Contains(string(answer.Body), fmt.Sprintf(`"id": %d`, h.id)) {
			t.Errorf("execution %d answered %s", h.id, answer.Body)
		}
		if f.MachineID == boot {
			onChosen++
			if kilntest.Seconds(drain.Time) < f.BeganAt || drain.Time.After(answer.Got) {
				t.Errorf("it was chosen at %s, not while execution %d ran", drain.Time, h.id)
			}
		}
	}
	if onChosen != 1 {
		t.Errorf("%d of the long executions ran on the instance that was chosen", onChosen)
	}
	kilntest.Eventually(t, 10*time.Second, func() error {
		if _, there := byBoot(t, operator.Instances(), boot); there {
			return fmt.Errorf("the chosen instance is still there")
		}
		return nil
	})
}

// Under load the operator turns the target up and down and sets a minimum: the warm instances follow, none of the requests
// fails, and consolidation, which goes on meanwhile, takes none of them. What is taken back is as configured. // R66
func TestKnobsUnderLoad(t *testing.T) {
	kilntest.NeedContainer(t)
	s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"instances.shapes": small, "consolidation.after": "1s",
		"warming.release": "1s", "warming.instances": "1"}})
	operator, a := s.Operator(t), s.NewAccount(t)
	a.Probe("python", "loaded")
	ctx, stop := context.WithCancel(context.Background())
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for ctx.Err() == nil {
				if answer, err := a.TryInvoke(kilntest.Invocation{Function: "loaded", Payload: `{"sleepMs":20}`}); err != nil || answer.Status != 200 {
					t.Errorf("under load: %v %v", err, answer)
					return
				}
			}
		})
	}
	defer load.Wait()
	defer stop()
	pool := operator.WarmingPool("python").ID
	kiln := func(args ...string) {
		t.Helper()
		limited, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if out, err := operator.Command(limited, args...).CombinedOutput(); err != nil {
			t.Fatalf("kiln %v: %v\n%s", args, err, out)
		}
	}
	kiln("pool", "set", pool, "--target", "4")
	eventually(t, operator, "python", 4, 4)
	kiln("pool", "set", pool, "--target", "2")
	eventually(t, operator, "python", 2, 2)
	kiln("pool", "reset", pool)
	kiln("pool", "set", pool, "--minimum", "3", "--maximum", "3")
	eventually(t, operator, "python", 3, 3)
	for range 20 {
		if n := len(running(t, operator, "python")); n != 3 {
			t.Fatalf("%d warm instances of a minimum of 3", n)
		}
	}
	kiln("pool", "reset", pool)
	eventually(t, operator, "python", 1, 2)
	if p := operator.WarmingPool("python"); p.Target > 2 {
		t.Errorf("reset: %+v", p)
	}
}

// Instances kept for one account stand warm beside the common ones; another account's first requests leave them alone; the
// account's own run on them, told by the boot id. What it asks for beyond them is throttled with a reason of AWS's, or with
// spill-over runs on a common instance. // R35
func TestInstancesKeptForAnAccount(t *testing.T) {
	kilntest.NeedContainer(t)
	s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"instances.shapes": small, "wait.max": "2s", "warming.instances": "1",
		"fleet.enter": "1000000"}})
	operator, kept, other := s.Operator(t), s.NewAccount(t), newcomers(t, s, "python", 2)
	f := kilntest.Probe(t, "python", "held")
	f.MemoryMiB, f.TimeoutSeconds = 512, 60 // a whole instance
	kept.Deploy(f)
	_, configuration, _ := strings.Cut(operator.WarmingPool("python").ID, "/warming/")
	dedicate := func(more ...string) {
		t.Helper()
		limited, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		args := append([]string{"pool", "dedicate", kept.ID, "--configuration", configuration, "--instances", "1"}, more...)
		if out, err := operator.Command(limited, args...).CombinedOutput(); err != nil {
			t.Fatalf("kiln %v: %v\n%s", args, err, out)
		}
	}
	common := running(t, operator, "python")
	dedicate()
	eventually(t, operator, "python", 2, 2)
	var own kilntest.Instance
	for _, i := range operator.Instances("fleet=low-volume") {
		if i.Holds("python") && !slices.Contains(common, i.ID) {
			own = i
		}
	}
	for _, a := range other {
		if boot := a.Invoke(kilntest.Invocation{Function: "new"}).Facts().MachineID; boot == own.BootID {
			t.Errorf("account %s ran on the instance kept for %s", a.ID, kept.ID)
		}
	}
	first := hold(t, kept, 1, 8000)
	kilntest.Eventually(t, 10*time.Second, func() error {
		if len(operator.Containers("account="+kept.ID, "state=busy")) != 1 {
			return fmt.Errorf("its first execution has not begun")
		}
		return nil
	})
	body := kept.Invoke(kilntest.Invocation{Function: "held"}).Refused(429, "TooManyRequestsException")
	if reason := fmt.Sprint(body["Reason"]); !slices.Contains(reasons, reason) {
		t.Errorf("reason %q is none of AWS's", reason)
	}
	dedicate("--spill-over")
	if boot := kept.Invoke(kilntest.Invocation{Function: "held"}).Facts().MachineID; boot == own.BootID || boot == "" {
		t.Errorf("beyond its own, with spill-over, it ran on %q; its own is %q", boot, own.BootID)
	}
	if answer := <-first.ended; answer == nil || answer.Facts().MachineID != own.BootID {
		t.Errorf("its first did not run on the instance kept for it")
	}
}

package rows

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kiln/test/kilntest"
)

// First choice: the idle container that already holds the version. The process counts on, the marker it left is there,
// and the package was fetched once. // R23
func TestIdleContainerIsUsedAgain(t *testing.T) {
	languages(t, func(t *testing.T, language string) {
		a := account(t)
		name := a.Probe(language, "again")
		first := a.Invoke(kilntest.Invocation{Function: name, Payload: `{"marker":"left by the first"}`}).Facts()
		for n := 2; n <= 4; n++ {
			answer := a.Invoke(kilntest.Invocation{Function: name})
			f := answer.Facts()
			sameContainer(t, first, f)
			if f.Count != n || f.Marker != "left by the first" {
				t.Errorf("execution %d: counter %d, marker %q", n, f.Count, f.Marker)
			}
			if answer.Path() != "container" || answer.Container() != f.Hostname {
				t.Errorf("execution %d: path %s, container %s; it ran in %s", n, answer.Path(), answer.Container(), f.Hostname)
			}
		}
		if fetches := kinds(a.Events("function="+name), "code.fetch"); len(fetches) != 1 {
			t.Errorf("the package was fetched %d times: %+v", len(fetches), fetches)
		}
	})
}

// Second choice: the instance that holds the code. When only the container is lost, the same instance makes another one
// with no fetch and no attach, also while the code store is out of reach. // R24
func TestInstanceWithTheCodeMakesAnotherContainer(t *testing.T) {
	languages(t, func(t *testing.T, language string) {
		a := account(t)
		operator := a.Server.Operator(t)
		name := a.Probe(language, "cached")
		first := a.Invoke(kilntest.Invocation{Function: name}).Facts()
		for _, cut := range []bool{false, true} {
			moved := len(kinds(a.Events("function="+name), "code.fetch", "code.attach"))
			operator.EndContainer(first.Hostname)
			if cut {
				restore := cutStore(t, a.Server.Data)
				defer restore()
			}
			answer := a.Invoke(kilntest.Invocation{Function: name})
			f := answer.Facts()
			sameInstance(t, first, f)
			if f.Count != 1 || f.Marker != "" || answer.Path() != "code-cache" {
				t.Errorf("counter %d, marker %q, path %s", f.Count, f.Marker, answer.Path())
			}
			if now := len(kinds(a.Events("function="+name), "code.fetch", "code.attach")); now != moved {
				t.Errorf("the package moved %d times", now-moved)
			}
			first = f
		}
	})
}

// cutStore takes the code store away until the returned function puts it back, at the end of the test at the latest.
func cutStore(t *testing.T, data string) func() {
	t.Helper()
	store, away := filepath.Join(data, "packages"), filepath.Join(data, "packages-away")
	if err := os.Rename(store, away); err != nil {
		t.Fatalf("cut the code store off: %v", err)
	}
	restore := sync.OnceFunc(func() {
		if err := os.Rename(away, store); err != nil {
			t.Errorf("put the code store back: %v", err)
		}
	})
	t.Cleanup(restore)
	return restore
}

// Code is found by its identifier over all instances of the account: among many with room it lands on the one that holds
// it, for as long as that one has room, and elsewhere only then. // R25
func TestCodeIsFoundOverAllInstances(t *testing.T) {
	kilntest.NeedContainer(t)
	s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"instances.shapes": `[{"memory":256,"cpus":1}]`,
		"instances.max": "16", "warming.instances": "1"}})
	a, operator := s.NewAccount(t), s.Operator(t)
	const others = 6
	for n := range others {
		a.Probe("python", fmt.Sprintf("other-%d", n)) // 256 MiB: one fills an instance
	}
	x := kilntest.Probe(t, "python", "x")
	x.MemoryMiB = 128
	a.Deploy(x)
	filled := map[string]bool{}
	for _, f := range atOnce(t, others, func(n int) (*kilntest.Answer, error) {
		return a.TryInvoke(kilntest.Invocation{Function: fmt.Sprintf("other-%d", n), Payload: `{"sleepMs":500}`})
	}) {
		filled[f.MachineID] = true
	}
	if len(filled) != others {
		t.Fatalf("%d functions that fill an instance each ran on %d instances", others, len(filled))
	}
	home := a.Invoke(kilntest.Invocation{Function: "x"}).Facts()
	if filled[home.MachineID] {
		t.Fatal("x ran on an instance that was full")
	}
	// Now the others have room, as much as x's own or more.
	for _, c := range operator.Containers("account=" + a.ID) {
		if strings.HasPrefix(c.Function, "other-") && c.Function != "other-0" {
			operator.EndContainer(c.ID)
		}
	}
	operator.EndContainer(home.Hostname)
	answer := a.Invoke(kilntest.Invocation{Function: "x"})
	if f := answer.Facts(); f.MachineID != home.MachineID || answer.Path() != "code-cache" {
		t.Errorf("x landed by %s on %s; its code is on %s", answer.Path(), f.MachineID, home.MachineID)
	}
	places := map[string]int{}
	for _, f := range atOnce(t, 4, func(int) (*kilntest.Answer, error) {
		return a.TryInvoke(kilntest.Invocation{Function: "x", Payload: `{"sleepMs":1500}`})
	}) {
		places[f.MachineID]++
	}
	if places[home.MachineID] < 2 {
		t.Errorf("x's instance has room for two; of four at once %d ran there: %v", places[home.MachineID], places)
	}
}

// atOnce makes n requests at once and demands that each succeeds.
func atOnce(t *testing.T, n int, request func(n int) (*kilntest.Answer, error)) []kilntest.Facts {
	t.Helper()
	facts := make([]kilntest.Facts, n)
	failed := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			answer, err := request(i)
			if err == nil {
				facts[i], err = answer.TryFacts()
			}
			failed[i] = err
		})
	}
	all.Wait()
	if err := errors.Join(failed...); err != nil {
		t.Fatal(err)
	}
	return facts
}

// Third choice: another instance of the account with room. A second function of the account runs beside the first, and
// no warm instance is touched. // R26
func TestAccountsOwnInstanceComesBeforeAWarmOne(t *testing.T) {
	languages(t, func(t *testing.T, language string) {
		a := account(t)
		operator := a.Server.Operator(t)
		first := a.Invoke(kilntest.Invocation{Function: a.Probe(language, "first")}).Facts()
		name := a.Probe(language, "second")
		waitWarm(t, operator, runtimeWord(language))
		before := settled(t, operator)
		answer := a.Invoke(kilntest.Invocation{Function: name})
		f := answer.Facts()
		sameInstance(t, first, f)
		if answer.Path() != "account-instance" {
			t.Errorf("path %s", answer.Path())
		}
		if f.MemoryLimit < 256<<20 {
			t.Errorf("256 MiB asked for, the code reads %d", f.MemoryLimit>>20)
		}
		if now := settled(t, operator); !slices.Equal(before, now) {
			t.Errorf("the warming pool was %v and is %v", before, now)
		}
	})
}

// runtimeWord is how instances name a probe's language.
func runtimeWord(language string) string {
	if language == "go" {
		return "provided"
	}
	return language
}

// settled gives the ids of the warm instances once none is booting.
func settled(t *testing.T, operator *kilntest.Account) []string {
	t.Helper()
	var ids []string
	kilntest.Eventually(t, 20*time.Second, func() error {
		ids = nil
		for _, i := range warm(operator.Instances()) {
			if i.State != "warm" {
				return fmt.Errorf("%s is %s", i.ID, i.State)
			}
			ids = append(ids, i.ID)
		}
		return nil
	})
	slices.Sort(ids)
	return ids
}

// Code comes to the instance by the node, not by a network of the function's: the first execution of new code works in a
// container that has a loopback and nothing else. // R27
func TestCodeNeedsNoNetwork(t *testing.T) {
	languages(t, func(t *testing.T, language string) {
		a := account(t)
		f := a.Invoke(kilntest.Invocation{Function: a.Probe(language, "alone")}).Facts()
		if f.Interfaces != "lo" {
			t.Errorf("the code sees the interfaces %q", f.Interfaces)
		}
	})
}

// Fourth choice: an instance of the warming pool. The first request of a new account runs on one that was listed as
// nobody's, in a process older than the request, and from then on it is the account's. // R28
func TestNewAccountGetsAWarmInstance(t *testing.T) {
	languages(t, func(t *testing.T, language string) {
		a := account(t)
		operator := a.Server.Operator(t)
		name := a.Probe(language, "newcomer")
		before := warm(waitWarm(t, operator, runtimeWord(language)))
		answer := a.Invoke(kilntest.Invocation{Function: name})
		f := answer.Facts()
		i, ok := byBoot(t, before, f.MachineID)
		if !ok {
			t.Fatalf("it ran on %s, which was not warm before: %+v", f.MachineID, before)
		}
		if f.ProcessAt > kilntest.Seconds(answer.Sent)+slack.Seconds() || !i.BootedAt.Before(answer.Sent) {
			t.Errorf("the process began %.3f s after the request was sent, the instance was booted at %s", f.ProcessAt-kilntest.Seconds(answer.Sent), i.BootedAt)
		}
		if f.LoadedAt < kilntest.Seconds(answer.Sent) {
			t.Errorf("its code was loaded %.3f s before the request", kilntest.Seconds(answer.Sent)-f.LoadedAt)
		}
		if answer.Path() != "warming-pool" || answer.Instance() != i.ID {
			t.Errorf("path %s, instance %s; the boot id is that of %s", answer.Path(), answer.Instance(), i.ID)
		}
		now, ok := byBoot(t, operator.Instances(), f.MachineID)
		if !ok || now.Pool != "active" || now.Account != a.ID {
			t.Errorf("afterwards it is %+v", now)
		}
	})
}

// Registering loads nothing: no unpacked file of the package is anywhere in the data directory until the first invoke,
// which fetches it once. // R31
func TestRegisteringLoadsNothing(t *testing.T) {
	a := account(t)
	mark := "mark-" + strings.ToLower(t.Name()) + "-" + a.ID
	f := kilntest.Probe(t, "python", "unloaded")
	f.Files[mark] = []byte("here")
	a.Deploy(f)
	if found := unpacked(t, a.Server.Data, mark); len(found) != 0 {
		t.Errorf("after create the package is unpacked in %v", found)
	}
	if moves := kinds(a.Events("function="+f.Name), "code.fetch", "code.attach"); len(moves) != 0 {
		t.Errorf("after create the package moved: %+v", moves)
	}
	for range 3 {
		a.Invoke(kilntest.Invocation{Function: f.Name}).OK()
	}
	if found := unpacked(t, a.Server.Data, mark); len(found) != 1 {
		t.Errorf("after three invokes the package is unpacked in %d places of the data directory: %v", len(found), found)
	}
	if fetches := kinds(a.Events("function="+f.Name), "code.fetch"); len(fetches) != 1 {
		t.Errorf("after three invokes the package was fetched %d times", len(fetches))
	}
}

// unpacked finds files of a name under a folder.
func unpacked(t *testing.T, folder, name string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		if err == nil && e.Name() == name {
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// The order is assign, fetch, attach, bind, each once; and the code, by its own clock, was loaded after the assignment.
// // R32
func TestAssignThenDownloadThenBind(t *testing.T) {
	languages(t, func(t *testing.T, language string) {
		a := account(t)
		operator := a.Server.Operator(t)
		name := a.Probe(language, "ordered")
		waitWarm(t, operator, runtimeWord(language))
		answer := a.Invoke(kilntest.Invocation{Function: name})
		f := answer.Facts()
		var order []string
		var assigned time.Time
		for _, e := range kinds(operator.Events(), "instance.assign", "code.fetch", "code.attach", "container.bind") {
			if e.Account != a.ID && e.Instance != answer.Instance() {
				continue
			}
			order = append(order, e.Kind)
			if e.Kind == "instance.assign" {
				assigned = e.Time
			}
			if e.RequestID != answer.RequestID() {
				t.Errorf("%s is of request %q, not of %s", e.Kind, e.RequestID, answer.RequestID())
			}
		}
		if want := []string{"instance.assign", "code.fetch", "code.attach", "container.bind"}; !slices.Equal(order, want) {
			t.Errorf("the order was %v, want %v", order, want)
		}
		if kilntest.Seconds(assigned) > f.LoadedAt || assigned.Before(answer.Sent.Add(-time.Millisecond)) {
			t.Errorf("sent %.6f, assigned %.6f, code loaded %.6f", kilntest.Seconds(answer.Sent), kilntest.Seconds(assigned), f.LoadedAt)
		}
	})
}

// A hundred first hits at once on code of a millisecond: none fails, each ran once, and no more than sixteen containers
// were started. // R37
func TestHundredFirstHits(t *testing.T) {
	languages(t, func(t *testing.T, language string) {
		a := account(t)
		name := a.Probe(language, "rush")
		facts := atOnce(t, 100, func(int) (*kilntest.Answer, error) {
			return a.TryInvoke(kilntest.Invocation{Function: name, Payload: `{"sleepMs":1}`})
		})
		executions := map[string]bool{}
		hosts := map[string]bool{}
		for _, f := range facts {
			hosts[f.Hostname] = true
			executions[fmt.Sprintf("%s %d", f.Hostname, f.Count)] = true
		}
		if len(executions) != 100 {
			t.Errorf("100 answers are of %d executions", len(executions))
		}
		if len(hosts) > 16 {
			t.Errorf("%d containers ran for them", len(hosts))
		}
		if bound := kinds(a.Events("function="+name), "container.bind"); len(bound) > 16 {
			t.Errorf("%d containers were bound for them", len(bound))
		}
	})
}

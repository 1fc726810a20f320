package rows

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln/test/kilntest"
)

// restless is a function with a thread that runs on after the answer: it counts to a file, and measures the longest time in
// which it did not run.
const restless = `
import os, socket, threading, time
longest = 0.0
executions = 0
def run():
    global longest
    last = time.monotonic()
    with open("/tmp/counter", "w", buffering=1) as f:
        while True:
            time.sleep(0.01)
            now = time.monotonic()
            longest, last = max(longest, now - last), now
            f.write("x\n")
threading.Thread(target=run, daemon=True).start()
def handler(event, context):
    global longest, executions
    executions += 1
    time.sleep(0.1) # the thread sees how long it slept
    stood, longest = longest, 0.0
    return {"counted": os.path.getsize("/tmp/counter") // 2, "stood": stood, "executions": executions,
            "hostname": socket.gethostname()}
`

type restlessFacts struct {
	Counted    int
	Stood      float64 // seconds
	Executions int
	Hostname   string
}

func restlessFunction(name string) kilntest.Function {
	return kilntest.Function{Name: name, Runtime: kilntest.PythonRuntime, Handler: "app.handler", MemoryMiB: 128, TimeoutSeconds: 30,
		Files: map[string][]byte{"app.py": []byte(restless)}}
}

func restlessAnswer(a *kilntest.Account, name string) (f restlessFacts) {
	answer := a.Invoke(kilntest.Invocation{Function: name})
	answer.OK()
	answer.JSON(&f)
	return f
}

// A thread that the function left running stands still between its executions, by the function's own monotonic clock, and
// goes on in the next, in the same process; with pause.after 0 it never stands still. Meanwhile the container is not taken
// for a broken one, and when it is killed nothing of it stays.
func TestNothingRunsBetweenExecutions(t *testing.T) {
	kilntest.NeedContainer(t)
	const waited = 9 * time.Second
	for _, after := range []string{"1s", "0s"} {
		s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"pause.after": after, "health.interval": "100ms", "retention.policy": "fixed"}})
		a := s.Operator(t)
		a.Deploy(restlessFunction("restless"))
		first := restlessAnswer(a, "restless")
		<-time.After(waited)
		second := restlessAnswer(a, "restless")
		if second.Hostname != first.Hostname || second.Executions != 2 {
			t.Errorf("pause.after %s: execution %d in %s, the first was in %s", after, second.Executions, second.Hostname, first.Hostname)
		}
		if stood := time.Duration(second.Stood * float64(time.Second)); (after == "1s") != (stood > waited/2) {
			t.Errorf("pause.after %s: of %s the thread stood still for %s, and counted %d", after, waited, stood, second.Counted-first.Counted)
		}
		if after == "0s" {
			continue
		}
		kilntest.Eventually(t, 30*time.Second, func() error {
			for _, c := range a.Containers() {
				if c.ID == second.Hostname && c.State == "paused" {
					return nil
				}
			}
			return fmt.Errorf("containers %+v", a.Containers())
		})
		pids := s.Bearing(second.Hostname)
		a.Do(kilntest.Call{Method: "DELETE", Path: "/kiln/v1/containers/" + second.Hostname}).OK()
		kilntest.Eventually(t, 30*time.Second, func() error {
			if left := s.Bearing(second.Hostname); len(left) > 0 || len(pids) == 0 {
				return fmt.Errorf("before its end %v, now %v", pids, left)
			}
			return nil
		})
	}
}

// Of two functions that were last called at the same moment, the one that was called in several minutes keeps its container
// over the next minute and the one called once does not: the process of the first counts on, that of the second is a new
// one. The event tells the volume, and so does kiln explain. // R40
func TestVolumeDecidesWhatIsKept(t *testing.T) {
	kilntest.NeedContainer(t)
	if testing.Short() {
		t.Skip("this takes minutes")
	}
	s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"retention.worth": "18"}})
	a := s.Operator(t)
	a.Deploy(restlessFunction("frequent"))
	a.Deploy(restlessFunction("rare"))
	minutes, calls := map[int64]bool{}, 0
	var last restlessFacts
	// The last calls come early in a minute: what is decided in it, some seconds later, is of the next.
	for len(minutes) < 3 || time.Now().Second() > 40 {
		if len(minutes) > 0 {
			<-time.After(5 * time.Second)
		}
		last = restlessAnswer(a, "frequent")
		calls++
		minutes[time.Now().Unix()/60] = true
	}
	rare := restlessAnswer(a, "rare")
	now := time.Now()
	<-time.After(now.Truncate(time.Minute).Add(80 * time.Second).Sub(now)) // into the next minute
	after, again := restlessAnswer(a, "frequent"), restlessAnswer(a, "rare")
	if after.Hostname != last.Hostname || after.Executions != calls+1 {
		t.Errorf("the frequent one: execution %d in %s after %d in %s", after.Executions, after.Hostname, calls, last.Hostname)
	}
	if again.Hostname == rare.Hostname || again.Executions != 1 {
		t.Errorf("the rare one: execution %d in %s, which was there before", again.Executions, again.Hostname)
	}
	told := slices.ContainsFunc(kinds(a.Events(), "container.terminate"), func(e kilntest.Event) bool {
		return e.Container == rare.Hostname && strings.HasPrefix(e.Cause, "1 request in the last hour; ")
	})
	if !told {
		t.Errorf("no event tells the volume: %+v", kinds(a.Events(), "container.terminate"))
	}
	out, err := s.CLI("explain", "frequent", "--data", s.Data)
	if err != nil || !strings.HasPrefix(string(out), "It is kept warm now: 1 container") || !strings.Contains(string(out), " requests in the last hour; ") {
		t.Errorf("kiln explain: %v %s", err, out)
	}
}

// What is known of a function's requests is known after kill -9 and a start: from the records.
func TestVolumeIsKnownAfterAKill(t *testing.T) {
	kilntest.NeedContainer(t)
	s := kilntest.Start(t, kilntest.Options{})
	a := s.Operator(t)
	a.Deploy(restlessFunction("known"))
	for range 7 {
		restlessAnswer(a, "known")
	}
	kilntest.Eventually(t, 10*time.Second, func() error { // records are on disk within 100 ms
		if n := len(a.Executions("function=known")); n != 7 {
			return fmt.Errorf("%d records", n)
		}
		return nil
	})
	<-time.After(time.Second)
	s.Kill(t)
	s.Restart(t)
	kilntest.Eventually(t, time.Minute, func() error {
		out, err := s.CLI("explain", "known", "--data", s.Data)
		if err != nil || !strings.Contains(out, "there were 7 requests in the last hour") && !strings.Contains(out, "there were 6 requests in the last hour") {
			return fmt.Errorf("%v %s", err, out)
		}
		return nil
	})
}

package rows

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"kiln/test/kilntest"
)

// severalRuns is a function in each language that declares five executions at once; the compiled one uses AWS's own client.
func severalRuns(t *testing.T, language string) kilntest.Function {
	t.Helper()
	f := kilntest.Function{Name: "several", Runtime: kilntest.ProvidedRuntime, Handler: "bootstrap", MemoryMiB: 512, TimeoutSeconds: 30}
	if language == "go" {
		f.Files = map[string][]byte{"bootstrap": kilntest.GoGuest(t, "awsgo")}
	} else {
		f = kilntest.Probe(t, language, "several")
	}
	f.Tags = map[string]string{"kiln:concurrency": "5"}
	return f
}

// Where a version declares it, executions at the same time share a container: five sleepers are on one host and overlap by
// their own clocks, in one process or, with Python, in one each; the log and the record of each are its own. A sixth has
// another container, and so have all once nothing is declared. // R43
func TestDeclaredExecutionsShareAContainer(t *testing.T) {
	languages(t, func(t *testing.T, language string) {
		a := account(t)
		f := severalRuns(t, language)
		a.Deploy(f)
		hosts, pids := map[string]int{}, map[int]bool{}
		var lastBegan, firstEnded float64
		tails := make([]string, 5)
		for _, p := range atOnce(t, 5, func(i int) (*kilntest.Answer, error) {
			answer, err := a.TryInvoke(kilntest.Invocation{Function: f.Name, Payload: fmt.Sprintf(`{"sleepMs":4000,"print":"line of %d"}`, i), Tail: true})
			if err == nil {
				var tail []byte
				tail, err = base64.StdEncoding.DecodeString(answer.Header.Get("X-Amz-Log-Result"))
				tails[i] = string(tail)
			}
			return answer, err
		}) {
			hosts[p.Hostname]++
			pids[p.Pid] = true
			lastBegan = max(lastBegan, p.BeganAt)
			if firstEnded == 0 || p.EndedAt < firstEnded {
				firstEnded = p.EndedAt
			}
		}
		if len(hosts) != 1 {
			t.Errorf("five sleepers in containers %v", hosts)
		}
		if lastBegan >= firstEnded {
			t.Errorf("the last began %.3f s after the first had ended", lastBegan-firstEnded)
		}
		if want := map[string]int{"python": 5}[language]; len(pids) != max(want, 1) {
			t.Errorf("%d processes", len(pids))
		}
		if language == "python" { // whose bootstrap marks what is printed
			for i, tail := range tails {
				if !strings.Contains(tail, fmt.Sprintf("line of %d\n", i)) || strings.Count(tail, "line of") != 1 || strings.Contains(tail, "\x1e") {
					t.Errorf("the tail of %d: %q", i, tail)
				}
			}
		}
		containers := map[string]bool{}
		for _, e := range a.Executions("function=" + f.Name) {
			containers[e.Container] = true
		}
		if len(containers) != 1 {
			t.Errorf("records tell of containers %v", containers)
		}
		clear(hosts)
		for _, p := range atOnce(t, 6, func(int) (*kilntest.Answer, error) {
			return a.TryInvoke(kilntest.Invocation{Function: f.Name, Payload: `{"sleepMs":4000}`})
		}) {
			hosts[p.Hostname]++
		}
		if len(hosts) != 2 {
			t.Errorf("six sleepers in containers %v", hosts)
		}
		for host, n := range hosts {
			if n > 5 {
				t.Errorf("%d executions at once in %s", n, host)
			}
		}
	})
}

// The end of one execution's time leaves those beside it in the container alone; the container then takes no more, and the
// next request has another. // R43 R44
func TestTimeoutBesideOthers(t *testing.T) {
	a := account(t)
	f := severalRuns(t, "python")
	f.TimeoutSeconds = 6
	a.Deploy(f)
	first := a.Invoke(kilntest.Invocation{Function: f.Name}).Facts()
	done := make(chan *kilntest.Answer, 2)
	for _, ms := range []int{60_000, 4_000} {
		go func() {
			answer, err := a.TryInvoke(kilntest.Invocation{Function: f.Name, Payload: fmt.Sprintf(`{"sleepMs":%d}`, ms)})
			if err != nil {
				t.Error(err)
			}
			done <- answer
		}()
	}
	good, late := <-done, <-done
	if good == nil || late == nil {
		t.FailNow()
	}
	if p := good.Facts(); p.Hostname != first.Hostname {
		t.Errorf("the one beside ran in %s, not %s", p.Hostname, first.Hostname)
	}
	if got := string(late.Body); !strings.Contains(got, "Task timed out after 6.00 seconds") {
		t.Errorf("over its time: %s", got)
	}
	if next := a.Invoke(kilntest.Invocation{Function: f.Name}).Facts(); next.Hostname == first.Hostname {
		t.Error("the container was used after a timeout in it")
	}
}

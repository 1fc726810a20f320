//go:build clock && linux

package clock

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln/test/kilntest"
)

// within bounds what takes seconds, in software emulation.
const within = 2 * time.Minute

// step moves the clock that everybody on the machine reads. Timers of programs go by another one.
func step(t *testing.T, by time.Duration) {
	t.Helper()
	to := unix.NsecToTimespec(time.Now().Add(by).UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &to); err != nil {
		t.Fatal(err)
	}
}

// hours are the steps: in the end the clock is where it would be.
var hours = []time.Duration{time.Hour, -time.Hour, -time.Hour, time.Hour} // never written

// house is a server with two functions: "long" may run for minutes, "short" for five seconds.
type house struct {
	*kilntest.Server
	*kilntest.Account
	t *testing.T
}

func start(t *testing.T, data string) house {
	s := kilntest.Start(t, kilntest.Options{Driver: "process", Data: data})
	return house{s, s.Operator(t), t}
}

// across begins an execution, steps the clock when the code runs, and gives the answer and how long all took by the
// clock that is not stepped.
func (h house) across(function string, sleep time.Duration, by time.Duration) (*kilntest.Answer, time.Duration) {
	h.t.Helper()
	begin := time.Now()
	answers := make(chan *kilntest.Answer, 1)
	go func() {
		answer, err := h.TryInvoke(kilntest.Invocation{Function: function, Payload: fmt.Sprintf(`{"sleepMs": %d}`, sleep.Milliseconds())})
		if err != nil {
			h.t.Error(err)
		}
		answers <- answer
	}()
	kilntest.Eventually(h.t, within, func() error {
		for _, c := range h.Containers("function=" + function) {
			if c.State == "busy" {
				return nil
			}
		}
		return fmt.Errorf("%s does not run yet", function)
	})
	step(h.t, by)
	answer := <-answers
	if answer == nil {
		h.t.FailNow()
	}
	return answer, time.Since(begin)
}

// The clock is stepped by an hour, forwards and back, while functions run and between requests: what runs ends when it would
// have ended, a time limit is the function's own, durations in records and metrics are of seconds, and after a restart in
// what the records take for the past all is there. R101 R102
func TestClockSteps(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	h := start(t, data)
	for name, seconds := range map[string]int{"long": 300, "short": 5} {
		f := kilntest.Probe(t, "python", name)
		f.TimeoutSeconds = seconds
		h.Deploy(f)
		h.Invoke(kilntest.Invocation{Function: name, Payload: `{}`}).OK()
	}
	var ids []string
	for _, by := range hours {
		answer, took := h.across("long", 3*time.Second, by)
		if err := answer.Failure(); err != nil || took < 3*time.Second || took > within {
			t.Errorf("by %s: an execution of 3 s took %s: %v", by, took, err)
		}
		ids = append(ids, answer.RequestID())
		answer, took = h.across("short", within, -by)
		if answer.FunctionError() == "" || !strings.Contains(string(answer.Body), "Task timed out after 5.00 seconds") || took < 5*time.Second || took > within {
			t.Errorf("by %s: an execution with a limit of 5 s took %s: %d %s", -by, took, answer.Status, answer.Body)
		}
		ids = append(ids, answer.RequestID())
		step(t, by)
		ids = append(ids, h.Invoke(kilntest.Invocation{Function: "long", Payload: `{}`}).OK().RequestID())
	}
	for _, id := range ids {
		h.recorded(id)
	}
	h.measured()
	if err := h.Stop(); err != nil {
		t.Error(err)
	}
	step(t, -time.Hour)
	h = start(t, data)
	for _, id := range ids {
		h.recorded(id)
	}
	again := h.Invoke(kilntest.Invocation{Function: "long", Payload: `{}`}).OK().RequestID()
	h.recorded(again)
	listed := map[string]bool{}
	for _, e := range h.Executions() {
		listed[e.RequestID] = true
	}
	for _, id := range append(ids, again) {
		if !listed[id] {
			t.Errorf("execution %s is in no list", id)
		}
	}
}

// recorded demands a record whose durations are of seconds.
func (h house) recorded(id string) {
	h.t.Helper()
	kilntest.Eventually(h.t, within, func() error {
		answer := h.Do(kilntest.Call{Method: http.MethodGet, Path: "/kiln/v1/executions/" + id, Service: "kiln"})
		if answer.Status != http.StatusOK {
			return fmt.Errorf("execution %s: %d %s", id, answer.Status, answer.Body)
		}
		var r struct{ DurationMs, BilledMs, InitMs *float64 }
		if err := json.Unmarshal(answer.Body, &r); err != nil || r.DurationMs == nil || r.BilledMs == nil {
			h.t.Fatalf("execution %s: %v %s", id, err, answer.Body)
		}
		if limit := float64(within.Milliseconds()); *r.DurationMs < 0 || *r.DurationMs > limit || *r.BilledMs < 0 || *r.BilledMs > limit {
			h.t.Errorf("execution %s: %s", id, answer.Body)
		}
		return nil
	})
}

// measured demands that no duration that is published is of an hour, nor below nothing.
func (h house) measured() {
	h.t.Helper()
	res, err := http.Get(h.URL + "/metrics")
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	sums := 0
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		name, text, _ := strings.Cut(lines.Text(), " ")
		if i := strings.Index(name, "}"); i >= 0 {
			name, text, _ = strings.Cut(lines.Text()[i:], " ")
			name = lines.Text()[:i]
		}
		if !strings.Contains(name, "_seconds_sum") || !strings.HasPrefix(name, "kiln_") {
			continue
		}
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			h.t.Fatal(err)
		}
		if sums++; value < 0 || value > (30*time.Minute).Seconds() {
			h.t.Errorf("%s", lines.Text())
		}
	}
	if sums == 0 {
		h.t.Error("no durations are published")
	}
}

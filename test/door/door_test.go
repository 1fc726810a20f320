// Package door looks at a running server as its operator does: the metrics and the dashboard made for them, the bound on
// starts, the log and what must not be in it, and what a full disk changes. Nothing else calls it.
package door

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"kiln/test/kilntest"
)

// names reads /metrics and gives the names of the series there.
func names(t *testing.T, s *kilntest.Server) (map[string]bool, string) {
	t.Helper()
	res, err := http.Get(s.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		if !strings.HasPrefix(line, "#") {
			all[line[:strings.IndexAny(line, "{ ")]] = true
		}
	}
	return all, string(b)
}

// Each series the dashboard shows is one that a running server publishes, after a start beyond its bound, a refusal at
// each door and a throttled one.
func TestDashboard(t *testing.T) {
	s := kilntest.Start(t, kilntest.Options{Driver: "process"})
	operator := s.Operator(t)
	operator.Invoke(kilntest.Invocation{Function: "missing", Payload: `{}`}).Refused(404, "ResourceNotFoundException")
	operator.Do(kilntest.Call{Method: http.MethodGet, Path: "/kiln/v1/executions/none", Service: "kiln"})
	published, _ := names(t, s)
	b, err := os.ReadFile(filepath.Join(kilntest.Root(), "docs", "grafana-dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(b, &dashboard); err != nil {
		t.Fatal(err)
	}
	series, shown := regexp.MustCompile(`\b(kiln|process|go)_[a-z_]+\b`), 0
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			for _, name := range series.FindAllString(target.Expr, -1) {
				if shown++; !published[name] {
					t.Errorf("panel %q shows %s, which is not published", panel.Title, name)
				}
			}
		}
	}
	if shown < 30 {
		t.Errorf("only %d series are shown", shown)
	}
}

// A start beyond the bound of its path is counted in /metrics and leaves an event with its stages.
// R33
func TestStartBound(t *testing.T) {
	s := kilntest.Start(t, kilntest.Options{Driver: "process", Settings: map[string]string{"start.bound.warming-pool": "1us", "start.bound.container": "1m"}})
	operator := s.Operator(t)
	name := operator.Probe("python", "late")
	answer := operator.Invoke(kilntest.Invocation{Function: name, Payload: `{}`}).OK()
	operator.Invoke(kilntest.Invocation{Function: name, Payload: `{}`}).OK()
	events := operator.Events("kind=start.breach")
	if len(events) != 1 || events[0].RequestID != answer.RequestID() || events[0].Container != answer.Container() ||
		!strings.Contains(events[0].Cause, "acquire") || !strings.Contains(events[0].Cause, "deliver") {
		t.Fatalf("breaches: %+v", events)
	}
	_, text := names(t, s)
	for _, line := range []string{`kiln_start_breaches_total{path="warming-pool"} 1`, `kiln_start_breaches_total{path="container"} 0`,
		`kiln_start_bound_seconds{path="container"} 60`, `kiln_start_seconds{path="container",quantile="0.99"}`} {
		if !strings.Contains(text, line) {
			t.Errorf("/metrics lacks %s", line)
		}
	}
}

// The log, at its most talkative, holds no payload, no answer, no line a function printed, no variable of its
// environment and no secret, whatever goes well or wrong.
func TestLogHoldsNoSecrets(t *testing.T) {
	s := kilntest.Start(t, kilntest.Options{Driver: "process", Settings: map[string]string{"log.level": "debug"}})
	operator := s.Operator(t)
	const payload, variable = "payload-4711-sentinel", "variable-4711-sentinel"
	f := kilntest.Probe(t, "python", "quiet")
	f.Environment = map[string]string{"SECRET": variable}
	operator.Deploy(f)
	event := fmt.Sprintf(`{"text": %q}`, payload)
	operator.Invoke(kilntest.Invocation{Function: f.Name, Payload: event, Tail: true}).OK()
	for _, in := range []kilntest.Invocation{
		{Function: f.Name, Payload: `{"broken": ` + payload}, {Function: "missing", Payload: event},
		{Function: f.Name, Payload: event, Secret: "wrong-4711-sentinel"}, {Function: f.Name, Payload: event, Type: payload},
	} {
		if answer := operator.Invoke(in); answer.Status < 400 {
			t.Fatalf("%+v: %d", in, answer.Status)
		}
	}
	log := s.WholeLog()
	if len(log) == 0 {
		t.Fatal("there is no log")
	}
	for _, secret := range []string{payload, variable, operator.Secret, "wrong-4711-sentinel"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds %q:\n%s", secret, log)
		}
	}
}

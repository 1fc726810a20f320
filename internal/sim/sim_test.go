package sim

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/internal/manager"
	"kiln/internal/sim/policy"
	"kiln/internal/trace"
)

// A call is cold when nothing is loaded in its minute; idle minutes are those after a call up to the hit or the end of keeping,
// and none after the trace's end (R67).
func TestPaperCounts(t *testing.T) {
	rows := []struct {
		minutes    int
		called     []int32
		cold, idle int
	}{
		{30, []int32{3}, 1, 10},
		{8, []int32{3}, 1, 4},           // the trace ends
		{30, []int32{3, 13}, 1, 20},     // a hit in the last minute kept: it is idle until then, this minute included
		{30, []int32{3, 14}, 2, 20},     // one minute later it is gone
		{30, []int32{3, 4, 5}, 1, 12},   // hits one after another
		{30, []int32{0, 29}, 2, 10},     // called in the first and in the last minute
		{31, []int32{0, 15, 30}, 3, 20}, // never kept long enough
	}
	for _, row := range rows {
		f := trace.Function{Weight: 1}
		for _, m := range row.called {
			f.Calls = append(f.Calls, trace.Call{Minute: m, Count: 1})
		}
		p := policy.Fixed{Keep: wasteOne}
		if cold, idle := paperFunction(p.Keeper(&f), &f, row.minutes); cold != row.cold || idle != row.idle {
			t.Errorf("called at %v of %d minutes: %d cold, %d idle; want %d and %d", row.called, row.minutes, cold, idle, row.cold, row.idle)
		}
	}
}

// Both modes run every policy on a made trace; one seed is one history; the keys are those promised; the oracle is coldest
// once a function in paper mode and nobody has fewer (R67).
func TestRunEveryPolicy(t *testing.T) {
	tr := trace.Make(5, 25, 90)
	for _, mode := range []string{ModePaper, ModeSystem} {
		o := Options{Trace: tr, Mode: mode, Policies: []string{"all"}, Seed: 3}
		results, err := Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Run(t.Context(), o)
		if err != nil || !reflect.DeepEqual(results, again) {
			t.Errorf("%s: the same seed gave another history (%v)", mode, err)
		}
		if len(results) != len(policy.Names()) {
			t.Errorf("%s: %d results for %d policies", mode, len(results), len(policy.Names()))
		}
		for _, r := range results {
			if r.Requests != tr.Requests() || r.Drops > 0 || r.Waste <= 0 || r.RUM <= 0 {
				t.Errorf("%s: %+v, of %d requests", mode, r, tr.Requests())
			}
			if oracle := results[len(results)-1]; mode == ModePaper && r.Cold < oracle.Cold {
				t.Errorf("%s has %d cold starts, the oracle %d", r.Policy, r.Cold, oracle.Cold)
			}
		}
	}
}

// The keys of a result are those that are promised.
func TestResultKeys(t *testing.T) {
	b, err := json.Marshal(Result{})
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]any
	if err := json.Unmarshal(b, &keys); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"policy", "value", "cold", "requests", "waste", "coldP50App", "coldP75App", "coldP90App",
		"latencyP50Ms", "latencyP99Ms", "idleGBs", "rum", "drops"} {
		if _, there := keys[k]; !there {
			t.Errorf("there is no key %s in %s", k, b)
		}
	}
}

// With each policy a frontier has 20 operating points or more, in both modes for Kiln's own; its picture is an SVG (R67).
func TestFrontier(t *testing.T) {
	tr := trace.Make(6, 8, 60)
	results, err := Run(t.Context(), Options{Trace: tr, Mode: ModePaper, Policies: []string{"kiln", "fixed-10m", "hybrid-4h"}, Frontier: true, Seed: 1})
	if err != nil || len(results) < 60 {
		t.Fatalf("%d points, %v", len(results), err)
	}
	values := map[float64]bool{}
	for _, r := range results {
		if r.Policy == "kiln" {
			values[r.Value] = true
		}
	}
	if len(values) < 20 {
		t.Errorf("kiln has %d operating points", len(values))
	}
	picture := SVG("a < b", results)
	for d := xml.NewDecoder(strings.NewReader(string(picture))); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the picture is no XML: %v", err)
		}
	}
	if strings.Count(string(picture), "<circle") < 60 {
		t.Errorf("%d points are drawn", strings.Count(string(picture), "<circle"))
	}
}

// A request that finds an idle container is warm, whatever it waited for a busy one; a start from the warming pool is cold and
// counted by its path; what is idle is counted from the end of an execution to the next, or to its letting go (R67).
func TestSystemCounts(t *testing.T) {
	second := time.Second
	tr := &trace.Trace{Name: "made", Minutes: 30, Functions: []trace.Function{{
		Name: "f", Weight: 1, MemoryMiB: 1024, Times: []time.Duration{30 * second, 100 * second, 1200 * second},
		Calls:    []trace.Call{{Minute: 0, Count: 1}, {Minute: 1, Count: 1}, {Minute: 20, Count: 1}},
		Duration: trace.Duration{Average: 10 * second, Percentiles: [6]time.Duration{10 * second, 10 * second, 10 * second, 10 * second, 10 * second, 10 * second}},
	}}}
	s := newSystem(tr, 1, manager.Config{Settings: simSettings(10)}, Faults{})
	govern(s, policy.Fixed{Keep: wasteOne}, nil)
	if err := s.play(t.Context()); err != nil {
		t.Fatal(err)
	}
	m := s.meter
	if m.requests != 3 || m.cold() != 2 || m.paths[kiln.PathContainer] != 1 || m.paths[kiln.PathWarmingPool] != 1 {
		t.Errorf("%d requests, %d cold, paths %v", m.requests, m.cold(), m.paths)
	}
	// Idle: 60 s to the second request, 600 s after it, and after the third 590 s to the end of the trace.
	if got := s.functions[0].idleMiBs / 1024; got < 1240 || got > 1255 {
		t.Errorf("%.0f GB-s idle, want about 1,250", got)
	}
	if m.poolMiBs <= 0 || m.idleMiBs < m.poolMiBs {
		t.Errorf("the pool's own is not counted: %g of %g", m.poolMiBs, m.idleMiBs)
	}
}

// Mode and policy are checked before anything is run.
func TestRunMistakes(t *testing.T) {
	tr := trace.Make(1, 2, 10)
	for _, o := range []Options{{Trace: tr, Mode: "fast", Policies: []string{"kiln"}}, {Trace: tr, Mode: ModePaper, Policies: []string{"best"}}} {
		if _, err := Run(t.Context(), o); kiln.KindOf(err) != kiln.KindInvalid {
			t.Errorf("%+v: %v", o.Policies, err)
		}
	}
}

// Shows that numbers that make no sense are refused with what may be said, before anything is fitted or run.
func TestRefusesNonsense(t *testing.T) {
	for _, o := range []Options{{Folds: -1}, {Folds: 1}, {Folds: FoldsMax + 1}, {Instances: -1}} {
		o.Mode = ModePaper
		if _, err := Run(t.Context(), o); kiln.KindOf(err) != kiln.KindInvalid {
			t.Errorf("folds %d, instances %d: %v", o.Folds, o.Instances, err)
		}
	}
}

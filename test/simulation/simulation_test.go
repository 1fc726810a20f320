// Package simulation runs the instance manager through a thousand histories in which everything fails that can, and shows
// that this finds it when a guard of the manager is gone. internal/sim has the simulator.
package simulation

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"kiln/internal/sim"
	"kiln/internal/trace"
	"kiln/test/kilntest"
)

const (
	// hybridCold and hybridWaste are the hybrid histogram's on the trace azure2019_joint8h, in paper mode.
	hybridCold, hybridWaste = 487, 0.877
	// seedsRequired is how many histories are run; KILN_SIM_SEEDS changes it.
	seedsRequired = 1000
	// seedsForGuards is how many may be needed to find a guard gone.
	seedsForGuards = 300
	// seedsVariable names the variable.
	seedsVariable = "KILN_SIM_SEEDS"
	// guardWithin bounds building and running with one guard gone.
	guardWithin = 10 * time.Minute
)

func seeds(t *testing.T) int {
	n := seedsRequired
	if text := os.Getenv(seedsVariable); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s: %v", seedsVariable, err)
		}
	}
	return n
}

// A thousand seeds with failing boots, starts, deletions and pauses, slow stores, crashes, lost instances and nodes, and an
// operator who changes his mind: an accepted execution ends once, nothing is overcommitted, an instance is of one account and
// in one pool, the reserve is left alone, arrivals are the sum of outcomes, and nothing is left (R21 R29 R30 R32 R34 R37 R43 R66).
func TestThousandSeeds(t *testing.T) {
	n, parts := seeds(t), runtime.GOMAXPROCS(0)
	for part := range parts {
		t.Run(fmt.Sprint(part), func(t *testing.T) {
			t.Parallel()
			steps, requests := 0, 0
			for seed := part; seed < n; seed += parts {
				r, err := sim.Try(t.Context(), uint64(seed))
				if err != nil {
					t.Fatal(err)
				}
				steps += r.Steps
				requests += r.Requests
			}
			t.Logf("%d steps, %d requests", steps, requests)
		})
	}
}

// guard is a line that holds something, and what stands there when it is gone.
type guard struct {
	name      string
	file      string
	line, off string
}

func guards() []guard {
	return []guard{
		{"a container is placed only where its memory fits", "internal/placement/placement.go",
			"rooms.fit(need.MemoryMiB)", "rooms.fit(1)"},
		{"an instance's room is its account's", "internal/placement/index.go",
			"return owner{in.Account, in.Configuration.Driver", "return owner{\"account0\", in.Configuration.Driver"},
		{"a warm instance that is taken leaves the pool", "internal/placement/index.go",
			"\tcase spotBooting, spotWarm:\n\t\tin.queue.remove(in)", "\tcase spotBooting, spotWarm:"},
		{"a busy container is idle for nobody", "internal/placement/placement.go",
			"c.code, c.previous, c.next = nil, nil, nil\n\tcode.idle--", "code.first = c"},
		{"the pool is let go down to its target only", "internal/manager/warming.go",
			"surplus := d.Surplus(now, have); surplus > 0", "surplus := d.Surplus(now, have) + 1; surplus > 0"},
		{"no more instances than may be", "internal/manager/group.go",
			"choice.Instance == nil && len(m.instances) >= m.settings.InstancesMax", "choice.Instance == nil && len(m.instances) > m.settings.InstancesMax"},
		{"a request whose caller is gone is answered no more", "internal/manager/group.go",
			"\t\tg.leave(m, r)\n\t\tm.plan(now, g)\n", "\t\tm.plan(now, g)\n"},
		{"who waited for what was lost is decided again", "internal/manager/start.go",
			"\tm.dropped = true\n", ""},
		{"a deleted container's room is taken until nothing of it is left", "internal/manager/container.go",
			"in.give(-c.amounts.MemoryMiB)", "in.give(-2 * c.amounts.MemoryMiB)"},
		{"a paused container runs on before it serves", "internal/manager/container.go",
			"m.unpause(c, r)", "_ = c"},
		{"an instance that drains takes no new work", "internal/placement/index.go",
			"case kiln.InstanceAssigned:\n\t\treturn spotAssigned", "case kiln.InstanceAssigned, kiln.InstanceDraining:\n\t\treturn spotAssigned"},
	}
}

// Each guard switched off is found by the simulation: the manager is built without it, and the seeds are run (R21 R29 R30 R34).
func TestGuards(t *testing.T) {
	if os.Getenv(seedsVariable) != "" {
		t.Skip("called by itself")
	}
	for _, g := range guards() {
		t.Run(strings.ReplaceAll(g.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			out, err := without(t, g)
			if err == nil {
				t.Fatalf("%d seeds do not notice that it is gone:\n%s", seedsForGuards, out)
			}
			if !strings.Contains(out, "seed ") {
				t.Fatalf("it failed otherwise than by a seed: %v\n%s", err, out)
			}
			t.Logf("%s", found(out))
		})
	}
}

// without runs the seeds with a guard gone.
func without(t *testing.T, g guard) (string, error) {
	root := kilntest.Root()
	file := filepath.Join(root, g.file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), g.line) != 1 {
		t.Fatalf("%s has not, or not once, the line that is to be switched off:\n%s\nIf it moved, say here where to.", g.file, g.line)
	}
	dir := t.TempDir()
	changed, overlay := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json")
	list, err := json.Marshal(map[string]map[string]string{"Replace": {file: changed}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{changed: []byte(strings.Replace(string(text), g.line, g.off, 1)), overlay: list} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), guardWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-count", "1", "-vet", "off", "-overlay", overlay, "-run", "^TestThousandSeeds$", "./test/simulation")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", seedsVariable, seedsForGuards))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// found gives the line that says what a seed found.
func found(out string) string {
	for line := range strings.Lines(out) {
		if strings.Contains(line, "seed ") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// Kiln's own policy, never fitted on a function that is scored, has at least 30 % fewer cold starts than the hybrid histogram
// at its waste, and at most 0.77 of its waste at its number of cold starts (R40 R67).
func TestKilnBeatsTheHybridHistogram(t *testing.T) {
	tr := public(t, "azure2019_joint8h")
	results, err := sim.Run(t.Context(), sim.Options{Trace: tr, Mode: sim.ModePaper, Policies: []string{"kiln"}, Frontier: true, Folds: 5, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	cold := between(results, func(r sim.Result) (float64, float64) { return r.Waste, float64(r.Cold) }, hybridWaste)
	if !(cold <= 0.7*hybridCold) {
		t.Errorf("%.0f cold starts at waste %g, want %.0f at most", cold, hybridWaste, 0.7*hybridCold)
	}
	waste := between(results, func(r sim.Result) (float64, float64) { return -float64(r.Cold), r.Waste }, -hybridCold)
	if !(waste <= 0.77*hybridWaste) {
		t.Errorf("waste %.3f at %d cold starts, want %.3f at most", waste, hybridCold, 0.77*hybridWaste)
	}
	t.Logf("%.0f cold starts at waste %g, waste %.3f at %d cold starts", cold, hybridWaste, waste, hybridCold)
}

// between gives y at x on the line through the results, which go up in x; not a number when they do not reach it.
func between(results []sim.Result, of func(sim.Result) (x, y float64), x float64) float64 {
	for i := 1; i < len(results); i++ {
		x0, y0 := of(results[i-1])
		x1, y1 := of(results[i])
		if x0 <= x && x <= x1 && x1 > x0 {
			return y0 + (y1-y0)*(x-x0)/(x1-x0)
		}
	}
	return math.NaN()
}

// public reads a public trace, or skips the test loudly: it is not part of the repository.
func public(t *testing.T, name string) *trace.Trace {
	t.Helper()
	dir := cmp.Or(os.Getenv("KILN_TRACES"), filepath.Join(kilntest.Root(), "..", "shared", "traces"))
	tr, err := trace.Open(filepath.Join(dir, name+".csv.gz"))
	if err != nil {
		t.Skipf("SKIPPED: the public trace %s is not there (%v); set KILN_TRACES to its folder to run this", name, err)
	}
	return tr
}

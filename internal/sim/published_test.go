package sim

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"kiln/internal/sim/policy"
	"kiln/internal/trace"
)

// tracesDir gives the folder of the public traces: KILN_TRACES, otherwise ../shared/traces beside the repository.
func tracesDir() string {
	if dir := os.Getenv("KILN_TRACES"); dir != "" {
		return dir
	}
	return filepath.Join("..", "..", "..", "shared", "traces")
}

// public reads a public trace, or skips the test loudly: it is not part of the repository.
func public(t *testing.T, name string) *trace.Trace {
	t.Helper()
	file := filepath.Join(tracesDir(), name+".csv.gz")
	if _, err := os.Stat(file); err != nil {
		t.Skipf("SKIPPED: the public trace %s is not there (%v); set KILN_TRACES to its folder to run this", name, err)
	}
	tr, err := trace.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// Paper mode counts on the public traces what was published of them, for fixed windows and the hybrid histogram (R67).
func TestPublishedFigures(t *testing.T) {
	rows := []struct {
		trace, policy string
		cold          float64
		waste, within float64
	}{
		{"azure2019_joint8h", "fixed-10m", 1290, 1, 0.01},
		{"azure2019_joint8h", "fixed-20m", 696, 1.136, 0.01},
		{"azure2019_joint8h", "fixed-60m", 324, 1.364, 0.01},
		{"azure2019_joint8h", "hybrid-4h", 487, 0.877, 0.01},
		{"azure2019_joint8h", "oracle", 250, 0.443, 0.01},
		{"azure2019_day24h", "fixed-10m", 21051, 1, 0.03},
		{"azure2019_day24h", "fixed-20m", 11762, 1.145, 0.03},
		{"azure2019_day24h", "fixed-60m", 5452, 1.447, 0.03},
		{"azure2019_day24h", "hybrid-4h", 8670, 1.329, 0.05},
		{"azure2019_day24h", "oracle", 2243, 0.503, 0.03},
	}
	traces := map[string]*trace.Trace{}
	for _, row := range rows {
		if traces[row.trace] == nil {
			traces[row.trace] = public(t, row.trace)
		}
		tr := traces[row.trace]
		p, err := policy.Parse(row.policy)
		if err != nil {
			t.Fatal(err)
		}
		got := paper(tr, p).result(p, tr, paper(tr, policy.Fixed{Keep: wasteOne}))
		if off(float64(got.Cold), row.cold) > row.within || off(got.Waste, row.waste) > row.within {
			t.Errorf("%s %s: %d cold starts at waste %.3f, want %g at %g within %g %%",
				row.trace, row.policy, got.Cold, got.Waste, row.cold, row.waste, 100*row.within)
		}
	}
}

func off(got, want float64) float64 { return math.Abs(got/want - 1) }

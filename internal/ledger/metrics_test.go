package ledger

import (
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kiln"
)

// counted sums a metric over its labels: counters by value, histograms by the number of observations.
func counted(t *testing.T, l *Ledger, name string) (sum float64) {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(l.Collector())
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// Every execution is counted once, by what it was, at once and again after it is written; stages it never reached are not.
func TestMetrics(t *testing.T) {
	l, err := Open(t.TempDir(), Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	at := func(ms int) kiln.Time { return kiln.Time{Time: time.UnixMilli(int64(1000 + ms))} }
	l.Append(&kiln.Record{Outcome: kiln.OutcomeSuccess, Path: kiln.PathContainer, Fleet: kiln.FleetLowVolume,
		Times: kiln.Times{Received: at(0), Admitted: at(1), Acquired: at(2), CodeStart: at(3), CodeEnd: at(9), Answered: at(10)}})
	l.Append(&kiln.Record{Outcome: kiln.OutcomeThrottled, Fleet: "of another age", Times: kiln.Times{Received: at(0), Admitted: at(1), Answered: at(2)}})
	l.Append(&kiln.Record{Outcome: "new", Path: "new"})
	for range 2 {
		for name, want := range map[string]float64{"kiln_executions_total": 3, "kiln_execution_duration_seconds": 1,
			"kiln_execution_stage_seconds": 6, "kiln_execution_acquisition_seconds": 1, "kiln_execution_start_seconds": 1,
			"kiln_execution_overhead_seconds": 1, "kiln_execution_total_seconds": 2, "kiln_records_dropped_total": 0} {
			if got := counted(t, l, name); got != want {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
		}
		if err := l.flush(); err != nil {
			t.Fatal(err)
		}
	}
}

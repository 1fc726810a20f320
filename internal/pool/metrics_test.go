package pool

import (
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"

	"kiln/internal/driver/fake"
)

// The gauges say what the lists say: a warm instance is in the warming pool until its first request, then in the active.
func TestCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, fake.Config{}, nil)
		defer b.stop()
		<-b.pool.Ready()
		if got := gauge(t, b, "kiln_instances", "state", "warm"); got != float64(len(b.pool.Instances())) || got == 0 {
			t.Errorf("%v warm instances, the list has %d", got, len(b.pool.Instances()))
		}
		b.invoke(b.version("1", "f"))
		synctest.Wait()
		for labels, want := range map[[3]string]float64{
			{"kiln_instances", "pool", "active"}: 1, {"kiln_containers", "state", "idle"}: 1, {"kiln_containers", "state", "busy"}: 0,
			{"kiln_requests_waiting", "fleet", b.pool.Pools()[0].Fleet}: 0,
		} {
			if got := gauge(t, b, labels[0], labels[1], labels[2]); got != want {
				t.Errorf("%v is %v, want %v", labels, got, want)
			}
		}
	})
}

// gauge sums a gauge over the series that have a label's value.
func gauge(t *testing.T, b *bench, name, label, value string) (sum float64) {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(b.pool.Collector())
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetName() == label && l.GetValue() == value {
					sum += m.GetGauge().GetValue()
				}
			}
		}
	}
	return sum
}

package capacity

import (
	"testing"
	"time"
)

// BenchmarkRequested measures what counting a request costs: its configuration's meters and its code's.
func BenchmarkRequested(b *testing.B) {
	w := New(Config{})
	d, code := w.Demand(python), NewCodeMeter()
	now := epoch
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Microsecond)
		code.Add(now)
		d.Requested(now)
	}
}

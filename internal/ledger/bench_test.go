package ledger_test

import (
	"context"
	"testing"

	"kiln/internal/ledger"
)

// benchPause is how many calls are measured between two waits for the disk: nothing is dropped.
const benchPause = 300

// What a record costs its caller, bounds kept.
func BenchmarkAppend(b *testing.B) {
	l, r := benchLedger(b), record(1)
	bench(b, l, func() { l.Append(r) })
}

// What the three lines around an execution cost their caller.
func BenchmarkLogLines(b *testing.B) {
	l, r := benchLedger(b), record(1)
	g := l.Log(r.Account, r.Function)
	bench(b, l, func() {
		g.Start(epoch, r.Container, r.RequestID, "$LATEST")
		g.End(epoch, r.Container, r.RequestID)
		g.Report(epoch, r)
	})
}

func bench(b *testing.B, l *ledger.Ledger, one func()) {
	b.ReportAllocs()
	for i := range b.N {
		if i%benchPause == 0 {
			b.StopTimer()
			if err := l.Sync(context.Background()); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
		one()
	}
}

func benchLedger(b *testing.B) *ledger.Ledger {
	l, err := ledger.Open(b.TempDir(), ledger.Config{Logger: discard()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(runFor(l))
	return l
}

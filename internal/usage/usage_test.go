package usage

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"kiln"
	"kiln/internal/engine"
	"kiln/internal/fleet"
)

const account = kiln.DefaultAccount

func code(n int) fleet.Code { return fleet.Code{Account: account, Function: fmt.Sprint("f", n)} }

// life is a store, and beside it what the ledger would have of it: what was answered is on record.
type life struct {
	t      testing.TB
	dir    string
	engine *engine.Engine
	*Usage
	records  []request
	changes  []fleet.Change
	pins     map[fleet.Code]fleet.Pin
	deleted  map[fleet.Code]bool
	settings fleet.Settings
}

func begin(t testing.TB, s fleet.Settings) *life {
	l := &life{t: t, dir: t.TempDir(), settings: s, pins: map[fleet.Code]fleet.Pin{}, deleted: map[fleet.Code]bool{}}
	l.open()
	t.Cleanup(func() { l.engine.Close() })
	return l
}

func (l *life) open() {
	l.t.Helper()
	var err error
	if l.engine, err = engine.Open(context.Background(), engine.Config{Dir: l.dir, Logger: slog.New(slog.DiscardHandler)}); err != nil {
		l.t.Fatal(err)
	}
	l.Usage, err = Open(context.Background(), l.engine, Config{
		Node: "n", Settings: l.settings, Logger: slog.New(slog.DiscardHandler),
		Requests: func(since time.Time, yield func(fleet.Code, time.Time)) {
			for i := range l.records { // in another order than they came
				if r := l.records[(i*7919+3)%len(l.records)]; !r.at.Before(since) {
					yield(r.code, r.at)
				}
			}
		},
		Function: func(c fleet.Code) (fleet.Pin, bool) { return l.pins[c], !l.deleted[c] },
		Changed:  func(c fleet.Change) { l.changes = append(l.changes, c) },
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

// ask receives a request and puts it on record.
func (l *life) ask(n int) fleet.Standing {
	at, s := l.Received(code(n), l.pins[code(n)])
	l.records = append(l.records, request{code(n), at})
	return s
}

// again ends the store as a kill does, and opens it.
func (l *life) again() {
	l.t.Helper()
	if err := l.engine.Close(); err != nil {
		l.t.Fatal(err)
	}
	l.open()
}

func (l *life) keep() {
	l.t.Helper()
	if err := l.write(context.Background()); err != nil {
		l.t.Fatal(err)
	}
}

// However often the store is killed, and whatever it had kept by then, each request is counted once, and the class is what
// it would have been: of code that has fallen below the upper threshold too. // R51 R101
func TestKilledAtAnyTime(t *testing.T) {
	for seed := range uint64(6) {
		chance := rand.New(rand.NewPCG(seed, 1))
		l := begin(t, fleet.Settings{Window: time.Hour, Enter: 40, Leave: 20})
		counts := map[int]int{}
		for range 400 {
			switch n := chance.IntN(12); {
			case n < 8: // eight codes, in several shards
				counts[n]++
				if s := l.ask(n); s.Requests != counts[n] || (s.Serves == fleet.High) != (counts[n] >= 40) {
					t.Fatalf("seed %d: code %d after %d: %+v", seed, n, counts[n], s)
				}
			case n < 11:
				l.keep()
			case chance.IntN(4) == 0:
				l.again()
				for n, count := range counts {
					if s := l.Of(code(n)); s.Requests != count || (s.Serves == fleet.High) != (count >= 40) {
						t.Fatalf("seed %d: code %d was asked for %d times; after the restart %+v", seed, n, count, s)
					}
				}
			}
		}
	}
}

// A class that the counts alone do not tell, between the thresholds, survives too. // R51 R54
func TestHysteresisSurvives(t *testing.T) {
	l := begin(t, fleet.Settings{Window: time.Hour, Enter: 40, Leave: 5})
	old := l.now().Add(-time.Hour + 3*time.Second).UnixMilli() // leaves the window soon
	sh := &l.shards[shardOf(code(1))]
	if !sh.usage.Restore(fleet.Saved{Code: code(1), High: true, Base: old, Arrivals: []uint32{0, 40, 3_000_000, 10}}, fleet.Free) {
		t.Fatal("not restored")
	}
	l.ask(1)
	l.keep()
	l.again()
	if s := l.Of(code(1)); s.Serves != fleet.High || s.Requests != 51 && s.Requests != 11 {
		t.Errorf("after the restart: %+v", s)
	}
}

// A write keeps one shard, at most one a second is asked for by Run, and a store without news writes nothing. // R51
func TestWritesAreFew(t *testing.T) {
	l := begin(t, fleet.Settings{Window: time.Hour, Enter: 60, Leave: 30})
	for n := range 1000 {
		l.ask(n)
	}
	before := l.revisions()
	l.keep()
	if wrote := l.revisions() - before; wrote != 1 {
		t.Errorf("one write made %d", wrote)
	}
	for range shardCount {
		l.keep()
	}
	all := l.revisions()
	l.keep()
	if l.revisions() != all || all > shardCount {
		t.Errorf("%d writes for %d shards, then %d more", all, shardCount, l.revisions()-all)
	}
	l.records = nil // what is kept needs no record
	l.again()
	seen := 0
	l.Each(func(_ fleet.Code, s fleet.Standing) { seen += s.Requests })
	if seen != 1000 {
		t.Errorf("%d requests after the restart, of 1000", seen)
	}
}

// revisions is how many documents were ever written.
func (l *life) revisions() (most uint64) {
	for i := range shardCount {
		if doc, ok := l.docs.Get(l.key(i)); ok {
			most = max(most, doc.Revision)
		}
	}
	return most
}

// A full shard of the longest names, each asked for as often as is remembered apart, fits into a document. // R51
func TestFullShardFits(t *testing.T) {
	l := begin(t, fleet.Settings{Window: time.Hour, Enter: 60, Leave: 30})
	sh := &l.shards[7]
	base := l.now().Add(-time.Hour + time.Minute).UnixMilli()
	arrivals := make([]uint32, 0, 128)
	for range 64 {
		arrivals = append(arrivals, 56_000, 9_999)
	}
	for n := range codesPerShard {
		name := fmt.Sprintf("%0140d", n)
		if !sh.usage.Restore(fleet.Saved{Code: fleet.Code{Account: account, Function: name}, High: true, Base: base, Arrivals: arrivals}, fleet.Free) {
			t.Fatal("not restored")
		}
	}
	sh.unsaved = 1
	l.keep()
	if doc, ok := l.docs.Get(l.key(7)); !ok || len(doc.Value) > engine.MaxValueBytes {
		t.Errorf("kept %v, %d bytes", ok, len(doc.Value))
	} else {
		t.Logf("%d bytes", len(doc.Value))
	}
}

// A function that was deleted counts no more, and one of its name is new; a deleted one's records are not counted after a
// restart. A pin holds over a restart and makes no change by itself. // R51 R54 R56
func TestDeletedAndPinned(t *testing.T) {
	l := begin(t, fleet.Settings{Window: time.Hour, Enter: 3, Leave: 2})
	l.pins[code(2)] = fleet.PinLow
	for range 5 {
		l.ask(1)
		l.ask(2)
		l.ask(3)
	}
	if n := len(l.changes); n != 2 {
		t.Errorf("%d changes: %+v", n, l.changes)
	}
	l.Forget(code(1))
	if s := l.ask(1); s.Requests != 1 || s.Serves != fleet.Low {
		t.Errorf("of a new function: %+v", s)
	}
	l.deleted[code(3)] = true
	l.changes = nil
	l.again()
	if s := l.Of(code(3)); s.Requests != 0 {
		t.Errorf("of a deleted function: %+v", s)
	}
	if s := l.Of(code(2)); s.Requests != 5 || s.Serves != fleet.Low || s.ByUsage != fleet.High {
		t.Errorf("of a pinned function: %+v", s)
	}
	if s := l.ask(2); s.Changed || len(l.changes) != 0 {
		t.Errorf("the pin changed something after the restart: %+v, %+v", s, l.changes)
	}
}

// A clock that was set back does not make requests count twice or not at all.
func TestClockSetBack(t *testing.T) {
	l := begin(t, fleet.Settings{Window: time.Hour, Enter: 60, Leave: 30})
	l.base = l.base.Add(10 * time.Minute) // the clock is fast now, and right after the restart
	for range 5 {
		l.ask(1)
	}
	l.keep()
	l.ask(1)
	l.again()
	if s := l.Of(code(1)); s.Requests != 6 {
		t.Errorf("after the clock went back: %+v", s)
	}
	l.ask(1)
	l.again()
	if s := l.Of(code(1)); s.Requests != 7 {
		t.Errorf("after another restart: %+v", s)
	}
}

// Requests at once are all counted, each at an instant of its own, while shards are kept and listed.
func TestAtOnce(t *testing.T) {
	l := begin(t, fleet.Settings{Window: time.Hour, Enter: 1_000_000, Leave: 30})
	var wg sync.WaitGroup
	var mu sync.Mutex
	instants := map[time.Time]bool{}
	for range 8 {
		wg.Go(func() {
			for range 200 {
				at, _ := l.Received(code(1), fleet.Free)
				mu.Lock()
				instants[at] = true
				mu.Unlock()
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	wg.Go(func() { _ = l.Run(ctx) })
	wg.Go(func() {
		for ctx.Err() == nil {
			l.Each(func(fleet.Code, fleet.Standing) {})
		}
	})
	wg.Wait()
	if s := l.Of(code(1)); s.Requests != 1600 || len(instants) != 1600 {
		t.Errorf("%d counted at %d instants", s.Requests, len(instants))
	}
}

// BenchmarkReceived is what each request pays.
func BenchmarkReceived(b *testing.B) {
	l := begin(b, fleet.Settings{Window: time.Hour, Enter: 60, Leave: 30})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.Received(code1, fleet.Free)
		}
	})
}

var code1 = code(1)

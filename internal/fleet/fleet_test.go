package fleet

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"kiln"
)

var (
	start  = time.UnixMilli(1_700_000_000_000)
	normal = Settings{Window: time.Hour, Enter: 60, Leave: 30}
	one    = Code{kiln.DefaultAccount, "one"}
)

// calls has n calls come, so far apart, and gives the last standing and when the next is due.
func calls(u *Usage, from time.Time, n int, apart time.Duration) (s Standing, next time.Time) {
	for range n {
		s = u.Arrived(from, one, Free)
		from = from.Add(apart)
	}
	return s, from
}

// One call fewer than Enter within the window leaves code in low-volume, as many bring it to high-volume, and as many that
// lie wider apart than the window do not: to the millisecond. // R52
func TestThreshold(t *testing.T) {
	wide := time.Hour / 60 // 60 of them end just when the first is out of the window
	for _, row := range []struct {
		n     int
		apart time.Duration
		want  Class
		count int
	}{
		{59, 0, Low, 59}, {60, 0, High, 60}, {59, time.Second, Low, 59}, {60, time.Second, High, 60},
		{60, wide, High, 60}, {600, wide + 2*time.Second, Low, 59}, {61, wide, High, 60},
		{59, time.Minute - time.Millisecond, Low, 59},
	} {
		u := NewUsage(normal, 10)
		if s, _ := calls(u, start, row.n, row.apart); s.Serves != row.want || s.Requests != row.count {
			t.Errorf("%d calls %s apart: %s with %d in the window, want %s with %d", row.n, row.apart, s.Serves, s.Requests, row.want, row.count)
		}
	}
	for _, row := range []struct {
		last time.Duration
		want Class
	}{{time.Hour - time.Millisecond, High}, {time.Hour, Low}} {
		u := NewUsage(normal, 10)
		calls(u, start, 1, 0)
		calls(u, start.Add(time.Minute), 58, time.Second)
		if s := u.Arrived(start.Add(row.last), one, Free); s.Serves != row.want {
			t.Errorf("60 calls within %s: %s", row.last, s.Serves)
		}
	}
}

// Code that went to high-volume stays there while at least Leave calls are in the window, comes back when fewer are,
// whether somebody asks or not, and then needs Enter calls again; each change is told once. // R54
func TestHysteresis(t *testing.T) {
	u := NewUsage(normal, 10)
	s, at := calls(u, start, 60, time.Second)
	if !s.Changed || s.Serves != High {
		t.Fatalf("the 60th call: %+v", s)
	}
	changes := 0
	for end := at.Add(5 * time.Hour); at.Before(end); at = at.Add(110 * time.Second) { // some 33 an hour
		if s := u.Arrived(at, one, Free); s.Serves != High || s.Changed {
			t.Fatalf("at %d calls in the window: %+v", s.Requests, s)
		}
		changes += len(u.Tick(at))
	}
	if changes != 0 {
		t.Fatalf("%d changes above the lower threshold", changes)
	}
	fell := time.Time{}
	for end := at.Add(time.Hour); at.Before(end); at = at.Add(time.Second) {
		for _, c := range u.Tick(at) {
			if !fell.IsZero() || c.Standing.Requests != 29 || c.Standing.Serves != Low || !c.Standing.Changed {
				t.Fatalf("after %s: %+v", at.Sub(fell), c)
			}
			fell = at
		}
	}
	if fell.IsZero() {
		t.Fatal("it never came back")
	}
	if s, _ := calls(u, at, 59, time.Second); s.Serves != Low {
		t.Fatalf("after 59 new calls: %+v", s)
	}
	u = NewUsage(normal, 10) // the same without a Tick
	calls(u, start, 60, time.Second)
	if s := u.Arrived(start.Add(2*time.Hour), one, Free); s.Serves != Low || !s.Changed || s.Requests != 1 {
		t.Errorf("the first call after two hours: %+v", s)
	}
	if c := u.Tick(start.Add(2 * time.Hour)); len(c) != 0 {
		t.Errorf("told twice: %+v", c)
	}
}

// A pin decides whatever the usage; taking it away gives the usage back its word; the usage is counted meanwhile. // R56
func TestPin(t *testing.T) {
	u := NewUsage(normal, 10)
	if s := u.Arrived(start, one, PinHigh); s.Serves != High || s.ByUsage != Low || !s.Changed || !s.Near {
		t.Errorf("pinned high: %+v", s)
	}
	for i := range 100 {
		if s := u.Arrived(start, one, PinLow); s.Serves != Low || s.Near || s.Changed != (i == 0) {
			t.Fatalf("pinned low, call %d: %+v", i, s)
		}
	}
	if s := u.Arrived(start, one, Free); s.Serves != High || !s.Changed || s.Requests != 102 {
		t.Errorf("pin taken away: %+v", s)
	}
	calls(u, start, 1, 0)
	u.Arrived(start, one, PinHigh)
	if c := u.Tick(start.Add(2 * time.Hour)); len(c) != 0 {
		t.Errorf("pinned code changed in silence: %+v", c)
	}
	for name, want := range map[string]Pin{kiln.FleetLowVolume: PinLow, kiln.FleetHighVolume: PinHigh} {
		if p, ok := Pinned(name); !ok || p != want || p.Of(Low).String() != name || p.Of(High).String() != name {
			t.Errorf("%s: %v", name, p)
		}
	}
	if _, ok := Pinned("High"); ok {
		t.Error("a fleet High exists")
	}
}

// Code on a capacity provider is counted like any other, but is never near high-volume and changes nothing.
func TestPinProvider(t *testing.T) {
	u := NewUsage(normal, 10)
	for i := 1; i <= 100; i++ {
		if s := u.Arrived(start, one, PinProvider); s.Requests != i || s.Near || s.Changed {
			t.Fatalf("call %d: %+v", i, s)
		}
	}
	if c := u.Tick(start.Add(2 * time.Hour)); len(c) != 0 {
		t.Errorf("changed when nobody asked any more: %+v", c)
	}
}

// The approach to the threshold is told from two thirds of it on, and of code in high-volume. // R55
func TestNear(t *testing.T) {
	u := NewUsage(normal, 10)
	for i := 1; i <= 70; i++ {
		if s := u.Arrived(start, one, Free); s.Near != (i >= 40) {
			t.Fatalf("call %d: %+v", i, s)
		}
	}
	if n := (Settings{Enter: 1}).Near(); n != 1 {
		t.Errorf("of a threshold of 1: %d", n)
	}
}

// Each account's code of one name, and each code of one account, is counted by itself. // R53
func TestPerCode(t *testing.T) {
	u := NewUsage(normal, 10)
	calls(u, start, 60, 0)
	for _, id := range []Code{{kiln.DefaultAccount, "two"}, {"111111111111", "one"}} {
		if s := u.Arrived(start, id, Free); s.Requests != 1 || s.Serves != Low {
			t.Errorf("%v: %+v", id, s)
		}
	}
	u.Forget(one)
	if s := u.Look(start, one); s != (Standing{}) {
		t.Errorf("forgotten: %+v", s)
	}
	if s, _ := calls(u, start, 1, 0); s.Requests != 1 || s.Serves != Low {
		t.Errorf("new again: %+v", s)
	}
}

// plain is the same by the plainest means: every instant kept.
type plain struct {
	times map[Code][]time.Time
	high  map[Code]bool
}

func (p *plain) in(now time.Time, id Code, s Settings) (n int) {
	for _, at := range p.times[id] {
		if at.After(now.Add(-s.Window)) {
			n++
		}
	}
	return n
}

func (p *plain) fall(now time.Time, s Settings) {
	for id := range p.high {
		if p.in(now, id, s) < s.Leave {
			delete(p.high, id)
		}
	}
}

// Against a model that keeps every instant: whatever comes and whenever it is looked, counts of up to 64 calls and all
// classes agree, and greater counts are never too small and too large by no more than came within one cell; also when
// all was saved and restored in between. // R51 R52 R54
func TestAgainstPlainModel(t *testing.T) {
	for seed := range uint64(200) {
		chance := rand.New(rand.NewPCG(seed, 0))
		s := Settings{Window: time.Duration(1+chance.IntN(100)) * time.Second, Enter: 1 + chance.IntN(arrivalsMax)}
		s.Leave = 1 + chance.IntN(s.Enter)
		compare(t, fmt.Sprintf("seed %d, %+v", seed, s), s, func() (code int, pause time.Duration, look bool) {
			pause = time.Duration(chance.IntN(3)) * s.Window / time.Duration(1+chance.IntN(4*s.Enter))
			if chance.IntN(50) == 0 {
				pause = time.Duration(chance.IntN(int(2 * s.Window)))
			}
			return chance.IntN(3), pause.Truncate(time.Millisecond), chance.IntN(10) == 0
		}, 600)
	}
}

// compare runs a history through the store and the model.
func compare(t *testing.T, what string, s Settings, next func() (code int, pause time.Duration, look bool), steps int) {
	t.Helper()
	u, p := NewUsage(s, 10), &plain{map[Code][]time.Time{}, map[Code]bool{}}
	now := start
	cell := s.Window / cells
	for step := range steps {
		n, pause, look := next()
		now = now.Add(pause)
		id := Code{kiln.DefaultAccount, fmt.Sprint(n)}
		p.fall(now, s)
		if look {
			for _, c := range u.Tick(now) {
				if p.high[c.Code] || c.Standing.Serves != Low {
					t.Fatalf("%s, step %d: told to have changed: %+v", what, step, c)
				}
			}
			u = restored(t, u, s)
			continue
		}
		p.times[id] = append(p.times[id], now)
		got, want := u.Arrived(now, id, Free), p.in(now, id, s)
		if want >= s.Enter {
			p.high[id] = true
		}
		most := want
		if want > arrivalsMax/2 { // neighbours may have been merged
			wider := s
			wider.Window += cell + time.Millisecond
			most = p.in(now, id, wider)
		}
		if got.Requests < want || got.Requests > most {
			t.Fatalf("%s, step %d: %d requests, the model has %d to %d", what, step, got.Requests, want, most)
		}
		if want == most && (got.Serves == High) != p.high[id] {
			t.Fatalf("%s, step %d: %s with %d requests, the model says %v", what, step, got.Serves, want, p.high[id])
		}
	}
}

// restored saves all and gives what Restore makes of it.
func restored(t *testing.T, u *Usage, s Settings) *Usage {
	t.Helper()
	next := NewUsage(s, 10)
	for _, saved := range u.Save() {
		if len(saved.Arrivals) > 0 && !next.Restore(saved, Free) {
			t.Fatalf("not restored: %+v", saved)
		}
	}
	return next
}

// FuzzUsage looks for a history in which the store and the model differ.
func FuzzUsage(f *testing.F) {
	f.Add(uint8(10), uint8(5), []byte("0123456789"))
	f.Add(uint8(60), uint8(30), make([]byte, 300))
	f.Fuzz(func(t *testing.T, enter, leave uint8, history []byte) {
		s := Settings{Window: 10 * time.Second, Enter: 1 + int(enter)%arrivalsMax}
		s.Leave = 1 + int(leave)%s.Enter
		i := 0
		compare(t, fmt.Sprintf("%+v", s), s, func() (int, time.Duration, bool) {
			b := history[i]
			i++
			return int(b) % 2, time.Duration(b/4) * 37 * time.Millisecond, b%16 == 15
		}, len(history))
	})
}

// What was saved wrongly is left out, and nothing else.
func TestRestoreRefuses(t *testing.T) {
	u := NewUsage(normal, 10)
	for _, s := range []Saved{{Code: one}, {Code: one, Arrivals: []uint32{1}}, {Code: one, Arrivals: []uint32{1, 0}},
		{Code: one, Arrivals: []uint32{1 << 31, 1, 1, 1}}, {Code: one, Arrivals: make([]uint32, 2*arrivalsMax+2)}} {
		if u.Restore(s, Free) {
			t.Errorf("restored %+v", s)
		}
	}
	if !u.Restore(Saved{Code: one, Base: start.UnixMilli(), Arrivals: []uint32{0, 59}}, Free) || u.Len() != 1 {
		t.Error("what is right was refused")
	}
	if s := u.Arrived(start.Add(time.Second), one, Free); s.Requests != 60 || s.Serves != High {
		t.Errorf("restored: %+v", s)
	}
}

// A hundred thousand codes, all asked for as often as is remembered apart, take bounded memory; more are not remembered;
// what is silent for a window is forgotten; a Tick that finds nothing to change looks at nothing. // R51
func TestBounds(t *testing.T) {
	const codes = 100_000
	u := NewUsage(normal, codes)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	full := Saved{Base: start.UnixMilli(), High: true, Arrivals: make([]uint32, 0, 2*arrivalsMax)}
	for range arrivalsMax {
		full.Arrivals = append(full.Arrivals, 1, 1)
	}
	for n := range codes {
		full.Code = Code{kiln.DefaultAccount, fmt.Sprint("function-", n)}
		if !u.Restore(full, Free) {
			t.Fatal("not restored")
		}
	}
	now := start.Add(time.Minute)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if mib := (after.HeapAlloc - before.HeapAlloc) >> 20; mib > 128 {
		t.Errorf("%d codes take %d MiB", codes, mib)
	}
	began := time.Now()
	if c := u.Tick(now); len(c) != 0 {
		t.Errorf("%d changes", len(c))
	}
	if took := time.Since(began); took > time.Second { // some 100 ns; a second on any machine means that all were looked at
		t.Errorf("a Tick took %s", took)
	}
	u.Arrived(now, one, Free)
	if u.Len() != codes {
		t.Errorf("%d codes, the bound is %d", u.Len(), codes)
	}
	fell := 0
	for range 2 + codes/droppedTick {
		now = now.Add(time.Hour)
		fell += len(u.Tick(now))
	}
	if fell != codes-1 || u.Len() != 0 {
		t.Errorf("%d codes fell and %d are left, after a long silence", fell, u.Len())
	}
}

// A request for code that is known allocates nothing, and costs the same among a hundred thousand codes.
func BenchmarkArrived(b *testing.B) {
	for _, codes := range []int{1, 100_000} {
		b.Run(fmt.Sprint(codes), func(b *testing.B) {
			u := NewUsage(normal, 100_000)
			ids := make([]Code, codes)
			for n := range ids {
				ids[n] = Code{kiln.DefaultAccount, fmt.Sprint("function-", n)}
			}
			b.ReportAllocs()
			now, n := start, 0
			for b.Loop() {
				now = now.Add(time.Millisecond)
				u.Arrived(now, ids[n%codes], Free)
				n += 7919
			}
		})
	}
}

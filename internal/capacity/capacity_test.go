package capacity

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"kiln"
)

var python = kiln.Configuration{Driver: "fake", Runtime: "python3.11", Shape: kiln.Shape{MemoryMiB: 1024, CPUs: 1}}

// bench is a policy with a clock; every instance taken is asked for.
type bench struct {
	w    *Warming
	d    *Demand
	now  time.Time
	most int // the greatest target seen
	sum  int // of the targets, once a period
	n    int
}

func newBench(b Bounds, c Config) *bench {
	w := New(c)
	w.Set(python, b)
	return &bench{w: w, d: w.Demand(python), now: epoch}
}

// pass lets time go by; each takes so many instances at its moments.
func (b *bench) pass(d time.Duration, take func(now time.Time) int) {
	end := b.now.Add(d)
	const step = time.Second
	next := b.now
	for b.now.Before(end) {
		for range take(b.now) {
			b.d.Requested(b.now)
			b.d.Asked(b.now)
		}
		if !b.now.Before(next) {
			b.w.Tick(b.now)
			next = next.Add(b.w.Period())
			b.most = max(b.most, b.d.Target())
			b.sum += b.d.Target()
			b.n++
		}
		b.now = b.now.Add(step)
	}
}

func (b *bench) forget() { b.most, b.sum, b.n = 0, 0, 0 }

func none(time.Time) int { return 0 }

// poisson takes at a rate that may change with the time since the beginning.
func poisson(seed uint64, rate func(time.Duration) float64) func(time.Time) int {
	r := rand.New(rand.NewPCG(seed, 0))
	return func(now time.Time) int {
		n := 0
		for left := rate(now.Sub(epoch)); ; n++ {
			if left -= r.ExpFloat64(); left < 0 {
				return n
			}
		}
	}
}

// What is missing to the target is booted; after failures one at a time, later and later; a success forgets them. // R20
func TestMissingAndFailing(t *testing.T) {
	b := newBench(Bounds{Minimum: 3}, Config{})
	d, now := b.d, epoch
	missing := func(have, want int) {
		t.Helper()
		if n, _ := d.Missing(now, have); n != want {
			t.Errorf("%d missing beside %d, want %d", n, have, want)
		}
	}
	missing(0, 3)
	missing(2, 1)
	missing(4, 0)
	d.Booted(now, false, 0)
	missing(0, 0)
	if _, retry := d.Missing(now, 0); !retry.Equal(now.Add(BackoffFirst)) {
		t.Errorf("retry at %s", retry)
	}
	now = now.Add(BackoffFirst)
	missing(0, 1)
	for range 40 {
		d.Booted(now, false, 0)
	}
	if _, retry := d.Missing(now, 0); !retry.Equal(now.Add(BackoffMax)) {
		t.Errorf("retry at %s after many", retry)
	}
	d.Booted(now, true, time.Second)
	missing(0, 3)
}

// A taken instance adds the first number while requests come as expected, the second while they come more often than the
// threshold condition allows, and the first again afterwards; what other managers serve of the runtime counts. // R61
func TestSurge(t *testing.T) {
	b := newBench(Bounds{Minimum: 1, Maximum: 20}, Config{First: 1, Second: 4})
	added := func(want Added) {
		t.Helper()
		if add, cause := b.d.Took(b.now); add != want || cause == "" {
			t.Errorf("%+v added, want %+v: %s", add, want, cause)
		}
	}
	at := func(perSecond int, d time.Duration) {
		for range int(d / time.Second) {
			for range perSecond {
				b.d.Requested(b.now)
			}
			b.now = b.now.Add(time.Second)
			b.w.Tick(b.now)
		}
	}
	b.d.Asked(b.now)
	added(Added{First: 1})
	at(1, time.Minute) // what is always expected
	added(Added{First: 1})
	at(20, 30*time.Second)
	added(Added{Second: 4})
	at(20, time.Hour) // by now it is usual
	added(Added{First: 1})
	at(31, 2*time.Minute)
	added(Added{Second: 4})
	at(20, 2*time.Minute)
	added(Added{First: 1})
	b.w.Elsewhere([]Elsewhere{{Configuration: python, Rate: 50, Expected: 5}})
	added(Added{Second: 4})
	b.w.Elsewhere([]Elsewhere{{Configuration: python, Rate: 50, Expected: 50}, {Configuration: kiln.Configuration{Runtime: "node"}, Rate: 900}})
	added(Added{First: 1})
	b.w.Elsewhere(nil)
	b.w.Set(python, Bounds{Pinned: true, Target: 5})
	if add, _ := b.d.Took(b.now); add != (Added{}) || b.d.Target() != 5 || b.d.Most() != 5 {
		t.Errorf("pinned: %+v added, target %d of at most %d", add, b.d.Target(), b.d.Most())
	}
}

// The rate is judged by the time of the day: what comes every noon is no surge at noon, and one at midnight. // R61 R63
func TestSurgeIsJudgedByTheTimeOfDay(t *testing.T) {
	b := newBench(Bounds{Minimum: 1, Maximum: 20}, Config{})
	b.now = time.Unix(0, 0).Add(20_000 * 24 * time.Hour)
	began := b.now
	load := func(perSecond int, d time.Duration) {
		for range int(d / time.Second) {
			for range perSecond {
				b.d.Requested(b.now)
			}
			if b.now.Unix()%10 == 0 {
				b.w.Tick(b.now)
			}
			b.now = b.now.Add(time.Second)
		}
	}
	b.d.Asked(b.now)
	for range 3 {
		load(0, 12*time.Hour)
		load(30, 30*time.Minute)
		load(0, 24*time.Hour-b.now.Sub(began)%(24*time.Hour))
	}
	load(30, 2*time.Minute)
	if s := b.d.State(b.now); !s.Surging || s.Expected > 1 {
		t.Errorf("at midnight: %+v", s)
	}
	load(0, 12*time.Hour-2*time.Minute)
	load(30, 2*time.Minute)
	if s := b.d.State(b.now); s.Surging || s.Expected < 25 || s.Basis != "this time of day" {
		t.Errorf("at noon: %+v", s)
	}
}

// The target follows a rising demand up and a falling one down, stays between its bounds, and a single spike raises it by
// no more than one. // R62
func TestTrend(t *testing.T) {
	for seed := range uint64(20) {
		b := newBench(Bounds{Minimum: 1, Maximum: 40}, Config{})
		for range 30 {
			b.d.Booted(b.now, true, 2*time.Second)
		}
		b.pass(time.Hour, poisson(seed, func(time.Duration) float64 { return 0.02 }))
		calm := b.d.Target()
		b.pass(time.Second, func(time.Time) int { return 30 })
		b.forget()
		b.pass(10*time.Minute, poisson(seed, func(time.Duration) float64 { return 0.02 }))
		if b.most > calm+1 {
			t.Errorf("seed %d: a spike of 30 raised the target from %d to %d", seed, calm, b.most)
		}
		start := b.now
		b.pass(10*time.Minute, poisson(seed, func(d time.Duration) float64 { return 5 * float64(d-start.Sub(epoch)) / float64(10*time.Minute) }))
		if up := b.d.Target(); up < 5 || up > 40 {
			t.Errorf("seed %d: at 5 takes a second the target is %d", seed, up)
		}
		b.pass(2*time.Hour, none)
		if down := b.d.Target(); down != 1 {
			t.Errorf("seed %d: two hours later the target is %d", seed, down)
		}
	}
}

// A peak that came at the same time on two days is prepared shortly before it comes on the third, and the stock is small
// otherwise; a restart between does not forget it. // R63
func TestDailyJobIsPrepared(t *testing.T) {
	b := newBench(Bounds{Minimum: 1, Maximum: 40}, Config{})
	b.now = time.Unix(0, 0).Add(20_000 * 24 * time.Hour)
	job := func(now time.Time) int {
		if now.Unix()%86400 == 9*3600+1 {
			return 12
		}
		return 0
	}
	b.pass(2*24*time.Hour, job)
	if b.most > 1 { // what came once is no season
		t.Errorf("on the first two days the target was %d", b.most)
	}
	h, err := json.Marshal(b.w.History())
	if err != nil {
		t.Fatal(err)
	}
	if len(h) > 16<<10 {
		t.Errorf("the history of one configuration takes %d bytes", len(h))
	}
	var past History
	if err := json.Unmarshal(h, &past); err != nil {
		t.Fatal(err)
	}
	later := newBench(Bounds{Minimum: 1, Maximum: 40}, Config{})
	later.now = b.now
	later.w.Restore(past)
	later.pass(8*time.Hour+50*time.Minute, job)
	if later.most > 1 {
		t.Errorf("hours before the job the target was %d", later.most)
	}
	later.pass(10*time.Minute, job)
	if later.d.Target() < 12 {
		t.Errorf("when the job comes the target is %d: %s", later.d.Target(), later.d.Reason())
	}
	later.pass(20*time.Second, job)
	if later.d.Target() > 1 {
		t.Errorf("when the job has come the target is %d: %s", later.d.Target(), later.d.Reason())
	}
	later.pass(10*time.Minute, job)
	later.forget()
	later.pass(14*time.Hour, job)
	if mean := float64(later.sum) / float64(later.n); mean > 1.5 || later.d.Target() != 1 {
		t.Errorf("after the job the target is %g on average", mean)
	}
}

// The share of takes that find no warm instance is near the shortfall asked for, with a stock not far above the demand:
// takes come at random, each is refilled after the refill time. // R62
func TestShortfall(t *testing.T) {
	const refill = time.Second
	for _, rate := range []float64{0.2, 1, 4} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			r := rand.New(rand.NewPCG(7, 7))
			b := newBench(Bounds{Minimum: 0, Maximum: 60}, Config{})
			var coming []time.Time
			takes, missed, warm, stock, looks := 0, 0, 0, 0, 0
			tick := b.now
			for b.now.Sub(epoch) < 4*time.Hour {
				b.now = b.now.Add(time.Duration(r.ExpFloat64() / rate * float64(time.Second)))
				for !tick.After(b.now) {
					b.w.Tick(tick)
					stock += b.d.Target()
					looks++
					tick = tick.Add(b.w.Period())
				}
				for len(coming) > 0 && !coming[0].After(b.now) {
					coming = coming[1:]
					warm++
					b.d.Booted(b.now, true, refill)
				}
				takes++
				b.d.Asked(b.now)
				if warm > 0 {
					warm--
				} else {
					missed++
				}
				for have := warm + len(coming); have < b.d.Target(); have++ {
					coming = append(coming, b.now.Add(refill))
				}
			}
			share, mean := float64(missed)/float64(takes), float64(stock)/float64(looks)
			t.Logf("%.4f of the takes found none, %.1f warm instances on average", share, mean)
			if share > 0.02 || mean > 3*rate+6 {
				t.Errorf("%.4f of the takes found none, %.1f warm instances on average", share, mean)
			}
		})
	}
}

// Boots that wait in a line of boots do not raise the target that makes the line: with one boot of a second at a time and
// 0.3 takes a second the stock stays small. // R62
func TestALongerBootLineMakesNoLargerTarget(t *testing.T) {
	for _, serial := range []time.Duration{time.Second, 3 * time.Second} {
		b := newBench(Bounds{Minimum: 1, Maximum: 1000}, Config{})
		take := poisson(3, func(time.Duration) float64 { return 0.3 })
		type boot struct{ asked, done time.Time }
		var line []boot
		have, free := 0, b.now
		for range 6 * 3600 {
			for range take(b.now) {
				b.d.Asked(b.now)
				have = max(have-1, 0)
			}
			b.w.Tick(b.now)
			b.most = max(b.most, b.d.Target())
			for len(line) > 0 && !line[0].done.After(b.now) {
				b.d.Booted(b.now, true, line[0].done.Sub(line[0].asked))
				have++
				line = line[1:]
			}
			boots, _ := b.d.Missing(b.now, have+len(line))
			for range boots {
				if free.Before(b.now) {
					free = b.now
				}
				free = free.Add(serial)
				line = append(line, boot{b.now, free})
			}
			b.now = b.now.Add(time.Second)
		}
		if b.most > 12 {
			t.Errorf("boots of %s one after the other: the target reached %d at 0.3 takes a second", serial, b.most)
		}
	}
}

// Stock above the target is let go after the delay, and no more of it than was too much all that time; stock above the
// maximum or the operator's target at once. // R62 R66
func TestSurplusIsLetGoWithADelay(t *testing.T) {
	b := newBench(Bounds{Minimum: 2, Maximum: 6}, Config{Release: time.Minute})
	surplus := func(have, want int) {
		t.Helper()
		if n := b.d.Surplus(b.now, have); n != want {
			t.Errorf("%d of %d let go, want %d", n, have, want)
		}
	}
	surplus(5, 0)
	b.now = b.now.Add(30 * time.Second)
	surplus(3, 0)
	b.now = b.now.Add(30 * time.Second)
	surplus(6, 1)
	surplus(5, 0)
	surplus(9, 3)
	b.w.Set(python, Bounds{Pinned: true, Target: 1})
	surplus(6, 5)
	b.now = b.now.Add(time.Hour)
	surplus(1, 0)
}

// What cannot be read of a history is learned anew, and what was counted of more configurations than are remembered goes
// to one that is.
func TestBounds(t *testing.T) {
	w := New(Config{})
	w.Restore(History{Seasons: []Season{{python, []byte("short")}}})
	if d := w.Demand(python); !d.season.empty() {
		t.Error("something was learned from five bytes")
	}
	for i := range 2 * DemandsMax {
		w.Demand(kiln.Configuration{Runtime: fmt.Sprint(i)}).Requested(epoch)
	}
	if len(w.Demands()) != DemandsMax {
		t.Errorf("%d configurations are remembered", len(w.Demands()))
	}
}

package promise

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"kiln"
)

// noon is a Wednesday.
var noon = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

func version(number string) *kiln.Version {
	return &kiln.Version{Account: "000000000000", Function: "f", Number: number, Revision: "r" + number}
}

func wanted(number string, n int) Wanted {
	v := version(number)
	return Wanted{Function{v.Account, v.Function}, v, n}
}

// pools is what the pools were told, and how many containers are ready.
type pools struct {
	book  Book
	told  map[string]int
	ready map[kiln.VersionID]int
	gone  map[string]bool
}

func (p *pools) settle(now time.Time, list ...Wanted) {
	if p.told == nil {
		p.told = map[string]int{}
	}
	for _, c := range p.book.Settle(now, list, func(id kiln.VersionID) int { return p.ready[id] },
		func(v *kiln.Version) bool { return p.gone[v.Number] }) {
		if p.told[c.Version.Number] = c.Containers; c.Containers == 0 {
			delete(p.told, c.Version.Number)
		}
	}
}

func (p *pools) is(t *testing.T, when, want string) {
	t.Helper()
	if got := fmt.Sprint(p.told); got != want {
		t.Errorf("%s: promised %s, want %s", when, got, want)
	}
}

// What an alias pointed to is kept ready until what it points to now is: not given up for it, not kept beyond it, and not
// kept for ever for a version that cannot be made ready. // R36
func TestAliasMoves(t *testing.T) {
	p := pools{ready: map[kiln.VersionID]int{}, gone: map[string]bool{}}
	p.settle(noon, wanted("1", 3))
	p.is(t, "put", "map[1:3]")
	p.ready[version("1").ID()] = 3
	p.settle(noon, wanted("2", 3))
	p.is(t, "moved", "map[1:3 2:3]")
	p.ready[version("2").ID()] = 2
	p.settle(noon.Add(time.Minute), wanted("2", 3))
	p.is(t, "two of three ready", "map[1:3 2:3]")
	p.ready[version("2").ID()] = 3
	p.settle(noon.Add(2*time.Minute), wanted("2", 3))
	p.is(t, "ready", "map[2:3]")

	p.settle(noon.Add(3*time.Minute), wanted("3", 3))
	p.settle(noon.Add(3*time.Minute+HoldMax-time.Second), wanted("3", 3))
	p.is(t, "not ready", "map[2:3 3:3]")
	p.settle(noon.Add(3*time.Minute+HoldMax), wanted("3", 3))
	p.is(t, "never ready", "map[3:3]")

	p.settle(noon, wanted("4", 3))
	p.gone["3"] = true
	p.settle(noon, wanted("4", 3))
	p.is(t, "the version it pointed to was deleted", "map[4:3]")
	p.settle(noon)
	p.is(t, "deleted", "map[]")
	p.settle(noon, wanted("4", 5))
	p.settle(noon, wanted("4", 2))
	p.is(t, "lowered", "map[4:2]")
}

// A schedule sets what its last moment says, across days and weeks; of a moment it knows only once it has come.
func TestSchedule(t *testing.T) {
	s, err := ParseSchedule("live: mon-fri 08:00=10 / mon-fri 18:00=1 / sat+sun 10:00=2 / 7: daily 00:00=3")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at   string
		want int
	}{
		{"2026-07-01T07:59:59Z", 1}, {"2026-07-01T08:00:00Z", 10}, {"2026-07-01T17:59:00Z", 10}, {"2026-07-01T18:00:00Z", 1},
		{"2026-07-04T09:59:00Z", 1}, {"2026-07-04T10:00:00Z", 2}, {"2026-07-06T07:00:00Z", 2}, {"2026-07-06T08:00:00+02:00", 2},
	} {
		at, _ := time.Parse(time.RFC3339, c.at)
		if n, since, ok := s.Latest("live", at); n != c.want || !ok || since.After(at) || at.Sub(since) > 7*24*time.Hour {
			t.Errorf("at %s: %d since %s, want %d", c.at, n, since, c.want)
		}
	}
	if n, _, ok := s.Latest("7", noon); n != 3 || !ok {
		t.Errorf("of version 7: %d", n)
	}
	if _, _, ok := s.Latest("other", noon); ok {
		t.Error("of what has none")
	}
	for _, bad := range []string{"", "mon 08:00=1", "live: mon 8=1", "live: mon 25:00=1", "live: funday 08:00=1", "live: mon 08:00=-1",
		"live: mon 08:00", "live: mon-  08:00=1", "live: 08:00=1", "live: mon 08:00=1000001"} {
		if _, err := ParseSchedule(bad); kiln.KindOf(err) != kiln.KindInvalid || err == nil {
			t.Errorf("%q is taken: %v", bad, err)
		}
	}
}

// A schedule acts from its next moment after its owner put a number, as scheduled actions of AWS do.
func TestScheduleAfterPut(t *testing.T) {
	var s Settings
	if err := s.Read("live: daily 08:00=10 / daily 13:00=4", ""); err != nil {
		t.Fatal(err)
	}
	put := noon
	if n := s.Wanted("live", noon.Add(59*time.Minute), 7, put, nil); n != 7 {
		t.Errorf("%d before the next moment", n)
	}
	if n := s.Wanted("live", noon.Add(time.Hour), 7, put, nil); n != 4 {
		t.Errorf("%d at it", n)
	}
	if n := s.Wanted("beta", noon.Add(time.Hour), 7, put, nil); n != 7 {
		t.Errorf("%d of another", n)
	}
}

// A target follows use: up after a minute of it and not for a spike, down only after a quarter of an hour of less, and
// within its bounds; a schedule beside it gives the least.
func TestTarget(t *testing.T) {
	var s Settings
	if err := s.Read("live: daily 12:30=12", "live: 0.7 2-50"); err != nil {
		t.Fatal(err)
	}
	var tracker Tracker
	now, n, put := noon, 2, noon
	run := func(d time.Duration, executing int) {
		for end := now.Add(d); now.Before(end); now = now.Add(time.Second) {
			tracker.Observe(now, executing)
			n = s.Wanted("live", now, n, put, &tracker)
		}
	}
	run(2*time.Minute, 1)
	if n != 2 {
		t.Errorf("%d with one execution", n)
	}
	run(5*time.Second, 40)
	run(time.Minute, 1)
	if n > 7 {
		t.Errorf("%d after five seconds of forty", n)
	}
	run(90*time.Second, 7)
	if n != 10 {
		t.Errorf("%d for seven executions at 0.7, want 10", n)
	}
	run(2*time.Minute, 100)
	if n != 50 {
		t.Errorf("%d, the most is 50", n)
	}
	run(10*time.Minute, 1)
	if n != 50 {
		t.Errorf("%d after ten minutes of little", n)
	}
	run(10*time.Minute, 1)
	if n != 2 {
		t.Errorf("%d after twenty", n)
	}
	run(10*time.Minute, 1)
	if n != 12 {
		t.Errorf("%d after the schedule's moment", n)
	}
	for _, bad := range []string{"", "0.7 1-5", "live: 0.7", "live: 0 1-5", "live: 1.1 1-5", "live: 0.7 5-1", "live: 0.7 0-0", "live: x 1-5",
		"live: 0.7 1-5 / live: 0.8 1-5", "live: NaN 1-5"} {
		if _, err := ParseTarget(bad); kiln.KindOf(err) != kiln.KindInvalid || err == nil {
			t.Errorf("%q is taken: %v", bad, err)
		}
	}
}

// Parts are fair, sum to no more than there is, leave nothing that somebody wants, and nobody grows into what another
// still has.
func TestFair(t *testing.T) {
	for _, c := range []struct {
		total            int
		want, have, give []int
	}{
		{8, []int{2, 400}, []int{0, 0}, []int{2, 6}},
		{8, []int{400, 400, 1}, []int{0, 0, 0}, []int{3, 4, 1}},
		{8, []int{400, 400}, []int{8, 0}, []int{4, 0}},
		{8, []int{400, 400}, []int{6, 0}, []int{4, 2}},
		{8, []int{400, 400}, []int{4, 4}, []int{4, 4}},
		{1, []int{1, 1}, []int{0, 0}, []int{0, 1}},
		{8, []int{2, 2}, []int{0, 0}, []int{2, 2}},
	} {
		if got := Fair(c.total, c.want, c.have); !slices.Equal(got, c.give) {
			t.Errorf("%d among %v with %v: %v, want %v", c.total, c.want, c.have, got, c.give)
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	for range 20_000 {
		total, n := chance.IntN(12), 1+chance.IntN(5)
		want, have, had := make([]int, n), make([]int, n), 0
		for i := range n {
			want[i], have[i] = chance.IntN(10), chance.IntN(5)
			had += have[i]
		}
		used, given := 0, Fair(total, want, have)
		for i := range n {
			if given[i] < 0 || given[i] > want[i] {
				t.Fatalf("%d among %v with %v: %v", total, want, have, given)
			}
			used += max(have[i], given[i])
		}
		if used > max(total, had) {
			t.Fatalf("%d among %v with %v: %v may use %d", total, want, have, given, used)
		}
	}
}

// FuzzTags: no value of a tag, however wrong, is taken for a setting that cannot be used.
func FuzzTags(f *testing.F) {
	f.Add("live: mon-fri 08:00=10 / sat+sun 10:00=2", "live: 0.7 1-50")
	f.Add("a: b: c", " / / ")
	f.Fuzz(func(t *testing.T, schedule, target string) {
		var s Settings
		if s.Read(schedule, target) != nil {
			return
		}
		for q, moments := range s.Schedule {
			for _, m := range moments {
				if q == "" || m.Executions < 0 || m.Minute < 0 || m.Minute >= 24*60 || m.Day < 0 || m.Day > 6 {
					t.Errorf("%q gives %+v of %q", schedule, m, q)
				}
			}
			s.Wanted(q, noon, 1, noon, &Tracker{})
		}
		for q, one := range s.Targets {
			if n := s.Wanted(q, noon, 1, noon, &Tracker{}); n < one.Min || n > one.Max {
				t.Errorf("%q gives %d", target, n)
			}
		}
	})
}

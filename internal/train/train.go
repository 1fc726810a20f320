// Package train makes the table of package retention's learned hazard from recorded requests, and makes one that was not
// shown the functions it is scored on.
//
// Every minute of a function after its first call is a case: its features as History gives them, and whether there was a
// call. Boosted trees are fitted to them (boost.go), one seed and one set of traces giving the same bytes each time. It
// scores nothing: package sim does. Used by one goroutine at a time.
package train

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"time"

	"kiln"
	"kiln/internal/retention"
	"kiln/internal/trace"
)

// Options say how to fit. The zero value is how the shipped table is made.
type Options struct {
	Seed   uint64
	Trees  int
	Leaves int
	Rate   float64 // how much of each tree counts
	// Lambda holds leaves of few cases near zero, in cases' weight.
	Lambda float64
	// MinHess is the least weight of a leaf, as p(1-p) sums up.
	MinHess float64
	// Rows and Columns are the parts of the cases and of the features each tree sees.
	Rows, Columns float64
	// Copies is how many turned copies of a function that weighs more than 1 are shown.
	Copies int
	// Power is the power of a function's weight that counts.
	Power float64
}

func (o Options) filled() Options {
	def := func(v *float64, d float64) {
		if *v == 0 {
			*v = d
		}
	}
	if o.Trees == 0 {
		o.Trees = 150
	}
	if o.Leaves == 0 {
		o.Leaves = 8
	}
	if o.Copies == 0 {
		o.Copies = 2
	}
	def(&o.Rate, 0.1)
	def(&o.Lambda, 1)
	def(&o.MinHess, 2)
	def(&o.Rows, 0.5)
	def(&o.Columns, 0.5)
	def(&o.Power, 1)
	return o
}

// Fit makes a table from traces. KindInvalid when there is nothing to learn from.
func Fit(ctx context.Context, traces []*trace.Trace, o Options) (*retention.Table, error) {
	o = o.filled()
	var c cases
	for i, t := range traces {
		c.add(t, o, uint64(i))
	}
	if c.hits == 0 {
		return nil, kiln.Errorf(kiln.KindInvalid, "train: fit", "No function of the traces is called twice; there is nothing to learn from.")
	}
	return boost(ctx, &c, o)
}

// Development opens the traces that the shipped table is made from, in a folder. KindNotFound when they are not there.
func Development(dir string) ([]*trace.Trace, error) {
	var all []*trace.Trace
	for _, name := range []string{"azure2019_joint8h.csv.gz", "azure2019_day24h.csv.gz"} {
		t, err := trace.Open(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

// Crossed makes k tables, each of all functions of a trace but a k-th part of them, and says of each function which one
// was not shown it. Copies of one function are in one part. The further traces are shown to all.
func Crossed(ctx context.Context, t *trace.Trace, k int, o Options, further ...*trace.Trace) (tables []*retention.Table, table []int, err error) {
	part := parts(t, k, o.Seed)
	for fold := range k {
		shown := append([]*trace.Trace{t.Only(func(i int) bool { return part[i] != fold })}, further...)
		fitted, err := Fit(ctx, shown, o)
		if err != nil {
			return nil, nil, err
		}
		tables = append(tables, fitted)
	}
	return tables, part, nil
}

// parts parts the functions into k, the copies that trace.Expanded made of one into the same.
func parts(t *trace.Trace, k int, seed uint64) []int {
	index := make(map[string]int)
	of := make([]int, len(t.Functions))
	for i := range t.Functions {
		f := &t.Functions[i]
		name, _, _ := strings.Cut(f.Name, "#")
		id := f.Account + "/" + f.App + "/" + name
		if app, _, copied := strings.Cut(f.App, "#"); copied {
			id = f.Account + "/" + app + "/" + name
		}
		n, seen := index[id]
		if !seen {
			n = len(index)
			index[id] = n
		}
		of[i] = n
	}
	order := rand.New(rand.NewPCG(seed, 0x666f6c6473)).Perm(len(index))
	part := make([]int, len(index))
	for place, i := range order {
		part[i] = place % k
	}
	for i, n := range of {
		of[i] = part[n]
	}
	return of
}

// cases are the minutes to learn from.
type cases struct {
	features []retention.Features
	call     []bool
	weight   []float32
	hits     int
}

// add adds the cases of a trace.
func (c *cases) add(t *trace.Trace, o Options, number uint64) {
	chance := rand.New(rand.NewPCG(o.Seed, 0x6361736573+number))
	for i := range t.Functions {
		f := &t.Functions[i]
		copies := min(f.Weight, o.Copies)
		for range copies {
			by := 0
			if f.Weight > 1 {
				by = chance.IntN(t.Minutes)
			}
			c.function(calledIn(f, t.Minutes, by), pow(float64(f.Weight), o.Power)/float64(copies), chance)
		}
	}
}

// calledIn gives, for each minute, whether a function is called in it, its calls being turned by some minutes.
func calledIn(f *trace.Function, minutes, by int) []bool {
	called := make([]bool, minutes)
	for _, c := range f.Calls {
		called[(int(c.Minute)+by)%minutes] = true
	}
	return called
}

// function adds the cases of one function. Where cases are many and like each other a part stands for all.
func (c *cases) function(called []bool, weight float64, chance interface{ Float64() float64 }) {
	var h retention.History
	last, recent := -1, 0
	for m, call := range called {
		if m >= 180 && called[m-180] {
			recent--
		}
		if last >= 0 {
			if share := share(m-last, recent, call); chance.Float64() < share {
				var x retention.Features
				h.Features(&x, uint32(m-last))
				c.features = append(c.features, x)
				c.call = append(c.call, call)
				c.weight = append(c.weight, float32(weight/share))
				if call {
					c.hits++
				}
			}
		}
		if call {
			h.Arrived(time.Unix(int64(m)*60, 0))
			last = m
			recent++
		}
	}
}

// share is the part of the cases of a kind that is kept.
func share(elapsed, recent int, call bool) float64 {
	switch {
	case elapsed == 1 && recent > 150:
		return 1. / 32
	case call:
		return 1
	case elapsed > 180:
		return 1. / 8
	case elapsed > 60:
		return 1. / 4
	case elapsed > 20:
		return 1. / 2
	}
	return 1
}

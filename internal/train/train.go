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
	// Even is how far a trace of few cases counts as much as one of many, from 0 to 1.
	Even float64
}

func (o Options) filled() Options {
	def := func(v *float64, d float64) {
		if *v == 0 {
			*v = d
		}
	}
	if o.Trees == 0 {
		o.Trees = 200
	}
	if o.Leaves == 0 {
		o.Leaves = 12
	}
	if o.Copies == 0 {
		o.Copies = 2
	}
	def(&o.Rate, 0.07)
	def(&o.Lambda, 1)
	def(&o.MinHess, 2)
	def(&o.Rows, 0.5)
	def(&o.Columns, 0.3)
	def(&o.Power, 0.5)
	def(&o.Even, 0.5)
	return o
}

// Fit makes a table from traces. KindInvalid when there is nothing to learn from.
func Fit(ctx context.Context, traces []*trace.Trace, o Options) (*retention.Table, error) {
	o = o.filled()
	var c cases
	var ends []int
	for i, t := range traces {
		c.add(t, o, uint64(i))
		ends = append(ends, len(c.call))
	}
	c.level(ends, o.Even)
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

// parts parts the functions into k, the copies of one into the same.
func parts(t *trace.Trace, k int, seed uint64) []int {
	of, n := originals(t)
	part := make([]int, n)
	for place, i := range rand.New(rand.NewPCG(seed, 0x666f6c6473)).Perm(n) {
		part[i] = place % k
	}
	for i, original := range of {
		of[i] = part[original]
	}
	return of
}

// originals numbers the functions, the copies that trace.Expanded made of one by the same number, and says how many numbers
// there are.
func originals(t *trace.Trace) (of []int, n int) {
	number := make(map[[3]string]int)
	of = make([]int, len(t.Functions))
	for i := range t.Functions {
		f := &t.Functions[i]
		name, _, _ := strings.Cut(f.Name, "#")
		app, _, _ := strings.Cut(f.App, "#")
		id := [3]string{f.Account, app, name}
		if _, seen := number[id]; !seen {
			number[id] = len(number)
		}
		of[i] = number[id]
	}
	return of, len(number)
}

// cases are the minutes to learn from.
type cases struct {
	features []retention.Features
	call     []bool
	weight   []float32
	hits     int
}

// add adds the cases of a trace. Of functions just like each other a few are shown, for all of them.
func (c *cases) add(t *trace.Trace, o Options, number uint64) {
	chance := rand.New(rand.NewPCG(o.Seed, 0x6361736573+number))
	of, n := originals(t)
	weights, there, shown := make([]int, n), make([]int, n), make([]int, n)
	for i, original := range of {
		weights[original] += t.Functions[i].Weight
		there[original]++
	}
	for i, original := range of {
		f := &t.Functions[i]
		copies := min(weights[original], o.Copies)
		most := copies // of this row
		if there[original] > 1 {
			copies, most = min(copies, there[original]), 1
		}
		for ; most > 0 && shown[original] < copies; most-- {
			shown[original]++
			by := 0
			if f.Weight > 1 {
				by = chance.IntN(t.Minutes)
			}
			c.function(calledIn(f, t.Minutes, by), pow(float64(weights[original]), o.Power)/float64(copies), chance)
		}
	}
}

// level weighs the traces, which end at some places, against each other: with even 1 all count the same, with 0 as much as
// they have cases. Then a case weighs 1 on average.
func (c *cases) level(ends []int, even float64) {
	from := 0
	var all float64
	for _, to := range ends {
		var sum float64
		for _, w := range c.weight[from:to] {
			sum += float64(w)
		}
		for i := from; i < to; i++ {
			c.weight[i] /= float32(pow(sum, even))
			all += float64(c.weight[i])
		}
		from = to
	}
	for i := range c.weight {
		c.weight[i] *= float32(float64(len(c.weight)) / all)
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

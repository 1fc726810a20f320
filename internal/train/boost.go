package train

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"

	"kiln"
	"kiln/internal/retention"
)

// pow is math.Pow; 1 gives the value itself.
func pow(v, p float64) float64 {
	if p == 1 {
		return v
	}
	return math.Pow(v, p)
}

const (
	maxBins = 128 // values of a feature that are told apart
	columns = len(retention.Features{})
	unit    = 1 << 10 // of gradients, which are summed as whole numbers: their order does not matter then
)

// booster grows the trees.
type booster struct {
	o      Options
	cases  *cases
	edges  [columns][]float32
	bins   [][columns]uint8
	margin []float32
	grad   []cell
	chance *rand.Rand
	table  *retention.Table

	order []int32 // cases by leaf
	spare []int32
	using []int // features of this tree
}

// cell is a sum of gradients and second derivatives, in units.
type cell struct{ g, h int64 }

// histogram is a leaf's sums by feature and bin.
type histogram [columns][maxBins]cell

// boost fits the trees, and stops early when the context ends.
func boost(ctx context.Context, c *cases, o Options) (*retention.Table, error) {
	b := &booster{o: o, cases: c, chance: rand.New(rand.NewPCG(o.Seed, 0x7472656573))}
	var all, hits float64
	for i, w := range c.weight {
		all += float64(w)
		if c.call[i] {
			hits += float64(w)
		}
	}
	base := float32(math.Log(hits / max(all-hits, 1)))
	b.table = retention.NewTable(base)
	b.margin = make([]float32, len(c.call))
	for i := range b.margin {
		b.margin[i] = base
	}
	b.bin()
	b.grad = make([]cell, len(c.call))
	b.order, b.spare = make([]int32, 0, len(c.call)), make([]int32, len(c.call))
	for range o.Trees {
		if err := context.Cause(ctx); err != nil {
			return nil, kiln.Wrap(kiln.KindUnavailable, "train: fit", "The training was broken off.", err)
		}
		b.tree()
	}
	return b.table, nil
}

// bin finds each feature's edges, half of them by all cases and half by those with a call, and puts every case in its bin.
func (b *booster) bin() {
	b.bins = make([][columns]uint8, len(b.cases.call))
	var all, hits []float32
	for f := range columns {
		all, hits = all[:0], hits[:0]
		for i := range b.cases.features {
			v := b.cases.features[i][f]
			all = append(all, v)
			if b.cases.call[i] {
				hits = append(hits, v)
			}
		}
		b.edges[f] = edges(all, hits)
		for i := range b.cases.features {
			n, _ := slices.BinarySearch(b.edges[f], b.cases.features[i][f])
			b.bins[i][f] = uint8(n)
		}
	}
}

// edges gives at most maxBins-1 values; a case is in bin i when its value is at most edge i and above the one before.
func edges(all, hits []float32) []float32 {
	var out []float32
	for _, values := range [][]float32{all, hits} {
		slices.Sort(values)
		parts := maxBins / 2
		for i := 1; i < parts; i++ {
			at := i * len(values) / parts
			if v := values[at]; v < values[len(values)-1] {
				out = append(out, middle(values, at))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// middle gives the value between that at a place and the next greater one.
func middle(sorted []float32, at int) float32 {
	v := sorted[at]
	n, _ := slices.BinarySearch(sorted[at:], math.Nextafter32(v, math.MaxFloat32))
	return v + (sorted[at+n]-v)/2
}

// leaf is one of a growing tree.
type leaf struct {
	from, to int // of order
	sums     *histogram
	total    cell
	gain     float64
	feature  int
	bin      int
	parent   int // split it hangs from, and on which side
	right    bool
}

// tree grows one, leaf by leaf where it gains most.
func (b *booster) tree() {
	b.gradients()
	b.order = b.order[:0]
	for i := range b.cases.call {
		if b.chance.Float64() < b.o.Rows {
			b.order = append(b.order, int32(i))
		}
	}
	b.using = b.chance.Perm(columns)[:max(1, int(b.o.Columns*float64(columns)))]
	slices.Sort(b.using)
	root := &leaf{to: len(b.order), parent: -1, sums: new(histogram)}
	b.sum(root)
	b.best(root)
	leaves := []*leaf{root}
	var splits []retention.Split
	for len(leaves) < b.o.Leaves {
		at := 0
		for i, l := range leaves {
			if l.gain > leaves[at].gain {
				at = i
			}
		}
		l := leaves[at]
		if l.gain <= 0 {
			break
		}
		if l.parent >= 0 {
			link(&splits[l.parent], l.right, len(splits))
		}
		left, right := b.split(l, len(splits))
		splits = append(splits, retention.Split{Feature: l.feature, Edge: b.edges[l.feature][l.bin]})
		leaves[at] = left
		leaves = append(leaves, right)
	}
	values := make([]float32, len(leaves))
	for i, l := range leaves {
		if l.parent >= 0 {
			link(&splits[l.parent], l.right, -1-i)
		}
		values[i] = float32(b.o.Rate * float64(-l.total.g) / (float64(l.total.h) + b.o.Lambda*unit))
	}
	b.table.Add(splits, values)
	b.apply(splits, values)
}

func link(s *retention.Split, right bool, to int) {
	if right {
		s.Right = to
	} else {
		s.Left = to
	}
}

// gradients are the log loss's.
func (b *booster) gradients() {
	for i, call := range b.cases.call {
		p := 1 / (1 + math.Exp(-float64(b.margin[i])))
		w := float64(b.cases.weight[i]) * unit
		g := p
		if call {
			g = p - 1
		}
		b.grad[i] = cell{int64(math.Round(g * w)), max(1, int64(math.Round(p*(1-p)*w)))}
	}
}

// apply adds the tree to the margins of all cases, also those it was not shown.
func (b *booster) apply(splits []retention.Split, values []float32) {
	if len(splits) == 0 {
		for i := range b.margin {
			b.margin[i] += values[0]
		}
		return
	}
	cut := make([]uint8, len(splits))
	for i, s := range splits {
		n, _ := slices.BinarySearch(b.edges[s.Feature], s.Edge)
		cut[i] = uint8(n)
	}
	for i := range b.margin {
		row := &b.bins[i]
		at := 0
		for at >= 0 {
			s := &splits[at]
			if row[s.Feature] <= cut[at] {
				at = s.Left
			} else {
				at = s.Right
			}
		}
		b.margin[i] += values[-1-at]
	}
}

// sum fills a leaf's histogram from its cases.
func (b *booster) sum(l *leaf) {
	for _, i := range b.order[l.from:l.to] {
		g, row := b.grad[i], &b.bins[i]
		for _, f := range b.using {
			c := &l.sums[f][row[f]&(maxBins-1)]
			c.g += g.g
			c.h += g.h
		}
		l.total.g += g.g
		l.total.h += g.h
	}
}

// best finds the split of a leaf that gains most.
func (b *booster) best(l *leaf) {
	lambda, least := b.o.Lambda*unit, int64(b.o.MinHess*unit)
	worth := func(c cell) float64 { return float64(c.g) / (float64(c.h) + lambda) * float64(c.g) }
	whole := worth(l.total)
	for _, f := range b.using {
		var left cell
		for bin := range b.edges[f] {
			left.g += l.sums[f][bin].g
			left.h += l.sums[f][bin].h
			right := cell{l.total.g - left.g, l.total.h - left.h}
			if left.h < least || right.h < least {
				continue
			}
			if gain := worth(left) + worth(right) - whole; gain > l.gain {
				l.gain, l.feature, l.bin = gain, f, bin
			}
		}
	}
}

// split parts a leaf's cases in two. The sums of the greater part are what the smaller leaves of the whole.
func (b *booster) split(l *leaf, number int) (left, right *leaf) {
	at, other := l.from, 0
	for _, i := range b.order[l.from:l.to] {
		if int(b.bins[i][l.feature]) <= l.bin {
			b.order[at] = i
			at++
		} else {
			b.spare[other] = i
			other++
		}
	}
	copy(b.order[at:l.to], b.spare[:other])
	left = &leaf{from: l.from, to: at, parent: number}
	right = &leaf{from: at, to: l.to, parent: number, right: true}
	small, large := left, right
	if small.to-small.from > large.to-large.from {
		small, large = large, small
	}
	small.sums, large.sums = new(histogram), l.sums
	b.sum(small)
	for _, f := range b.using {
		for i := range large.sums[f] {
			large.sums[f][i].g -= small.sums[f][i].g
			large.sums[f][i].h -= small.sums[f][i].h
		}
	}
	large.total = cell{l.total.g - small.total.g, l.total.h - small.total.h}
	b.best(left)
	b.best(right)
	return left, right
}

package retention

import (
	_ "embed"
	"encoding/binary"
	"math"

	"kiln"
)

// Table is the learned hazard: boosted trees over Features. It is made by package train, read from bytes, and not changed
// after that.
type Table struct {
	base  float32 // log-odds where all trees begin
	trees []tree
	nodes []node // of all trees, a parent before its children
	leafs []float32
}

// tree says where a tree's nodes and leaves begin.
type tree struct{ nodes, leafs uint32 }

// node sends a minute left when its feature is at most the edge, else right. Children are nodes of the same tree, counted
// from its first; from leafFrom on they are leaves.
type node struct {
	edge        float32
	feature     uint8
	left, right uint8
}

// leafFrom tells leaves from nodes.
const leafFrom = 128

// What a table may hold, so that a broken one is refused.
const (
	maxTrees  = 4096
	maxLeaves = 64 // of a tree
)

//go:embed table.bin
var shipped string

// Shipped gives the table this version of Kiln comes with. kiln train makes it.
func Shipped() (*Table, error) { return ParseTable([]byte(shipped)) }

// The form of a table: magic, version, number of features, base, number of trees; of each its number of leaves, its nodes
// (feature, left, right, edge) and its leaves. Little endian.
const tableMagic = "KILNHZ1"

// Bytes gives the table's form on disk.
func (t *Table) Bytes() []byte {
	b := append([]byte(tableMagic), nFeatures)
	b = binary.LittleEndian.AppendUint32(b, math.Float32bits(t.base))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(t.trees)))
	for i := range t.trees {
		nodes, leafs := t.of(i)
		b = append(b, byte(len(leafs)))
		for _, n := range nodes {
			b = append(b, n.feature, n.left, n.right)
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(n.edge))
		}
		for _, l := range leafs {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(l))
		}
	}
	return b
}

// Trees is how many trees there are.
func (t *Table) Trees() int { return len(t.trees) }

// of gives the nodes and leaves of a tree.
func (t *Table) of(i int) ([]node, []float32) {
	nodes, leafs := len(t.nodes), len(t.leafs)
	if i+1 < len(t.trees) {
		nodes, leafs = int(t.trees[i+1].nodes), int(t.trees[i+1].leafs)
	}
	return t.nodes[t.trees[i].nodes:nodes], t.leafs[t.trees[i].leafs:leafs]
}

// ParseTable reads what Bytes gave. KindInvalid when it is no table of this version's features: it is to be trained again.
func ParseTable(b []byte) (*Table, error) {
	r := reader{b: b}
	if string(r.take(len(tableMagic))) != tableMagic || r.byte() != nFeatures {
		return nil, kiln.Errorf(kiln.KindInvalid, "retention: read table", "This is no table of this version of Kiln; make it again with kiln train.")
	}
	t := &Table{base: r.float()}
	n := int(r.byte()) | int(r.byte())<<8
	if n > maxTrees {
		r.broken = true
	}
	for range n {
		if r.broken {
			break
		}
		r.tree(t)
	}
	if r.broken || len(r.b) > 0 {
		return nil, kiln.Errorf(kiln.KindInvalid, "retention: read table", "The table is broken; make it again with kiln train.")
	}
	return t, nil
}

// reader takes a table apart. Once broken it gives zeros.
type reader struct {
	b      []byte
	broken bool
}

func (r *reader) take(n int) []byte {
	if len(r.b) < n {
		r.broken, r.b = true, nil
		return make([]byte, n)
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte     { return r.take(1)[0] }
func (r *reader) float() float32 { return math.Float32frombits(binary.LittleEndian.Uint32(r.take(4))) }

// tree reads one. A child that is not behind its parent would send a minute in a circle.
func (r *reader) tree(t *Table) {
	leaves := int(r.byte())
	if leaves < 1 || leaves > maxLeaves {
		r.broken = true
		return
	}
	t.trees = append(t.trees, tree{uint32(len(t.nodes)), uint32(len(t.leafs))})
	good := func(child uint8, parent int) bool {
		if child >= leafFrom {
			return int(child-leafFrom) < leaves
		}
		return int(child) > parent && int(child) < leaves-1
	}
	for i := range leaves - 1 {
		n := node{feature: r.byte(), left: r.byte(), right: r.byte(), edge: r.float()}
		r.broken = r.broken || n.feature >= nFeatures || !good(n.left, i) || !good(n.right, i)
		t.nodes = append(t.nodes, n)
	}
	for range leaves {
		t.leafs = append(t.leafs, r.float())
	}
}

// Add puts a tree behind the others: its nodes with children as in Split, its leaves in log-odds. For package train.
func (t *Table) Add(splits []Split, leaves []float32) {
	t.trees = append(t.trees, tree{uint32(len(t.nodes)), uint32(len(t.leafs))})
	for _, s := range splits {
		t.nodes = append(t.nodes, node{edge: s.Edge, feature: uint8(s.Feature), left: child(s.Left), right: child(s.Right)})
	}
	t.leafs = append(t.leafs, leaves...)
}

// Split is a node of a tree that is being made. A child of 0 or more is a split of the tree, one below is leaf -1-child.
type Split struct {
	Feature     int
	Edge        float32
	Left, Right int
}

func child(n int) uint8 {
	if n < 0 {
		return uint8(leafFrom - 1 - n)
	}
	return uint8(n)
}

// NewTable gives a table without trees: the same log-odds for every minute.
func NewTable(base float32) *Table { return &Table{base: base} }

// Hazard is the probability of a call in a minute with these features.
func (t *Table) Hazard(f *Features) float64 {
	sum := t.base
	for i := range t.trees {
		at := t.trees[i]
		nodes := t.nodes[at.nodes:]
		next := uint8(0)
		if len(t.nodes) == int(at.nodes) {
			next = leafFrom
		}
		for next < leafFrom {
			n := &nodes[next]
			next = n.right
			if f[n.feature] <= n.edge {
				next = n.left
			}
		}
		sum += t.leafs[at.leafs+uint32(next-leafFrom)]
	}
	return 1 / (1 + math.Exp(-float64(sum)))
}

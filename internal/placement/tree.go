package placement

import (
	"slices"

	"kiln"
)

// blockMax is how many entries a block has at most. Two neighbours that have no more than half of that together are joined.
const blockMax = 64

// fewMax is how many entries a tree holds in itself, before it has blocks: most packages are on one or two instances.
const fewMax = 2

// tree orders instances by their free memory, then by age. It is a B+ tree of two levels: entries in blocks, so that a
// choice reads a few neighbouring cache lines, and never the instances it passes over. What it costs at a hundred thousand
// containers is the memory it touches, not its steps; the first entries are therefore in the tree itself.
type tree struct {
	count  int32
	homes  int32         // that keep it although it is empty
	few    [fewMax]entry // the entries, in order, while there are no blocks
	blocks []block       // in order; none is empty. Once made they stay until the tree is empty
}

// block is a run of entries in order.
type block struct{ entries []entry }

// entry is one instance's place in the order.
type entry struct {
	free     int // the room it was put in with
	sequence uint64
	in       *Instance
}

// slot is one instance's place in one tree.
type slot struct {
	tree   *tree
	in     *Instance
	digest kiln.Digest // of a package's tree
	free   int         // the room it was put in with
}

func (t *tree) len() int32 {
	if t == nil {
		return 0
	}
	return t.count
}

// fit gives the instance with the least free memory that has memoryMiB, nil when none has.
func (t *tree) fit(memoryMiB int) *Instance {
	if t == nil || t.count == 0 {
		return nil
	}
	if t.blocks == nil {
		if i := t.findFew(memoryMiB, 0); i < int(t.count) {
			return t.few[i].in
		}
		return nil
	}
	b, i := t.find(memoryMiB, 0)
	if b == len(t.blocks) {
		return nil
	}
	return t.blocks[b].entries[i].in
}

func (t *tree) add(in *Instance) *slot {
	s := &slot{in: in}
	t.put(s)
	return s
}

// put inserts a slot that is in no tree.
func (t *tree) put(s *slot) {
	s.tree, s.free = t, s.in.FreeMiB
	t.insert(entry{s.free, s.in.Sequence, s.in})
}

// refit moves a slot to where its new room puts it.
func (s *slot) refit() {
	t := s.tree
	t.remove(s)
	t.put(s)
}

// findFew gives the first of the entries in the tree itself that is not before the free memory and the sequence given.
func (t *tree) findFew(free int, sequence uint64) int {
	i := 0
	for i < int(t.count) && t.few[i].before(free, sequence) {
		i++
	}
	return i
}

// find gives the first entry that is not before the free memory and the sequence given; the block after the last when there
// is none.
func (t *tree) find(free int, sequence uint64) (b, i int) {
	low, high := 0, len(t.blocks)-1
	for low < high {
		middle := (low + high) / 2
		if entries := t.blocks[middle].entries; entries[len(entries)-1].before(free, sequence) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	entries := t.blocks[low].entries
	at, end := 0, 1
	for end < len(entries) && entries[end-1].before(free, sequence) { // what is wanted is mostly near the beginning
		at, end = end, 2*end
	}
	end = min(end, len(entries))
	for at < end {
		middle := (at + end) / 2
		if entries[middle].before(free, sequence) {
			at = middle + 1
		} else {
			end = middle
		}
	}
	if at == len(entries) {
		return low + 1, 0
	}
	return low, at
}

func (e *entry) before(free int, sequence uint64) bool {
	return e.free < free || e.free == free && e.sequence < sequence
}

func (t *tree) insert(e entry) {
	if t.blocks == nil {
		i := t.findFew(e.free, e.sequence)
		if t.count < fewMax {
			copy(t.few[i+1:], t.few[i:])
			t.few[i] = e
			t.count++
			return
		}
		entries := append(make([]entry, 0, 2*(fewMax+1)), t.few[:]...)
		t.blocks, t.few = []block{{entries}}, [fewMax]entry{}
	}
	t.count++
	b, i := t.find(e.free, e.sequence)
	if b == len(t.blocks) {
		b, i = b-1, len(t.blocks[b-1].entries)
	}
	entries := slices.Insert(t.blocks[b].entries, i, e)
	t.blocks[b].entries = entries
	if len(entries) > blockMax {
		half := len(entries) / 2
		t.blocks = slices.Insert(t.blocks, b+1, block{append(make([]entry, 0, blockMax+1), entries[half:]...)})
		clear(entries[half:])
		t.blocks[b].entries = entries[:half]
	}
}

func (t *tree) remove(s *slot) {
	s.tree = nil
	t.count--
	if t.blocks == nil {
		i := t.findFew(s.free, s.in.Sequence)
		copy(t.few[i:], t.few[i+1:])
		t.few[fewMax-1] = entry{}
		return
	}
	b, i := t.find(s.free, s.in.Sequence)
	t.blocks[b].entries = slices.Delete(t.blocks[b].entries, i, i+1)
	if len(t.blocks) == 1 {
		if t.count == 0 {
			t.blocks = nil
		}
		return
	}
	if b == len(t.blocks)-1 {
		b--
	}
	left, right := t.blocks[b].entries, t.blocks[b+1].entries
	if len(left) == 0 || len(right) == 0 || len(left)+len(right) <= blockMax/2 {
		t.blocks[b].entries = append(left, right...)
		t.blocks = slices.Delete(t.blocks, b+1, b+2)
	}
}

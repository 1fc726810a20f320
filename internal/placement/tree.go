package placement

import "kiln"

// tree orders instances by their free memory, then by age: a treap, whose shape follows from the instances' sequence
// numbers alone, so that one history gives one tree.
type tree struct {
	root  *slot
	count int32
	homes int // that keep it although it is empty
}

// slot is one instance's place in one tree.
type slot struct {
	tree        *tree
	in          *Instance
	digest      kiln.Digest // of a package's tree
	free        int         // the room it was put in with
	sequence    uint64      // the instance's, here so that a walk stays among slots
	priority    uint64
	left, right *slot
}

func (t *tree) len() int32 {
	if t == nil {
		return 0
	}
	return t.count
}

// fit gives the instance with the least free memory that has memoryMiB, nil when none has.
func (t *tree) fit(memoryMiB int) *Instance {
	if t == nil {
		return nil
	}
	var best *Instance
	for s := t.root; s != nil; {
		if s.free >= memoryMiB {
			best, s = s.in, s.left
		} else {
			s = s.right
		}
	}
	return best
}

func (t *tree) add(in *Instance) *slot {
	s := &slot{in: in}
	t.put(s)
	return s
}

// put inserts a slot that is in no tree.
func (t *tree) put(s *slot) {
	s.tree, s.free, s.sequence, s.priority = t, s.in.FreeMiB, s.in.Sequence, mix(s.in.Sequence)
	t.insert(s)
}

// refit moves a slot to where its new room puts it.
func (s *slot) refit() {
	t := s.tree
	if t.count == 1 {
		s.free = s.in.FreeMiB
		return
	}
	t.remove(s)
	t.put(s)
}

func (t *tree) insert(s *slot) {
	at := &t.root
	for *at != nil && (*at).priority >= s.priority {
		if s.before(*at) {
			at = &(*at).left
		} else {
			at = &(*at).right
		}
	}
	s.left, s.right = split(*at, s)
	*at = s
	t.count++
}

func (t *tree) remove(s *slot) {
	at := &t.root
	for *at != s {
		if s.before(*at) {
			at = &(*at).left
		} else {
			at = &(*at).right
		}
	}
	*at = join(s.left, s.right)
	s.left, s.right, s.tree = nil, nil, nil
	t.count--
}

func (s *slot) before(o *slot) bool {
	if s.free != o.free {
		return s.free < o.free
	}
	return s.sequence < o.sequence
}

// split parts the slots under t into those before s and those after.
func split(t, s *slot) (before, after *slot) {
	if t == nil {
		return nil, nil
	}
	if s.before(t) {
		before, t.left = split(t.left, s)
		return before, t
	}
	t.right, after = split(t.right, s)
	return t, after
}

// join puts two trees together, all of a before all of b.
func join(a, b *slot) *slot {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	if a.priority >= b.priority {
		a.right = join(a.right, b)
		return a
	}
	b.left = join(a, b.left)
	return b
}

// mix spreads a sequence number over 64 bits (splitmix64's finaliser, Steele, Lea and Flood 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

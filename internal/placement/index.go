package placement

import (
	"slices"

	"kiln"
)

// Update brings the index up to date with an instance's State, Account and FreeMiB. It costs a few steps, times the
// packages the instance holds when its room changed.
func (x *Index) Update(in *Instance) {
	to := in.place()
	if to == in.spot {
		in.refit()
		return
	}
	x.remove(in)
	in.spot = to
	switch to {
	case spotBooting:
		push(x.booting, in)
	case spotWarm:
		push(x.warm, in)
	case spotStarting:
		in.room = grow(x.starting, in.owner()).add(in)
	case spotAssigned:
		in.room = grow(x.rooms, in.owner()).add(in)
		for _, s := range in.packages {
			grow(x.packages, holding{in.owner(), s.digest}).put(s)
		}
	}
}

// Hold notes that the instance's code cache has the package, or is about to.
func (x *Index) Hold(in *Instance, digest kiln.Digest) {
	if in.Holds(digest) {
		return
	}
	s := &slot{in: in, digest: digest}
	in.packages = append(in.packages, s)
	if in.spot == spotAssigned {
		grow(x.packages, holding{in.owner(), digest}).put(s)
	}
}

// Drop notes that the instance's code cache has the package no more.
func (x *Index) Drop(in *Instance, digest kiln.Digest) {
	i := in.find(digest)
	if i < 0 {
		return
	}
	if s := in.packages[i]; s.tree != nil {
		shrink(x.packages, holding{in.owner(), digest}, s)
	}
	in.packages = slices.Delete(in.packages, i, i+1)
}

// Holds says whether the package is in the instance's code cache, or about to be.
func (in *Instance) Holds(digest kiln.Digest) bool { return in.find(digest) >= 0 }

func (in *Instance) find(digest kiln.Digest) int {
	return slices.IndexFunc(in.packages, func(s *slot) bool { return s.digest == digest })
}

// Warm counts the warm instances of a configuration, Booting the unclaimed ones that boot.
func (x *Index) Warm(c kiln.Configuration) int    { return x.warm[c].len() }
func (x *Index) Booting(c kiln.Configuration) int { return x.booting[c].len() }

// Oldest gives the warm instance of a configuration that waited longest, nil when there is none.
func (x *Index) Oldest(c kiln.Configuration) *Instance {
	if q := x.warm[c]; q != nil {
		return q.first
	}
	return nil
}

// Home gives where the candidates for a need are, for choices to come. Give it back with Leave.
func (x *Index) Home(need Need) Home {
	own := need.owner()
	h := Home{rooms: grow(x.rooms, own), starting: grow(x.starting, own), packages: grow(x.packages, holding{own, need.Package})}
	for _, t := range []*tree{h.rooms, h.starting, h.packages} {
		t.homes++
	}
	return h
}

// Leave gives the home of a need back, which must not be used any more.
func (x *Index) Leave(need Need) {
	for _, t := range []*tree{need.Home.rooms, need.Home.starting, need.Home.packages} {
		t.homes--
	}
	own := need.owner()
	prune(x.rooms, own)
	prune(x.starting, own)
	prune(x.packages, holding{own, need.Package})
}

func (n *Need) owner() owner { return owner{n.Account, n.Driver, n.Runtime} }

// place derives from an instance's state where in the index it belongs.
func (in *Instance) place() spot {
	switch in.State {
	case kiln.InstanceBooting:
		if in.Account == "" {
			return spotBooting
		}
		return spotStarting
	case kiln.InstanceWarm:
		return spotWarm
	case kiln.InstanceAssigned:
		return spotAssigned
	}
	return spotNone
}

func (in *Instance) owner() owner {
	return owner{in.Account, in.Configuration.Driver, in.Configuration.Runtime}
}

// refit moves the instance in the trees it is in to where its room now puts it.
func (in *Instance) refit() {
	if in.room == nil || in.room.free == in.FreeMiB {
		return
	}
	in.room.refit()
	if in.spot == spotAssigned {
		for _, s := range in.packages {
			s.refit()
		}
	}
}

// remove takes the instance out of where it stands. The account may have been set meanwhile only when it had none.
func (x *Index) remove(in *Instance) {
	switch in.spot {
	case spotBooting, spotWarm:
		in.queue.remove(in)
	case spotStarting:
		shrink(x.starting, in.owner(), in.room)
	case spotAssigned:
		shrink(x.rooms, in.owner(), in.room)
		for _, s := range in.packages {
			shrink(x.packages, holding{in.owner(), s.digest}, s)
		}
	}
	in.room, in.spot = nil, spotNone
}

// grow gives the tree under a key, made when there is none.
func grow[K comparable](trees map[K]*tree, key K) *tree {
	t := trees[key]
	if t == nil {
		t = &tree{}
		trees[key] = t
	}
	return t
}

// shrink takes a slot out of the tree under a key.
func shrink[K comparable](trees map[K]*tree, key K, s *slot) {
	s.tree.remove(s)
	prune(trees, key)
}

// prune takes a tree that is empty and nobody's home out of the map.
func prune[K comparable](trees map[K]*tree, key K) {
	if t := trees[key]; t.count == 0 && t.homes == 0 {
		delete(trees, key)
	}
}

// queue lists instances of one configuration, oldest first.
type queue struct {
	first, last *Instance
	count       int
}

func (q *queue) len() int {
	if q == nil {
		return 0
	}
	return q.count
}

func push(queues map[kiln.Configuration]*queue, in *Instance) {
	q := queues[in.Configuration]
	if q == nil {
		q = &queue{}
		queues[in.Configuration] = q
	}
	in.queue, in.previous, in.next = q, q.last, nil
	if q.last != nil {
		q.last.next = in
	} else {
		q.first = in
	}
	q.last = in
	q.count++
}

func (q *queue) remove(in *Instance) {
	if in.previous != nil {
		in.previous.next = in.next
	} else {
		q.first = in.next
	}
	if in.next != nil {
		in.next.previous = in.previous
	} else {
		q.last = in.previous
	}
	in.queue, in.previous, in.next = nil, nil, nil
	q.count--
}

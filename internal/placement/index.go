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
		in.room = x.house(in.owner()).starting.add(in)
	case spotAssigned:
		house := x.house(in.owner())
		in.room = house.rooms.add(in)
		for _, s := range in.packages {
			x.holders(house, s.digest).put(s)
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
		x.holders(x.house(in.owner()), digest).put(s)
	}
}

// Drop notes that the instance's code cache has the package no more.
func (x *Index) Drop(in *Instance, digest kiln.Digest) {
	i := in.find(digest)
	if i < 0 {
		return
	}
	if s := in.packages[i]; s.tree != nil {
		own := in.owner()
		x.release(x.houses[own], s)
		x.prune(own)
	}
	in.packages = slices.Delete(in.packages, i, i+1)
}

// Holds says whether the package is in the instance's code cache, or about to be.
func (in *Instance) Holds(digest kiln.Digest) bool { return in.find(digest) >= 0 }

func (in *Instance) find(digest kiln.Digest) int {
	return slices.IndexFunc(in.packages, func(s *slot) bool { return s.digest == digest })
}

// Warm counts the warm instances of a configuration that are kept for an account, or with no account for all, Booting the
// unclaimed ones that boot.
func (x *Index) Warm(c kiln.Configuration, reserved kiln.AccountID) int {
	return x.warm[unowned{c, reserved}].len()
}

// Booting is Warm for those that boot.
func (x *Index) Booting(c kiln.Configuration, reserved kiln.AccountID) int {
	return x.booting[unowned{c, reserved}].len()
}

// Oldest gives the warm instance of a configuration that waited longest, nil when there is none; reserved as for Warm.
func (x *Index) Oldest(c kiln.Configuration, reserved kiln.AccountID) *Instance {
	if q := x.warm[unowned{c, reserved}]; q != nil {
		return q.first
	}
	return nil
}

// Keep says that instances of a configuration are kept for an account, and whether one that its amount fits takes those
// alone. NotKept takes it back.
func (x *Index) Keep(c kiln.Configuration, account kiln.AccountID, alone bool) {
	x.kept[unowned{c, account}] = alone
}

// NotKept takes back what Keep said.
func (x *Index) NotKept(c kiln.Configuration, account kiln.AccountID) {
	delete(x.kept, unowned{c, account})
}

// Home gives where the candidates for a need are, for choices to come. Give it back with Leave.
func (x *Index) Home(need Need) Home {
	h := Home{house: x.house(need.owner())}
	h.packages = x.holders(h.house, need.Package)
	h.house.users++
	h.packages.homes++
	return h
}

// Leave gives the home of a need back, which must not be used any more.
func (x *Index) Leave(need Need) {
	h := need.Home
	h.house.users--
	h.packages.homes--
	x.pruneHolders(h.house, h.packages, need.Package)
	x.prune(need.owner())
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
	case spotStarting, spotAssigned:
		own := in.owner()
		house := x.houses[own]
		if in.spot == spotAssigned {
			for _, s := range in.packages {
				x.release(house, s)
			}
		}
		in.room.tree.remove(in.room)
		x.prune(own)
	}
	in.room, in.spot = nil, spotNone
}

// house gives an owner's household, made when there is none.
func (x *Index) house(own owner) *household {
	h := x.houses[own]
	if h == nil {
		h = &household{}
		x.houses[own] = h
	}
	return h
}

// prune forgets an owner's household when nothing is in it and nobody names it.
func (x *Index) prune(own owner) {
	if h := x.houses[own]; h.rooms.count == 0 && h.starting.count == 0 && h.users == 0 {
		delete(x.houses, own)
	}
}

// holders gives the tree of a household's instances that hold a package, made when there is none.
func (x *Index) holders(house *household, digest kiln.Digest) *tree {
	p := x.parcels[digest]
	if p == nil {
		p = &parcel{digest: digest}
		x.parcels[digest] = p
	}
	t := x.packages[holding{house, p}]
	if t == nil {
		t = &tree{}
		x.packages[holding{house, p}] = t
		house.users++
		p.users++
	}
	return t
}

// release takes a slot out of the tree of its package.
func (x *Index) release(house *household, s *slot) {
	t := s.tree
	t.remove(s)
	x.pruneHolders(house, t, s.digest)
}

// pruneHolders forgets a tree of a package that is empty and nobody's home. The household stays, for prune.
func (x *Index) pruneHolders(house *household, t *tree, digest kiln.Digest) {
	if t.count > 0 || t.homes > 0 {
		return
	}
	p := x.parcels[digest]
	delete(x.packages, holding{house, p})
	house.users--
	if p.users--; p.users == 0 {
		delete(x.parcels, digest)
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

func push(queues map[unowned]*queue, in *Instance) {
	key := unowned{in.Configuration, in.Reserved}
	q := queues[key]
	if q == nil {
		q = &queue{}
		queues[key] = q
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

package node

import (
	"container/list"
	"context"
	"time"

	"kiln"
)

// What an instance's code cache may keep that none of its containers uses. Beyond it, and whenever the node's own cache is
// beyond its bound, the least recently used are detached.
const (
	// UnusedPackages is how many an instance keeps.
	UnusedPackages = 32
	// UnusedBytes is how much they take on disk together, in bytes: four packages of the largest size.
	UnusedBytes = 4 * kiln.MaxPackageUnpackedBytes
)

// instance is what the node remembers of one: its containers and its code cache. Everything is guarded by Node.mu.
type instance struct {
	id          kiln.InstanceID
	gone        bool
	containers  map[kiln.ContainerID]*attachment // what each uses; nil until it is bound
	packages    map[kiln.Digest]*attachment
	unused      list.List // of *attachment, ready and used by no container, the last used first
	unusedBytes int64
}

// attachment is one package in an instance's code cache, or on its way there or out of it.
type attachment struct {
	in      *instance
	digest  kiln.Digest
	account kiln.AccountID
	done    chan struct{} // closed when it is there or failed
	err     error         // set before done

	// Guarded by Node.mu.
	held  Package       // what the node's cache holds for it; without Release unless attached
	users int           // containers
	place *list.Element // in instance.unused
	since uint64        // when it was used last, in Node.uses
	left  chan struct{} // set while it is detached, closed when that is over
}

// attach brings the package of b into its instance for a container, once however many ask at the same time, and gives its
// folder on the node. It stays until the container is deleted. A failed attempt is not remembered.
func (n *Node) attach(ctx context.Context, b *Bind) (dir string, err error) {
	const op = "node: attach package"
	for {
		a, first, left, err := n.use(b)
		if err != nil {
			return "", err
		}
		if first {
			n.fill(ctx, b, a)
		}
		var done <-chan struct{}
		if a != nil {
			done = a.done
		}
		select {
		case <-left: // detached: once more
			continue
		case <-done:
			err = a.err
		case <-ctx.Done():
			err = kiln.Wrap(kiln.KindUnavailable, op, "Stopped while waiting for the package.", context.Cause(ctx))
		}
		if err != nil {
			n.let(ctx, b.Instance, b.Container, false)
			return "", err
		}
		if first {
			n.trim(ctx, a.in)
		}
		return a.held.Dir, nil
	}
}

// use makes a container a user of b's package; first is true when the caller is to bring it. While the package is being
// detached there is only left, to wait for.
func (n *Node) use(b *Bind) (a *attachment, first bool, left <-chan struct{}, err error) {
	const op = "node: attach package"
	n.mu.Lock()
	defer n.mu.Unlock()
	in := n.instances[b.Instance]
	if in == nil {
		return nil, false, nil, kiln.Errorf(kiln.KindNotFound, op, "No instance %s.", b.Instance)
	}
	if _, there := in.containers[b.Container]; !there {
		return nil, false, nil, kiln.Errorf(kiln.KindNotFound, op, "No container %s.", b.Container)
	}
	digest := b.Version.Package
	a = in.packages[digest]
	if a != nil && a.left != nil {
		return nil, false, a.left, nil
	}
	if a == nil {
		a, first = &attachment{in: in, digest: digest, account: b.Version.Account, done: make(chan struct{})}, true
		in.packages[digest] = a
	}
	n.unuse(in, b.Container)
	in.containers[b.Container] = a
	a.users++
	if a.place != nil {
		in.unused.Remove(a.place)
		in.unusedBytes -= a.held.Bytes
		a.place = nil
	}
	return a, first, nil, nil
}

// unuse takes a container's use of a package back. Called with mu held.
func (n *Node) unuse(in *instance, id kiln.ContainerID) {
	a := in.containers[id]
	if a == nil {
		return
	}
	in.containers[id] = nil
	a.users--
	n.rest(a)
}

// rest puts a package that is attached and used by no container among the unused. Called with mu held.
func (n *Node) rest(a *attachment) {
	if a.users > 0 || a.held.Release == nil || a.left != nil || a.in.gone {
		return
	}
	n.uses++
	a.since = n.uses
	a.place = a.in.unused.PushFront(a)
	a.in.unusedBytes += a.held.Bytes
}

// let takes a container's use of its package back, and with gone forgets the container.
func (n *Node) let(ctx context.Context, instance kiln.InstanceID, id kiln.ContainerID, gone bool) {
	n.mu.Lock()
	in := n.instances[instance]
	if in != nil {
		n.unuse(in, id)
		if gone {
			delete(in.containers, id)
		}
	}
	n.mu.Unlock()
	if in != nil {
		n.trim(ctx, in)
	}
}

// fill brings a package to the node and attaches it to the instance.
func (n *Node) fill(ctx context.Context, b *Bind, a *attachment) {
	held, err := n.bring(ctx, b)
	n.mu.Lock()
	if err == nil && a.in.gone {
		err = kiln.Errorf(kiln.KindNotFound, "node: attach package", "Instance %s is gone.", b.Instance)
		defer held.Release()
	}
	if err != nil {
		delete(a.in.packages, a.digest)
	} else {
		a.held = held
		n.rest(a) // its container may be gone already
	}
	n.mu.Unlock()
	a.err = err
	close(a.done)
}

// bring does the work of fill, telling each thing that really happened.
func (n *Node) bring(ctx context.Context, b *Bind) (Package, error) {
	held, err := n.config.Cache.Acquire(ctx, b.Version.Package)
	if err != nil {
		return Package{}, err
	}
	if held.Fetched {
		n.emit(kiln.EventCodeFetch, "package was not on the node", b)
	}
	if err := n.config.Driver.AttachPackage(ctx, b.Instance, b.Version.Package, held.Dir); err != nil {
		held.Release()
		return Package{}, err
	}
	n.emit(kiln.EventCodeAttach, "package was not in the instance", b)
	return held, nil
}

// trim detaches what is too much of the packages no container uses: of one instance by its own bounds, of all by the node's.
func (n *Node) trim(ctx context.Context, in *instance) {
	d, ok := n.config.Driver.(Detacher)
	if !ok {
		return
	}
	ctx = context.WithoutCancel(ctx)
	for a := n.surplus(in); a != nil; a = n.surplus(in) {
		n.detach(ctx, d, a)
	}
}

// surplus gives the next package to detach, which nobody can use until that is over; nil when there is none.
func (n *Node) surplus(in *instance) *attachment {
	over := n.config.Cache.Over() > 0
	n.mu.Lock()
	defer n.mu.Unlock()
	var oldest *attachment
	switch {
	case in.unused.Len() > UnusedPackages || in.unusedBytes > UnusedBytes:
		oldest = in.unused.Back().Value.(*attachment)
	case over:
		for _, other := range n.instances {
			if back := other.unused.Back(); back != nil && (oldest == nil || back.Value.(*attachment).since < oldest.since) {
				oldest = back.Value.(*attachment)
			}
		}
	}
	if oldest == nil {
		return nil
	}
	oldest.in.unused.Remove(oldest.place)
	oldest.in.unusedBytes -= oldest.held.Bytes
	oldest.place, oldest.left = nil, make(chan struct{})
	return oldest
}

// detach takes a package out of its instance's code cache. One that cannot be stays there, held, until the instance ends.
func (n *Node) detach(ctx context.Context, d Detacher, a *attachment) {
	err := d.DetachPackage(ctx, a.in.id, a.digest)
	if err != nil {
		n.config.Logger.Warn("package was not detached", "instance", a.in.id, "package", a.digest, "error", err)
	} else {
		if n.config.Detached != nil {
			n.config.Detached(a.in.id, a.digest)
		}
		n.config.emit(kiln.Event{
			Time: kiln.Time{Time: time.Now()}, Kind: kiln.EventCodeDetach, Cause: "no container of the instance uses it",
			Account: a.account, Package: a.digest, Node: n.config.ID, Instance: a.in.id,
		})
	}
	n.mu.Lock()
	release := func() {}
	if err == nil || a.in.gone {
		release, a.held.Release = a.held.Release, nil
		delete(a.in.packages, a.digest)
	}
	close(a.left)
	a.left = nil
	n.mu.Unlock()
	release()
}

// release lets go of all packages of an instance that is gone.
func (n *Node) release(in *instance) {
	var held []Package
	n.mu.Lock()
	in.gone = true
	for _, a := range in.packages {
		if a.held.Release != nil && a.left == nil { // otherwise who detaches it lets it go
			held = append(held, a.held)
			a.held.Release = nil
		}
	}
	in.containers, in.packages, in.unused, in.unusedBytes = nil, nil, list.List{}, 0
	n.mu.Unlock()
	for _, p := range held {
		p.Release()
	}
}

// Packages lists the packages in an instance's code cache, in no order.
func (n *Node) Packages(id kiln.InstanceID) []kiln.Digest {
	n.mu.Lock()
	defer n.mu.Unlock()
	in := n.instances[id]
	if in == nil {
		return nil
	}
	list := make([]kiln.Digest, 0, len(in.packages))
	for digest, a := range in.packages {
		if a.held.Release != nil {
			list = append(list, digest)
		}
	}
	return list
}

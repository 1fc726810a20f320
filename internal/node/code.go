package node

import (
	"context"
	"sync"

	"kiln"
)

// instance is what the node remembers of one: its code cache.
type instance struct {
	id kiln.InstanceID

	mu       sync.Mutex
	gone     bool                        // guarded by mu
	packages map[kiln.Digest]*attachment // guarded by mu
}

// attachment is one package in an instance's code cache, or on its way there.
type attachment struct {
	done    chan struct{} // closed when it is there or failed
	dir     string        // set before done
	err     error         // set before done
	release func()        // lets the node's cache forget it; nil unless attached
}

// release lets go of all packages, when the instance is gone.
func (in *instance) release() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.gone = true
	for _, a := range in.packages {
		if a.release != nil {
			a.release()
		}
	}
	in.packages = nil
}

// attach brings the package of b into its instance, once however many ask at the same time, and gives its folder on the
// node. A failed attempt is not remembered.
func (n *Node) attach(ctx context.Context, b *Bind) (dir string, err error) {
	n.mu.Lock()
	in := n.instances[b.Instance]
	n.mu.Unlock()
	if in == nil {
		return "", kiln.Errorf(kiln.KindNotFound, "node: attach package", "No instance %s.", b.Instance)
	}
	digest := b.Version.Package
	in.mu.Lock()
	a, found := in.packages[digest]
	if !found && !in.gone {
		a = &attachment{done: make(chan struct{})}
		in.packages[digest] = a
	}
	in.mu.Unlock()
	if a == nil {
		return "", kiln.Errorf(kiln.KindNotFound, "node: attach package", "Instance %s is gone.", b.Instance)
	}
	if found {
		select {
		case <-a.done:
			return a.dir, a.err
		case <-ctx.Done():
			return "", kiln.Wrap(kiln.KindUnavailable, "node: attach package", "Stopped while waiting for the package.", context.Cause(ctx))
		}
	}
	release, err := n.bring(ctx, b, a)
	in.mu.Lock()
	if err != nil {
		delete(in.packages, digest)
	} else if in.gone {
		release()
	} else {
		a.release = release
	}
	in.mu.Unlock()
	a.err = err
	close(a.done)
	return a.dir, err
}

// bring fetches a package to the node and attaches it to the instance, telling each that really happened.
func (n *Node) bring(ctx context.Context, b *Bind, a *attachment) (release func(), err error) {
	dir, fetched, release, err := n.config.Cache.Acquire(ctx, b.Version.Package)
	if err != nil {
		return nil, err
	}
	if fetched {
		n.emit(kiln.EventCodeFetch, "package was not on the node", b)
	}
	if err := n.config.Driver.AttachPackage(ctx, b.Instance, b.Version.Package, dir); err != nil {
		release()
		return nil, err
	}
	n.emit(kiln.EventCodeAttach, "package was not in the instance", b)
	a.dir = dir
	return release, nil
}

// Packages lists the packages in an instance's code cache, in no order.
func (n *Node) Packages(id kiln.InstanceID) []kiln.Digest {
	n.mu.Lock()
	in := n.instances[id]
	n.mu.Unlock()
	if in == nil {
		return nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	list := make([]kiln.Digest, 0, len(in.packages))
	for digest, a := range in.packages {
		if a.release != nil {
			list = append(list, digest)
		}
	}
	return list
}

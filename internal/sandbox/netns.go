//go:build linux

package sandbox

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"kiln"
)

// RuntimeAPIAddress is where the node listens in every container's network namespace.
const RuntimeAPIAddress = "127.0.0.1:9001"

// networkRetry is the pause after a network namespace could not be made.
const networkRetry = time.Second

// Network is a network namespace with loopback up and nothing else, and the node's listener inside it. It is not tied to
// any process: the file descriptor keeps it.
type Network struct {
	// Listener accepts connections to RuntimeAPIAddress inside the namespace, from any thread of the node.
	Listener net.Listener
	ns       *os.File
}

// Path names the namespace for a process that is to join it, as long as the Network is not closed.
func (n *Network) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.ns.Fd()) }

// Release lets the namespace go; processes that joined it and the listener keep it alive.
func (n *Network) Release() { _ = n.ns.Close() }

// Close closes the listener and lets the namespace go. May be repeated.
func (n *Network) Close() {
	_ = n.Listener.Close() // a closed listener is what is wanted
	_ = n.ns.Close()
}

// NewNetwork makes a network namespace. Takes half a millisecond.
func NewNetwork(ctx context.Context) (*Network, error) {
	var n *Network
	err := onThread(func() (err error) {
		n, err = networkHere(ctx)
		return err
	})
	if err != nil {
		return nil, kiln.Wrap(kiln.KindUnavailable, "sandbox: make network namespace", "cannot make a network namespace", err)
	}
	return n, nil
}

// networkHere moves the calling thread into a new network namespace and listens there.
func networkHere(ctx context.Context) (*Network, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("unshare: %w", err)
	}
	if err := loopbackUp(); err != nil {
		return nil, err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp4", RuntimeAPIAddress)
	if err != nil {
		return nil, err
	}
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		_ = listener.Close()
		return nil, err
	}
	return &Network{Listener: listener, ns: ns}, nil
}

// loopbackUp brings up lo in the calling thread's network namespace.
func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(s)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}

// Networks is a pool of network namespaces made ahead.
type Networks struct {
	ready  chan *Network
	stop   context.CancelFunc
	filler sync.WaitGroup
}

// NewNetworks starts to make networks until size of them wait. Close ends it.
func NewNetworks(size int, logger *slog.Logger) *Networks {
	ctx, cancel := context.WithCancel(context.Background())
	p := &Networks{ready: make(chan *Network, size), stop: cancel}
	p.filler.Go(func() { p.fill(ctx, logger) })
	return p
}

// Take gives a network, a waiting one or else one made now. The caller closes it.
func (p *Networks) Take(ctx context.Context) (*Network, error) {
	select {
	case n := <-p.ready:
		return n, nil
	default:
		return NewNetwork(ctx)
	}
}

// Close ends the making and closes those that wait.
func (p *Networks) Close() {
	p.stop()
	p.filler.Wait()
	for {
		select {
		case n := <-p.ready:
			n.Close()
		default:
			return
		}
	}
}

func (p *Networks) fill(ctx context.Context, logger *slog.Logger) {
	for ctx.Err() == nil {
		n, err := NewNetwork(ctx)
		if err != nil {
			logger.Warn("cannot make a network ahead", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(networkRetry):
			}
			continue
		}
		select {
		case p.ready <- n:
		case <-ctx.Done():
			n.Close()
		}
	}
}

// Ready is how many networks wait now.
func (p *Networks) Ready() int { return len(p.ready) }

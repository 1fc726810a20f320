package agent

import (
	"crypto/rand"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"kiln"
)

// Guest is the node's end of a link: the connections a guest's runtime makes, as a listener for runtimeapi.
type Guest struct {
	session  *yamux.Session
	greeting Greeting
	places   chan struct{} // one word for each connection carried

	mu     sync.Mutex
	closed bool // guarded by mu
}

// Meet does the node's part of the handshake on a new byte stream from an agent, and takes the stream over: Guest.Close, or
// an error here, closes it. Blocks for at most the handshake's limit where the stream has deadlines. Kinds: KindMalformed
// (no agent speaks), KindUnavailable (the link broke off, or another release speaks).
func Meet(rw io.ReadWriteCloser, instance kiln.InstanceID) (*Guest, error) {
	g := &Guest{places: make(chan struct{}, ConnectionsMax)}
	err := withDeadline(rw, func() error {
		if err := readHello(rw, &g.greeting); err != nil {
			return err
		}
		if err := checkVersion(g.greeting.Version); err != nil {
			return err
		}
		welcome := Welcome{Version: Version, Now: time.Now().UnixNano(), Seed: make([]byte, 64), Instance: instance}
		_, _ = rand.Read(welcome.Seed) // never fails
		return writeHello(rw, welcome)
	})
	if err != nil {
		return nil, errors.Join(err, rw.Close())
	}
	if g.session, err = yamux.Server(joined(rw), sessionConfig()); err != nil {
		return nil, errors.Join(kiln.Wrap(kiln.KindInternal, "agent: meet", "the link cannot be used", err), rw.Close())
	}
	return g, nil
}

// Greeting is what the agent said first.
func (g *Guest) Greeting() Greeting { return g.greeting }

// Lost is closed when the link has ended, whoever ended it.
func (g *Guest) Lost() <-chan struct{} { return g.session.CloseChan() }

// Accept gives the next connection the guest's runtime made; it blocks until there is one. net.ErrClosed when the link has
// ended.
func (g *Guest) Accept() (net.Conn, error) {
	for {
		stream, err := g.session.AcceptStream()
		if err != nil {
			return nil, net.ErrClosed
		}
		select {
		case g.places <- struct{}{}:
			return &carried{Conn: stream, leave: sync.OnceFunc(func() { <-g.places })}, nil
		default:
			_ = stream.Close() // the agent has this bound too: whoever comes here is not ours
		}
	}
}

// Close ends the link with all it carries.
func (g *Guest) Close() error { return g.session.Close() }

// Addr names the link where a listener is asked for its address.
func (g *Guest) Addr() net.Addr { return linkAddr{} }

// linkAddr is the address of a link: it has none.
type linkAddr struct{}

func (linkAddr) Network() string { return "kiln" }
func (linkAddr) String() string  { return "link" }

// carried is one connection of the guest; its end gives its place to the next.
type carried struct {
	net.Conn
	leave func()
}

// Write passes p on. Of a link that ends meanwhile nobody can tell what has arrived, so that with an error all of it counts
// as written: an event that may have been executed is not given to another container.
func (c *carried) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		n = len(p)
	}
	return n, err
}

// Close ends the connection.
func (c *carried) Close() error {
	c.leave()
	return c.Conn.Close()
}

package agent

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"kiln"
)

// Waits of the agent for its node.
const (
	// dialFirst and dialMax bound the pause between two attempts to open the link; it doubles from one to the other.
	dialFirst = time.Millisecond
	dialMax   = 250 * time.Millisecond
	// linkPatience is how long a runtime's question waits for a new link before its connection is closed.
	linkPatience = 30 * time.Second
)

// Config is what an agent runs with, inside the guest.
type Config struct {
	// Dial opens the byte stream to the node. It is called again whenever the link has ended.
	Dial func(context.Context) (io.ReadWriteCloser, error)
	// Listener is where the runtime finds the Runtime API.
	Listener net.Listener
	// Welcomed is told what the node says at each link, before anything is carried on it: the time and new randomness.
	// May be nil.
	Welcomed func(Welcome)
}

// Run serves the runtime until ctx ends or the listener fails, and keeps the link. It returns when all it started has ended:
// nil after ctx ended, otherwise KindInternal.
func Run(ctx context.Context, c Config) error {
	ctx, cancel := context.WithCancel(ctx)
	l := &links{c: c, changed: make(chan struct{})}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { l.keep(ctx) })
	defer context.AfterFunc(ctx, func() { _ = c.Listener.Close() })()
	places := make(chan struct{}, ConnectionsMax)
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return kiln.Wrap(kiln.KindInternal, "agent: serve", "the Runtime API's address cannot be served", err)
		}
		select {
		case places <- struct{}{}:
			wg.Go(func() {
				defer func() { <-places }()
				relay(ctx, l, conn)
			})
		default:
			_ = conn.Close()
		}
	}
}

// links keeps one link to the node open.
type links struct {
	c Config

	mu      sync.Mutex
	session *yamux.Session // guarded by mu; nil while there is none
	changed chan struct{}  // guarded by mu; closed and made anew when session changes
	boots   int            // of keep alone
}

// keep opens the link, and again whenever it has ended, until ctx ends.
func (l *links) keep(ctx context.Context) {
	pause := dialFirst
	for ctx.Err() == nil {
		session, err := l.open(ctx)
		if err != nil {
			wait := time.NewTimer(pause)
			pause = min(2*pause, dialMax)
			select {
			case <-wait.C:
			case <-ctx.Done():
				wait.Stop()
			}
			continue
		}
		pause = dialFirst
		l.set(session)
		select {
		case <-session.CloseChan():
		case <-ctx.Done():
		}
		l.set(nil)
		_ = session.Close()
	}
}

// open dials and greets.
func (l *links) open(ctx context.Context) (*yamux.Session, error) {
	rw, err := l.c.Dial(ctx)
	if err != nil {
		return nil, err
	}
	var welcome Welcome
	err = withDeadline(rw, func() error {
		if err := writeHello(rw, Greeting{Version: Version, Boot: l.boots + 1}); err != nil {
			return err
		}
		if err := readHello(rw, &welcome); err != nil {
			return err
		}
		return checkVersion(welcome.Version)
	})
	if err != nil {
		return nil, errors.Join(err, rw.Close())
	}
	l.boots++
	if l.c.Welcomed != nil {
		l.c.Welcomed(welcome)
	}
	session, err := yamux.Client(joined(rw), sessionConfig())
	if err != nil {
		return nil, errors.Join(err, rw.Close())
	}
	return session, nil
}

func (l *links) set(session *yamux.Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.session = session
	close(l.changed)
	l.changed = make(chan struct{})
}

// stream opens a stream on the link, waiting for one for as long as linkPatience. nil when there is none by then.
func (l *links) stream(ctx context.Context) net.Conn {
	limit := time.NewTimer(linkPatience)
	defer limit.Stop()
	for {
		l.mu.Lock()
		session, changed := l.session, l.changed
		l.mu.Unlock()
		if session != nil {
			if s, err := session.OpenStream(); err == nil {
				return s
			}
		}
		select {
		case <-changed:
		case <-limit.C:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

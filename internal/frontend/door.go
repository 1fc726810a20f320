package frontend

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"time"

	crand "crypto/rand"

	"kiln"
)

// DoorConfig is what a Door needs. Zero bounds take the defaults named beside them.
type DoorConfig struct {
	// Frontend answers an Invoke on the fast way.
	Frontend *Frontend
	// Rest answers every other request, by net/http.
	Rest http.Handler
	// Connections is the most open at once, 4,096 by default; the next ones wait to be accepted.
	Connections int
	// HeadTimeout bounds the reading of a request's head, 10 s; BodyTimeout of its body, 60 s; IdleTimeout the time
	// between two requests, 3 min.
	HeadTimeout, BodyTimeout, IdleTimeout time.Duration
	// WriteTimeout bounds the writing of an answer, 60 s.
	WriteTimeout time.Duration
	Logger       *slog.Logger
}

// bufferBytes is the size of a connection's read buffer; a head that does not fit goes the ordinary way.
const bufferBytes = 8 << 10

// What is read of a body that is not wanted: twice the largest that may be sent, for a moment.
const (
	lingerBytes = 2 * kiln.MaxPayloadBytes
	lingerTime  = 2 * time.Second
)

// Door is the public port: it reads each request's head, answers an Invoke in the plainest form itself, on the goroutine
// of the connection, and hands every other connection to net/http. A connection comes back when net/http meets an
// Invoke on it. Safe concurrently.
type Door struct {
	cfg     DoorConfig
	rest    *http.Server
	handed  *handoff
	traffic *traffic
	places  chan struct{} // one word for each open connection
	ended   chan struct{} // closed when nothing is accepted any more

	mu      sync.Mutex
	conns   map[*conn]struct{} // guarded by mu; those on the fast way
	serving sync.WaitGroup     // connections and the ordinary way's server
}

// NewDoor makes a door. Serve opens it.
func NewDoor(cfg DoorConfig) *Door {
	cfg.Connections = cmp.Or(cfg.Connections, 4096)
	cfg.HeadTimeout = cmp.Or(cfg.HeadTimeout, 10*time.Second)
	cfg.BodyTimeout = cmp.Or(cfg.BodyTimeout, time.Minute)
	cfg.IdleTimeout = cmp.Or(cfg.IdleTimeout, 3*time.Minute)
	cfg.WriteTimeout = cmp.Or(cfg.WriteTimeout, time.Minute)
	d := &Door{cfg: cfg, conns: map[*conn]struct{}{}, places: make(chan struct{}, cfg.Connections), ended: make(chan struct{})}
	d.traffic = newTraffic(func() float64 { return float64(len(d.places)) })
	d.rest = &http.Server{
		Handler:           http.HandlerFunc(d.ordinary),
		ReadHeaderTimeout: cfg.HeadTimeout,
		IdleTimeout:       cfg.IdleTimeout,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}
	return d
}

// Serve accepts connections and answers requests until ctx ends. Then it refuses new requests (503) while those under
// way finish within drain, and returns when every connection has ended.
func (d *Door) Serve(ctx context.Context, l net.Listener, drain time.Duration) error {
	d.handed = newHandoff(l.Addr())
	d.serving.Go(func() { _ = d.rest.Serve(d.handed) })
	accepted := make(chan error, 1)
	go func() { accepted <- d.accept(l) }()
	select {
	case <-ctx.Done():
		d.drain(drain, l)
		return <-accepted
	case err := <-accepted:
		d.drain(drain, l)
		return err
	}
}

// acceptPause is the wait after a failure to accept: out of descriptors, most likely. Those who wait are served when
// others have ended.
const acceptPause = 50 * time.Millisecond

// accept takes connections until the listener is closed, which is no error.
func (d *Door) accept(l net.Listener) error {
	for {
		select {
		case d.places <- struct{}{}:
		case <-d.ended:
			return nil
		}
		nc, err := l.Accept()
		switch {
		case err == nil:
			d.serving.Go(func() {
				counted := &countedConn{Conn: nc, free: func() { <-d.places }}
				d.serveConn(counted, bufio.NewReaderSize(counted, bufferBytes))
			})
			continue
		case errors.Is(err, net.ErrClosed):
			return nil
		case !errors.As(err, new(net.Error)):
			return kiln.Wrap(kiln.KindInternal, "frontend: accept", "the public port failed", err)
		}
		<-d.places
		select {
		case <-d.ended:
		case <-time.After(acceptPause):
		}
	}
}

// lastWords is how long connections may take after the last answer, for their clients to read it.
const lastWords = time.Second

// drain ends idle connections at once, refuses new requests, and ends the others when the requests under way are
// answered, or when the bound has passed.
func (d *Door) drain(bound time.Duration, l net.Listener) {
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	d.traffic.ending.Store(true)
	d.rest.SetKeepAlivesEnabled(false)
	d.closeIdle()
	d.traffic.end(ctx)
	_ = l.Close()
	close(d.ended)
	d.closeIdle()
	last, stop := context.WithTimeout(context.Background(), lastWords)
	defer stop()
	hard := context.AfterFunc(last, func() { d.eachConn(func(c *conn) { _ = c.net.Close() }) })
	defer hard()
	if d.rest.Shutdown(last) != nil {
		_ = d.rest.Close()
	}
	_ = d.handed.Close()
	d.serving.Wait()
}

func (d *Door) closeIdle() {
	d.eachConn(func(c *conn) {
		if !c.busy.Load() {
			_ = c.net.Close()
		}
	})
}

func (d *Door) eachConn(f func(*conn)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		f(c)
	}
}

// conn is one connection while it is on the fast way. Owned by its goroutine, but for busy.
type conn struct {
	door   *Door
	net    net.Conn
	in     *bufio.Reader
	head   head
	out    []byte
	chance *rand.ChaCha8
	busy   atomic.Bool
	// reading and writing are the deadlines that are set.
	reading, writing time.Time
}

// serveConn answers Invokes on a connection until it ends or something else is asked on it.
func (d *Door) serveConn(nc net.Conn, in *bufio.Reader) {
	c := d.open(nc, in)
	if !c.loop() {
		d.forget(c)
		_ = nc.Close()
		return
	}
	// The deadline of the idle time must not reach into the ordinary way, which sets its own.
	_ = nc.SetReadDeadline(time.Time{})
	d.forget(c)
	d.handed.give(&prefixedConn{Conn: nc, prefix: in, stall: d.cfg.WriteTimeout, traffic: d.traffic})
}

func (d *Door) open(nc net.Conn, in *bufio.Reader) *conn {
	var seed [32]byte
	_, _ = crand.Read(seed[:])
	c := &conn{door: d, net: nc, in: in, chance: rand.NewChaCha8(seed)}
	d.mu.Lock()
	d.conns[c] = struct{}{}
	d.mu.Unlock()
	return c
}

func (d *Door) forget(c *conn) {
	d.mu.Lock()
	delete(d.conns, c)
	d.mu.Unlock()
}

// loop answers one Invoke after the other. True when the next request is for the ordinary way.
func (c *conn) loop() (ordinary bool) {
	for {
		if c.in.Buffered() == 0 {
			c.readUntil(c.door.cfg.IdleTimeout)
			if _, err := c.in.Peek(1); err != nil {
				return false
			}
		}
		if b, _ := c.in.Peek(c.in.Buffered()); headEnd(b, 0) == 0 { // a head that is all there has no time to be bounded
			c.readUntil(c.door.cfg.HeadTimeout)
		}
		c.busy.Store(true)
		size, err := c.head.peekHead(c.in)
		if errors.Is(err, errOrdinary) {
			return true
		}
		if err != nil {
			c.door.traffic.noteRead(err, slowHead)
			return false
		}
		_, _ = c.in.Discard(size)
		if !c.door.traffic.begin() {
			c.refuse()
			return false
		}
		kept := c.answer()
		c.door.traffic.finish()
		if !kept {
			return false
		}
		c.busy.Store(false)
		if c.door.traffic.ending.Load() {
			return false
		}
	}
}

// answer reads the body of the request whose head was read, executes it and writes the answer. False when the
// connection must end.
func (c *conn) answer() bool {
	if c.head.expect && c.head.length != 0 {
		if _, err := io.WriteString(c.net, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
			return false
		}
	}
	if c.head.length > int64(c.in.Buffered()) || c.head.length < 0 {
		c.readUntil(c.door.cfg.BodyTimeout)
	}
	body, held, err := c.receive()
	defer c.door.cfg.Frontend.release(held)
	keep := err == nil && !c.head.closing && !c.door.traffic.ending.Load()
	if _, told := errors.AsType[*kiln.Error](err); err != nil && !told {
		c.door.traffic.noteRead(err, slowBody)
		return false
	}
	c.out = c.door.cfg.Frontend.answer(c.out[:0], &c.head, body, err, c.chance, keep)
	err = c.write()
	if cap(c.out) > 64<<10 {
		c.out = nil
	}
	if !keep && err == nil {
		c.linger()
	}
	return keep && err == nil
}

// receive reads the body of the request whose head was read.
func (c *conn) receive() (body []byte, held int64, err error) {
	var from io.Reader = c.in
	if c.head.length < 0 {
		from = httputil.NewChunkedReader(c.in)
	}
	body, held, err = c.door.cfg.Frontend.receive(from, c.head.length, kiln.MaxPayloadBytes)
	switch {
	case kiln.KindOf(err) == kiln.KindTooLarge: // the model has an error of its own for this operation
		err = kiln.Errorf(kiln.KindTooLarge, "frontend: read body", "Request must be smaller than %d bytes for the InvokeFunction operation", kiln.MaxPayloadBytes)
	case err == nil && c.head.length < 0:
		err = skipTrailer(c.in)
	}
	return body, held, err
}

// refuse answers a request that came when the door is ending. Its body is not read.
func (c *conn) refuse() {
	c.out = c.door.cfg.Frontend.appendError(c.out[:0], newRequestID(c.chance), errEnding(), false)
	if c.write() == nil {
		c.linger()
	}
}

func (c *conn) write() error {
	if want := time.Now().Add(c.door.cfg.WriteTimeout); moved(want, c.writing) {
		c.writing = want
		_ = c.net.SetWriteDeadline(want)
	}
	_, err := c.net.Write(c.out)
	return err
}

// linger reads on for a moment after the last answer: a connection closed with unread bytes is reset, and the client
// would lose the answer that says why.
func (c *conn) linger() {
	if half, ok := c.net.(*countedConn).Conn.(*net.TCPConn); ok {
		_ = half.CloseWrite()
	}
	_ = c.net.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, c.in, lingerBytes)
}

// readUntil bounds the next reads.
func (c *conn) readUntil(d time.Duration) {
	if want := time.Now().Add(d); moved(want, c.reading) {
		c.reading = want
		_ = c.net.SetReadDeadline(want)
	}
}

// moved reports whether a deadline must be set anew. One that is right to half a second is left as it is: setting it costs
// more than reading the clock, and may wake the thread that waits for the network.
func moved(want, set time.Time) bool {
	off := want.Sub(set)
	return off > 500*time.Millisecond || off < 0
}

// ordinary answers a request by net/http. One that asks for Invoke takes its connection back to the fast way.
func (d *Door) ordinary(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || isURLHost(r.Host) || !isInvokePath([]byte(r.URL.EscapedPath())) {
		d.rested(w, r)
		return
	}
	if !d.traffic.begin() {
		d.cfg.Frontend.writeError(w, newRequestID(cryptoChance{}), nil, errEnding())
		return
	}
	// Counted while net/http still waits for this request, so that an ending door waits for it after that too.
	d.serving.Add(1)
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		d.serving.Done()
		d.traffic.finish()
		d.rested(w, r)
		return
	}
	counted := nc.(*prefixedConn).Conn.(*countedConn)
	c := d.open(counted, rw.Reader)
	c.busy.Store(true)
	c.head.fromHTTP(r)
	_ = nc.SetDeadline(time.Time{})
	go func() {
		defer d.serving.Done()
		kept := c.answer()
		d.traffic.finish()
		if !kept {
			d.forget(c)
			_ = counted.Close()
			return
		}
		d.forget(c)
		d.serveConn(counted, rw.Reader)
	}()
}

// rested has a request answered by net/http's side, within the bound on reading its body.
func (d *Door) rested(w http.ResponseWriter, r *http.Request) {
	if !d.traffic.begin() {
		d.cfg.Frontend.writeError(w, newRequestID(cryptoChance{}), nil, errEnding())
		return
	}
	defer d.traffic.finish()
	d.boundBody(w, r)
	d.cfg.Rest.ServeHTTP(w, r)
}

// handoff is the listener net/http accepts from: connections that were read and found ordinary.
type handoff struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandoff(addr net.Addr) *handoff {
	return &handoff{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

func (h *handoff) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.done:
		_ = c.Close()
	}
}

// Accept implements net.Listener.
func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handoff) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr implements net.Listener.
func (h *handoff) Addr() net.Addr { return h.addr }

// prefixedConn reads what is buffered of a connection first.
type prefixedConn struct {
	net.Conn
	prefix  *bufio.Reader
	stall   time.Duration // the most one writing may take
	traffic *traffic
}

func (p *prefixedConn) Read(b []byte) (int, error) {
	if p.prefix != nil {
		if p.prefix.Buffered() > 0 {
			return p.prefix.Read(b)
		}
		p.prefix = nil
	}
	return p.Conn.Read(b)
}

// countedConn gives its place back when it is closed.
type countedConn struct {
	net.Conn
	once sync.Once
	free func()
}

func (c *countedConn) Close() error {
	c.once.Do(c.free)
	return c.Conn.Close()
}

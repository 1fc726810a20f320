package runtimeapi

import (
	"bytes"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// firstBuffer is a connection's buffer to begin with, in bytes: a head and a small answer in one read.
	firstBuffer = 4 << 10
	// keptBuffer is the largest buffer kept from one request to the next, in bytes.
	keptBuffer = 16 << 10
	// firstBody is how much memory a body gets on its word, in bytes; beyond that it must have arrived.
	firstBody = 64 << 10
	// slack is read beyond a body of known length, in bytes, for the next request that comes with it.
	slack = 256
	// drainLimit is how much of a refused body is read and thrown away so that the peer sees why, in bytes.
	drainLimit = 64 << 20
	// chunkLineLimit bounds a chunk's size line and all of a body's trailers, in bytes.
	chunkLineLimit = 128 << 10
)

var (
	errBodyTooLarge = errors.New("body over its limit")
	errTruncated    = errors.New("body ended early")
	errChunk        = errors.New("malformed chunk")
)

// conn is one connection of the container. Everything is its owner's alone.
type conn struct {
	net.Conn
	raw syscall.RawConn // nil when there is no file descriptor to look at
	// look is peek, made once: it runs for every event and must not allocate.
	look   func(fd uintptr)
	live   bool
	polled [1]unix.PollFd
	// put is sendOut, made once as look is; wrote is what it did.
	put   func(fd uintptr) bool
	wrote int

	maxHead int
	buf     []byte
	r, w    int // buf[r:w] is read and not yet used
	out     []byte
	// received counts the bytes read into buf.
	received int64
	// pause is what the connection owes before its next request.
	pause time.Duration

	// owed is true when the answer's 202 is not yet sent.
	owed bool
	// ending is true when the peer wants the connection closed after what is owed.
	ending bool
	// until is the deadline an execution has set for reading and writing; zero when another may be set.
	until time.Time
	// resume hands the connection back to its serving goroutine: true to go on, false to end it.
	resume chan bool
	// trailerType and trailerBody are a streamed answer's late error, from its trailers.
	trailerType, trailerBody string
}

func newConn(nc net.Conn, maxHead int) *conn {
	c := &conn{Conn: nc, maxHead: maxHead, buf: make([]byte, firstBuffer), resume: make(chan bool, 1)}
	if sc, ok := nc.(syscall.Conn); ok {
		c.raw, _ = sc.SyscallConn()
	}
	c.look, c.put = c.peek, c.sendOut
	return c
}

// readHead reads one request's head into r.
func (c *conn) readHead(r *request) error {
	scanned := 0
	for {
		b := c.buf[c.r:c.w]
		if n := headEnd(b, scanned); n > 0 {
			c.r += n
			return parseHead(b[:n], r)
		}
		if len(b) >= c.maxHead {
			return errHeadTooLong
		}
		scanned = len(b) - 2
		if err := c.fill(); err != nil {
			return err
		}
	}
}

// buffered reports whether bytes of a further request are already here.
func (c *conn) buffered() bool { return c.w > c.r }

// nextBuffered consumes a whole GET /next that is already here, and reports whether there was one.
func (c *conn) nextBuffered() bool {
	if !c.buffered() {
		return false
	}
	var r request
	b := c.buf[c.r:c.w]
	n := headEnd(b, 0)
	if n == 0 || parseHead(b[:n], &r) != nil || r.call != callNext || string(r.method) != "GET" || r.length != 0 || r.closes {
		return false
	}
	c.r += n
	return true
}

// fill reads more into the buffer, which grows up to maxHead.
func (c *conn) fill() error {
	if c.r == c.w {
		c.r, c.w = 0, 0
		if len(c.buf) > keptBuffer {
			c.buf = make([]byte, firstBuffer)
		}
	}
	if c.w == len(c.buf) {
		if c.r > 0 {
			c.w = copy(c.buf, c.buf[c.r:c.w])
			c.r = 0
		} else {
			grown := make([]byte, min(2*len(c.buf), max(c.maxHead, len(c.buf)+slack)))
			copy(grown, c.buf)
			c.buf = grown
		}
	}
	n, err := c.Read(c.buf[c.w:])
	c.w += n
	c.received += int64(n)
	if n > 0 {
		return nil
	}
	return err
}

// take uses up to max buffered bytes.
func (c *conn) take(max int64) []byte {
	n := min(int64(c.w-c.r), max)
	b := c.buf[c.r : c.r+int(n)]
	c.r += int(n)
	return b
}

// readBody reads the request's body, keeping at most limit bytes; what is more is read and thrown away, and the error is
// errBodyTooLarge. A negative limit keeps nothing and is no error.
func (c *conn) readBody(r *request, limit int) ([]byte, error) {
	c.trailerType, c.trailerBody = "", ""
	if r.length == chunked {
		return c.readChunked(limit)
	}
	if limit < 0 || r.length > int64(limit) {
		if err := c.drain(r.length); err != nil {
			return nil, err
		}
		if limit < 0 {
			return nil, nil
		}
		return nil, errBodyTooLarge
	}
	n := int(r.length)
	body := make([]byte, 0, min(n, firstBody)+slack)
	body = append(body, c.take(r.length)...)
	for len(body) < n {
		if len(body) == cap(body) {
			body = append(make([]byte, 0, min(2*cap(body), n+slack)), body...)
		}
		got, err := c.Read(body[len(body):cap(body)])
		body = body[:len(body)+got]
		if err != nil && len(body) < n {
			return nil, truncated(err)
		}
	}
	if over := body[n:]; len(over) > 0 { // the next request's beginning; the buffer is empty here
		c.r, c.w = 0, copy(c.buf, over)
	}
	return body[:n:n], nil
}

// drain reads n bytes and throws them away.
func (c *conn) drain(n int64) error {
	if n > drainLimit {
		return errBodyTooLarge
	}
	for n > 0 {
		if !c.buffered() {
			if err := c.fill(); err != nil {
				return truncated(err)
			}
		}
		n -= int64(len(c.take(n)))
	}
	return nil
}

// readChunked reads a chunked body and its trailers.
func (c *conn) readChunked(limit int) ([]byte, error) {
	var body []byte
	var total int64
	for {
		line, err := c.line(chunkLineLimit)
		if err != nil {
			return nil, err
		}
		n, ok := parseChunk(line)
		if !ok {
			return nil, errChunk
		}
		if n == 0 {
			break
		}
		if total += n; total > drainLimit {
			return nil, errBodyTooLarge
		}
		if total > int64(limit) {
			body = nil
			err = c.drain(n)
		} else {
			body, err = c.appendChunk(body, n)
		}
		if err != nil {
			return nil, err
		}
		if line, err = c.line(chunkLineLimit); err != nil || len(line) != 0 {
			return nil, errors.Join(err, errChunk)
		}
	}
	if err := c.trailers(); err != nil {
		return nil, err
	}
	if limit >= 0 && total > int64(limit) {
		return nil, errBodyTooLarge
	}
	return body, nil
}

// appendChunk reads a chunk's n bytes onto body.
func (c *conn) appendChunk(body []byte, n int64) ([]byte, error) {
	if body == nil {
		body = make([]byte, 0, min(n, firstBody))
	}
	for n > 0 {
		if !c.buffered() {
			if err := c.fill(); err != nil {
				return nil, truncated(err)
			}
		}
		b := c.take(n)
		n -= int64(len(b))
		body = append(body, b...)
	}
	return body, nil
}

// trailers reads the lines after the last chunk. Lambda's late error is kept.
func (c *conn) trailers() error {
	for left := chunkLineLimit; ; {
		line, err := c.line(left)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			return nil
		}
		left -= len(line)
		name, value, ok := bytes.Cut(line, []byte{':'})
		switch {
		case !ok:
			return errChunk
		case equalFold(name, "lambda-runtime-function-error-type"):
			c.trailerType = string(trim(value))
		case equalFold(name, "lambda-runtime-function-error-body"):
			c.trailerBody = string(trim(value))
		}
	}
}

// line reads one line of at most max bytes, without its end. It holds until the next read.
func (c *conn) line(max int) ([]byte, error) {
	for scanned := 0; ; {
		b := c.buf[c.r:c.w]
		if i := bytes.IndexByte(b[scanned:], '\n'); i >= 0 {
			line, _ := cutLine(b[:scanned+i+1])
			c.r += scanned + i + 1
			return line, nil
		}
		if scanned = len(b); scanned >= max || scanned >= c.maxHead {
			return nil, errChunk
		}
		if err := c.fill(); err != nil {
			return nil, truncated(err)
		}
	}
}

// truncated names an end in the middle of a body; other errors stay.
func truncated(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, syscall.ECONNRESET) {
		return errTruncated
	}
	return err
}

// alive looks whether the peer of a waiting connection is still there, without waiting and without using up bytes. It
// costs one system call, and lets an event whose container died go to another.
func (c *conn) alive() bool {
	if c.raw == nil {
		return true
	}
	return c.raw.Control(c.look) == nil && c.live
}

// peek looks at the socket for alive: silence is life, what can be read is a further request or the end.
func (c *conn) peek(fd uintptr) {
	c.polled = [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(c.polled[:], 0); n == 0 || err != nil {
		c.live = true
		return
	}
	var b [1]byte
	n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	c.live = n > 0 || err == unix.EAGAIN || err == unix.EINTR
}

// sendNow writes a response if the socket takes it without waiting, as it does unless the peer leaves much unread. False
// when nothing was written.
func (c *conn) sendNow(response string) bool {
	if c.raw == nil {
		return false
	}
	c.out, c.wrote = append(c.out[:0], response...), 0
	if err := c.raw.Write(c.put); err != nil || c.wrote <= 0 {
		return false
	}
	if c.wrote < len(c.out) { // the peer has left no room for some hundred bytes: its connection is of no more use
		_ = c.Close()
	}
	return true
}

// sendOut writes once what sendNow has in out.
func (c *conn) sendOut(fd uintptr) bool {
	c.wrote, _ = unix.Write(int(fd), c.out)
	return true
}

// send writes b, and body after it, within limit (zero: the deadline that is already set).
func (c *conn) send(limit time.Duration, b, body []byte) (int, error) {
	if limit > 0 {
		if err := c.SetWriteDeadline(time.Now().Add(limit)); err != nil {
			return 0, err
		}
	}
	if len(body) == 0 {
		return c.Write(b)
	}
	parts := net.Buffers{b, body}
	n, err := parts.WriteTo(c.Conn)
	return int(n), err
}

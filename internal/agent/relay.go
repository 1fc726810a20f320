package agent

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// relayBytes is the size of one read.
	relayBytes = 32 << 10
	// askedMax bounds the question that is asked again on a new link, in bytes: a GET with its head. A longer one, which
	// is an answer with its body, is not: its connection ends with the link.
	askedMax = 16 << 10
)

// relay carries one connection of the runtime to the node until either side ends it. When the link ends while the runtime
// waits for the answer to something it asked, as it does for its binding and for its next event, the same bytes are asked
// again on the next link: a guest that was copied while its runtime waited goes on as if nothing had been.
func relay(ctx context.Context, l *links, conn net.Conn) {
	r := &carrier{conn: conn, streams: make(chan net.Conn, 1)}
	var reading sync.WaitGroup
	defer reading.Wait()
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	for first := true; ; first = false {
		stream := l.stream(ctx)
		if stream == nil {
			return
		}
		r.streams <- stream
		if first {
			reading.Go(r.fromGuest)
		} else {
			_ = conn.SetReadDeadline(time.Unix(1, 0)) // wakes the reader: it takes the new stream and asks again
		}
		guestGone := r.toGuest(stream)
		_ = stream.Close()
		if guestGone || !r.waits() || ctx.Err() != nil {
			return
		}
	}
}

// carrier is one connection of the runtime.
type carrier struct {
	conn    net.Conn
	streams chan net.Conn // the next stream for fromGuest; capacity 1

	mu    sync.Mutex
	asked []byte // guarded by mu: what the runtime said since the last byte of an answer
	long  bool   // guarded by mu: that was more than askedMax
	over  bool   // guarded by mu: the runtime says no more
}

// fromGuest passes on what the runtime says, from the first stream to the connection's end.
func (r *carrier) fromGuest() {
	stream := <-r.streams
	buf := make([]byte, relayBytes)
	for {
		n, err := r.conn.Read(buf)
		if n > 0 {
			r.note(buf[:n])
			_, _ = stream.Write(buf[:n]) // when the link has ended toGuest sees it, and it is asked again
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			_ = r.conn.SetReadDeadline(time.Time{})
			select {
			case stream = <-r.streams:
				_, _ = stream.Write(r.question())
			default: // woken twice
			}
		default:
			r.mu.Lock()
			r.over = true
			r.mu.Unlock()
			_ = stream.Close() // of our half: the answer may still come
			return
		}
	}
}

// toGuest passes on what the node says until the stream ends; true when it is the guest that takes no more.
func (r *carrier) toGuest(stream net.Conn) bool {
	buf := make([]byte, relayBytes)
	for {
		n, err := stream.Read(buf)
		if n > 0 {
			r.answered()
			if _, err := r.conn.Write(buf[:n]); err != nil {
				return true
			}
		}
		if err != nil {
			return false
		}
	}
}

// note keeps what was asked.
func (r *carrier) note(p []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.long = r.long || len(r.asked)+len(p) > askedMax; r.long {
		r.asked = nil
		return
	}
	r.asked = append(r.asked, p...)
}

// answered forgets what was asked: the answer has begun.
func (r *carrier) answered() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked, r.long = r.asked[:0], false
}

// question is what is to be asked again.
func (r *carrier) question() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]byte(nil), r.asked...)
}

// waits says whether the runtime waits for an answer that can be asked for again.
func (r *carrier) waits() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.asked) > 0 && !r.long && !r.over
}

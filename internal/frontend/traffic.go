package frontend

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kiln"
)

// Why a connection was ended or a request refused before it was read whole.
const (
	slowHead  = "slow-head"
	slowBody  = "slow-body"
	malformed = "malformed"
	draining  = "draining"
)

// traffic counts the requests under way, so that a door that ends can refuse new ones and wait for the others.
type traffic struct {
	running atomic.Int64
	ending  atomic.Bool
	quiet   chan struct{} // one word when an ending door has nothing under way

	refused *prometheus.CounterVec
	open    prometheus.GaugeFunc
}

func newTraffic(connections func() float64) *traffic {
	t := &traffic{
		quiet: make(chan struct{}, 1),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kiln_door_refused_total", Help: "Requests refused at the door, before anyone knew what they ask, by reason.",
		}, []string{"reason"}),
		open: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "kiln_door_connections", Help: "Connections that are open.",
		}, connections),
	}
	for _, reason := range []string{slowHead, slowBody, malformed, draining} {
		t.refused.WithLabelValues(reason)
	}
	return t
}

// begin counts a request; false when the door is ending and takes no more.
func (t *traffic) begin() bool {
	t.running.Add(1)
	if t.ending.Load() {
		t.finish()
		t.refused.WithLabelValues(draining).Inc()
		return false
	}
	return true
}

// finish counts a request's end.
func (t *traffic) finish() {
	if t.running.Add(-1) == 0 && t.ending.Load() {
		select {
		case t.quiet <- struct{}{}:
		default:
		}
	}
}

// end takes no more requests and waits for those under way, or for ctx.
func (t *traffic) end(ctx context.Context) {
	t.ending.Store(true)
	for t.running.Load() > 0 {
		select {
		case <-t.quiet:
		case <-ctx.Done():
			return
		}
	}
}

// noteRead counts a reading that was cut off by its deadline.
func (t *traffic) noteRead(err error, reason string) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.refused.WithLabelValues(reason).Inc()
	}
}

// Collector gives the door's metrics.
func (d *Door) Collector() prometheus.Collector { return d.traffic }

// Describe is prometheus.Collector's.
func (t *traffic) Describe(ch chan<- *prometheus.Desc) {
	t.refused.Describe(ch)
	t.open.Describe(ch)
}

// Collect is prometheus.Collector's.
func (t *traffic) Collect(ch chan<- prometheus.Metric) {
	t.refused.Collect(ch)
	t.open.Collect(ch)
}

// errEnding is what a request is told that comes when the server ends.
func errEnding() error {
	return kiln.Errorf(kiln.KindUnavailable, "frontend: take request", "The server is ending and takes no new requests; try again in a moment.")
}

// timedBody is a request's body on the ordinary way, whose reading has a bound as a whole. When it is read the bound goes:
// it must not reach into the handler, nor into the waiting for the next request.
type timedBody struct {
	io.ReadCloser
	control *http.ResponseController
	traffic *traffic
}

// boundBody sets the bound on the reading of a request's body.
func (d *Door) boundBody(w http.ResponseWriter, r *http.Request) {
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	control := http.NewResponseController(w)
	if control.SetReadDeadline(time.Now().Add(d.cfg.BodyTimeout)) == nil {
		r.Body = &timedBody{r.Body, control, d.traffic}
	}
}

// Read implements io.Reader.
func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		_ = b.control.SetReadDeadline(time.Time{})
	case err != nil: // the deadline stays: net/http reads on for a while before it ends the connection
		b.traffic.noteRead(err, slowBody)
	}
	return n, err
}

// bareEnd is how net/http ends the head of an answer it gives before any handler is asked (400, 431, 505): these alone
// have no date.
const bareEnd = "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"

// bare gives an answer of net/http's own a request id. False for any other.
func bare(b []byte) ([]byte, bool) {
	line := bytes.IndexByte(b, '\r')
	if line < 0 || !bytes.HasPrefix(b, []byte("HTTP/1.1 ")) || !bytes.HasPrefix(b[line:], []byte(bareEnd)) {
		return b, false
	}
	out := append([]byte(nil), b[:line]...)
	out = append(out, "\r\nx-amzn-RequestId: "...)
	out = append(out, newRequestID(cryptoChance{})...)
	return append(out, b[line:]...), true
}

// Write implements net.Conn. A client that takes nothing for a while loses the connection.
func (p *prefixedConn) Write(b []byte) (int, error) {
	_ = p.Conn.SetWriteDeadline(time.Now().Add(p.stall))
	if named, ok := bare(b); ok {
		p.traffic.refused.WithLabelValues(malformed).Inc()
		_, err := p.Conn.Write(named)
		return len(b), err
	}
	return p.Conn.Write(b)
}

// CloseWrite lets net/http end an answer before it ends the connection, so that the client gets it.
func (p *prefixedConn) CloseWrite() error {
	if half, ok := p.Conn.(*countedConn).Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

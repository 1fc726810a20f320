package frontend

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kiln/internal/engine"
	"kiln/internal/identity"
)

// gate is a door whose ordinary way holds every request to /hold until it is told.
type gate struct {
	*Door
	addr    string
	held    chan struct{}
	release chan struct{}
	stop    context.CancelFunc
	served  chan error
}

func openGate(t *testing.T, drain time.Duration, change func(*DoorConfig)) *gate {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	e, err := engine.Open(t.Context(), engine.Config{Dir: t.TempDir(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	ids, err := identity.Open(t.Context(), e, identity.Config{})
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{held: make(chan struct{}, 16), release: make(chan struct{}), served: make(chan error, 1)}
	cfg := DoorConfig{Frontend: New(Config{Identity: ids, Logger: quiet}), Logger: quiet,
		Rest: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/hold" {
				g.held <- struct{}{}
				<-g.release
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				w.WriteHeader(http.StatusBadRequest)
			}
			_, _ = io.WriteString(w, "ordinary")
		})}
	if change != nil {
		change(&cfg)
	}
	g.Door = NewDoor(cfg)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	g.stop = cancel
	go func() { g.served <- g.Serve(ctx, l, drain) }()
	return g
}

// dial opens a connection and sends text on it.
func (g *gate) dial(t *testing.T, text string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

func answered(t *testing.T, br *bufio.Reader) *http.Response {
	t.Helper()
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	res.Body = io.NopCloser(strings.NewReader(string(body)))
	return res
}

// single reads a single counter or gauge.
func single(t *testing.T, c prometheus.Collector) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil || len(families) != 1 || len(families[0].GetMetric()) != 1 {
		t.Fatalf("not one value: %v %v", families, err)
	}
	m := families[0].GetMetric()[0]
	return m.GetCounter().GetValue() + m.GetGauge().GetValue()
}

const invokeHead = "POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: x\r\n"

// An ending door lets the request under way finish, refuses new ones on either way and on new connections with 503 and a
// request id, and ends at once when the last is answered.
func TestDrainRefuses(t *testing.T) {
	g := openGate(t, time.Minute, nil)
	_, running := g.dial(t, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
	<-g.held
	idle, _ := g.dial(t, "")
	g.stop()
	for !g.traffic.ending.Load() {
		runtime.Gosched()
	}
	for _, text := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", invokeHead + "Content-Length: 2\r\n\r\n{}", invokeHead + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"} {
		_, br := g.dial(t, text)
		res := answered(t, br)
		if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("x-amzn-RequestId") == "" || !res.Close {
			t.Errorf("%q while ending: %d %v", text, res.StatusCode, res.Header)
		}
	}
	if n := single(t, g.traffic.refused.WithLabelValues(draining)); n != 3 {
		t.Errorf("%v refusals are counted, want 3", n)
	}
	_ = idle.Close()
	select {
	case err := <-g.served:
		t.Fatalf("the door ended while a request was under way: %v", err)
	default:
	}
	close(g.release)
	if res := answered(t, running); res.StatusCode != http.StatusOK {
		t.Errorf("the request under way: %d", res.StatusCode)
	}
	if err := <-g.served; err != nil {
		t.Error(err)
	}
}

// What does not finish within the bound is ended.
func TestDrainBound(t *testing.T) {
	g := openGate(t, 50*time.Millisecond, nil)
	_, running := g.dial(t, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
	<-g.held
	g.stop()
	if _, err := http.ReadResponse(running, nil); err == nil {
		t.Error("a request beyond the bound was answered")
	}
	close(g.release)
	if err := <-g.served; err != nil {
		t.Error(err)
	}
}

// A client that sends its head or its body too slowly loses the connection within the bound, on both ways, and is
// counted; a client in time does not, though its handler takes longer than the bound.
func TestSlowClients(t *testing.T) {
	g := openGate(t, time.Second, func(c *DoorConfig) { c.HeadTimeout, c.BodyTimeout = 300*time.Millisecond, 300*time.Millisecond })
	for name, text := range map[string]string{
		"head of an invoke": invokeHead, "head of another": "GET / HTTP/1.1\r\nHost: x\r\n",
		"body of an invoke": invokeHead + "Content-Length: 10\r\n\r\n{", "body of another": "PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{",
	} {
		began := time.Now()
		c, _ := g.dial(t, text)
		_, _ = io.Copy(io.Discard, c)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: kept for %s", name, took)
		}
	}
	for _, reason := range []string{slowHead, slowBody} {
		if n := single(t, g.traffic.refused.WithLabelValues(reason)); n != 2 {
			t.Errorf("%s: %v are counted, want 2", reason, n)
		}
	}
	_, br := g.dial(t, "POST /hold HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
	<-g.held
	time.AfterFunc(600*time.Millisecond, func() { close(g.release) })
	if res := answered(t, br); res.StatusCode != http.StatusOK {
		t.Errorf("a slow handler: %d", res.StatusCode)
	}
	g.stop()
	<-g.served
}

// A client that sends all and closes its half of the connection gets its answer, on both ways.
func TestHalfClosed(t *testing.T) {
	g := openGate(t, time.Second, nil)
	for text, want := range map[string]int{"GET / HTTP/1.1\r\nHost: x\r\n\r\n": 200, invokeHead + "Content-Length: 2\r\n\r\n{}": 403} {
		c, br := g.dial(t, text)
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if res := answered(t, br); res.StatusCode != want {
			t.Errorf("%q: %d, want %d", text, res.StatusCode, want)
		}
	}
	g.stop()
	<-g.served
}

// What net/http refuses by itself has a request id and is counted.
func TestMalformed(t *testing.T) {
	g := openGate(t, time.Second, nil)
	for text, want := range map[string]int{
		"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n":                      http.StatusBadRequest,
		"GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 100<<10) + "\r\n\r\n": http.StatusRequestHeaderFieldsTooLarge,
		"nonsense\r\n\r\n": http.StatusBadRequest,
	} {
		_, br := g.dial(t, text)
		if res := answered(t, br); res.StatusCode != want || res.Header.Get("x-amzn-RequestId") == "" {
			t.Errorf("%.40q: %d %v, want %d with a request id", text, res.StatusCode, res.Header, want)
		}
	}
	if n := single(t, g.traffic.refused.WithLabelValues(malformed)); n != 3 {
		t.Errorf("%v are counted, want 3", n)
	}
	g.stop()
	<-g.served
}

// A thousand idle connections hold up nobody, are shown, and end with the idle time.
func TestIdleConnections(t *testing.T) {
	g := openGate(t, time.Second, func(c *DoorConfig) { c.IdleTimeout = 3 * time.Second })
	for i := range 1000 {
		text := ""
		if i%2 == 0 {
			text = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
		}
		_, br := g.dial(t, text)
		if text != "" {
			answered(t, br)
		}
	}
	if n := single(t, g.traffic.open); n < 1000 {
		t.Errorf("%v connections are shown", n)
	}
	began := time.Now()
	_, br := g.dial(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if res := answered(t, br); res.StatusCode != http.StatusOK || time.Since(began) > 10*time.Second {
		t.Errorf("one more: %d after %s", res.StatusCode, time.Since(began))
	}
	deadline, again := time.After(20*time.Second), time.NewTicker(20*time.Millisecond)
	defer again.Stop()
	for len(g.places) > 1 { // the one that waits to be taken by accept
		select {
		case <-deadline:
			t.Fatalf("%d connections are still open", len(g.places))
		case <-again.C:
		}
	}
	g.stop()
	if err := <-g.served; err != nil {
		t.Error(err)
	}
}

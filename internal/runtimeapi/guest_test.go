package runtimeapi

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"kiln"
)

// guest is a scripted runtime on one raw connection.
type guest struct {
	t  testing.TB
	nc net.Conn
	r  *bufio.Reader
}

// open makes a session that serves a loopback listener until the test ends, and a way to connect to it.
func open(t testing.TB, c Config) (*Session, func() *guest) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(c)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Serve did not return")
		}
	})
	return s, func() *guest {
		t.Helper()
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
		return &guest{t: t, nc: nc, r: bufio.NewReader(nc)}
	}
}

func (g *guest) write(format string, args ...any) {
	g.t.Helper()
	if _, err := fmt.Fprintf(g.nc, format, args...); err != nil {
		g.t.Errorf("guest: write: %v", err)
	}
}

const askNext = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n"

func post(path, body string, headers ...string) string {
	h := strings.Join(headers, "\r\n")
	if h != "" {
		h += "\r\n"
	}
	return fmt.Sprintf("POST /2018-06-01/runtime/%s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n%s", path, h, len(body), body)
}

// response reads one response; its body is in it, read.
func (g *guest) response() (*http.Response, string) {
	g.t.Helper()
	r, err := http.ReadResponse(g.r, nil)
	if err != nil {
		g.t.Errorf("guest: read response: %v", err)
		return &http.Response{Header: http.Header{}}, ""
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		g.t.Errorf("guest: read body: %v", err)
	}
	return r, string(b)
}

// expect reads one response and checks its status and part of its body.
func (g *guest) expect(status int, part string) *http.Response {
	g.t.Helper()
	r, b := g.response()
	if r.StatusCode != status || !strings.Contains(b, part) {
		g.t.Errorf("guest: got %d %q, want %d with %q", r.StatusCode, b, status, part)
	}
	return r
}

// next asks for an event and gives its id and payload.
func (g *guest) next() (id, payload string) {
	g.t.Helper()
	g.write(askNext)
	r, b := g.response()
	return r.Header.Get("Lambda-Runtime-Aws-Request-Id"), b
}

func delivery(n int, payload string, limit time.Duration) *kiln.Delivery {
	return &kiln.Delivery{RequestID: kiln.RequestID(fmt.Sprintf("00000000-0000-4000-8000-%012d", n)), Payload: []byte(payload),
		Deadline: time.Now().Add(limit), ARN: "arn:aws:lambda:us-east-1:000000000000:function:f"}
}

// echo is a loop that answers each event with itself until its connection ends.
func (g *guest) echo(pipelined bool) {
	var head bytes.Buffer
	buf := make([]byte, 64<<10)
	if _, err := g.nc.Write([]byte(askNext)); err != nil {
		return
	}
	for {
		id, n := "", 0
		for {
			line, err := g.r.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) == 2 {
				if id != "" {
					break
				}
				_, _ = g.r.Discard(n)
				n = 0
				continue
			}
			if v, ok := bytes.CutPrefix(line, []byte("Lambda-Runtime-Aws-Request-Id: ")); ok {
				id = string(v[:36])
			} else if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
				_, _ = fmt.Sscanf(string(v), "%d", &n)
			}
		}
		if n > len(buf) {
			buf = make([]byte, n)
		}
		if _, err := io.ReadFull(g.r, buf[:n]); err != nil {
			return
		}
		head.Reset()
		fmt.Fprintf(&head, "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", id, n)
		head.Write(buf[:n])
		if pipelined {
			head.WriteString(askNext)
		}
		if _, err := g.nc.Write(head.Bytes()); err != nil {
			return
		}
		if !pipelined {
			if _, err := g.r.Discard(len(accepted)); err != nil {
				return
			}
			if _, err := g.nc.Write([]byte(askNext)); err != nil {
				return
			}
		}
	}
}

// pipeListener hands out connections it was given.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func newPipeListener(conns ...net.Conn) *pipeListener {
	l := &pipeListener{conns: make(chan net.Conn, 16), done: make(chan struct{})}
	for _, c := range conns {
		l.conns <- c
	}
	return l
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{} }

func newGuest(t testing.TB, nc net.Conn) *guest {
	return &guest{t: t, nc: nc, r: bufio.NewReader(nc)}
}

package agent

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"kiln"
)

// pair is an agent with its node's end, over pipes that the test may cut.
type pair struct {
	t      *testing.T
	dials  chan net.Conn // the node's ends, one for each dial
	addr   string
	welcom chan Welcome
}

func newPair(t *testing.T) *pair {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{t: t, dials: make(chan net.Conn), addr: l.Addr().String(), welcom: make(chan Welcome, 16)}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		err := Run(ctx, Config{Listener: l, Welcomed: func(w Welcome) { p.welcom <- w },
			Dial: func(ctx context.Context) (io.ReadWriteCloser, error) {
				near, far := net.Pipe()
				select {
				case p.dials <- far:
					return near, nil
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}})
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return p
}

// meet is the node taking the next link.
func (p *pair) meet() *Guest {
	p.t.Helper()
	g, err := Meet(<-p.dials, "i-0123456789abcdef")
	if err != nil {
		p.t.Fatal(err)
	}
	return g
}

// serve answers requests on a link: GET /wait never, everything else with its path.
func serve(g *Guest) (stop func()) {
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			<-r.Context().Done()
			return
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %d", r.URL.Path, len(body))
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(g) }()
	return func() { _ = s.Close(); <-done }
}

// Shows that what a runtime asks on its loopback is answered by the node, and a large body arrives whole.
func TestCarries(t *testing.T) {
	p := newPair(t)
	g := p.meet()
	defer g.Close()
	defer serve(g)()
	if w := <-p.welcom; w.Version != Version || len(w.Seed) != 64 || time.Since(time.Unix(0, w.Now)) > time.Minute {
		t.Errorf("welcome %+v", w)
	}
	for _, size := range []int{0, 100, 6 << 20} {
		resp, err := http.Post("http://"+p.addr+"/x", "application/json", bytes.NewReader(make([]byte, size)))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if want := fmt.Sprintf("/x %d", size); string(body) != want {
			t.Errorf("answer %q, want %q", body, want)
		}
	}
}

// Shows that a runtime that waits for an answer when its guest is copied is answered on the next link, by the bytes it sent
// before; and that an answer that had begun is not asked for again.
func TestAsksAgainOnANewLink(t *testing.T) {
	p := newPair(t)
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const question = "GET /next HTTP/1.1\r\nHost: kiln\r\n\r\n"
	if _, err := io.WriteString(conn, question); err != nil {
		t.Fatal(err)
	}
	for range 3 { // links that end unanswered
		g := p.meet()
		s, err := g.Accept()
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(question))
		if _, err := io.ReadFull(s, got); err != nil || string(got) != question {
			t.Fatalf("asked %q, %v", got, err)
		}
		_ = g.Close()
	}
	g := p.meet()
	stop := serve(g)
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(resp.Body); string(body) != "/next 0" {
		t.Fatalf("answer %q", body)
	}
	_ = g.Close()
	stop()
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("a connection with nothing asked outlived its link: %v", err)
	}
}

// Shows that a guest cannot hold more connections than it may.
func TestConnectionsAreBounded(t *testing.T) {
	p := newPair(t)
	g := p.meet()
	defer g.Close()
	defer serve(g)()
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for range ConnectionsMax {
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		if _, err := io.WriteString(c, "GET /a HTTP/1.1\r\nHost: kiln\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
			t.Fatal(err)
		}
	}
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("one connection more than may be was served")
	}
}

// Shows that what is no agent, another release, or a greeting too long is refused and the stream closed.
func TestRefusesStrangers(t *testing.T) {
	for name, say := range map[string]string{
		"http":    "GET / HTTP/1.1\r\n\r\n" + strings.Repeat("x", 100),
		"version": magic + "\x00\x00\x00\x0d" + `{"version":2}`,
		"long":    magic + "\x7f\xff\xff\xff",
		"cut off": magic + "\x00\x00",
		"no json": magic + "\x00\x00\x00\x03abc",
	} {
		near, far := net.Pipe()
		go func() { _, _ = io.WriteString(far, say); _ = far.Close() }()
		if _, err := Meet(near, "i-1"); kiln.KindOf(err) != kiln.KindMalformed && kiln.KindOf(err) != kiln.KindUnavailable {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := near.Write([]byte("x")); err == nil {
			t.Errorf("%s: the stream was left open", name)
		}
	}
}

// Shows that what was written to a guest whose link has ended counts as written: it may have arrived.
func TestWrittenCountsWhenTheLinkEnds(t *testing.T) {
	p := newPair(t)
	g := p.meet()
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /next HTTP/1.1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	c, err := g.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = g.Close()
	if n, err := c.Write([]byte("event")); n != len("event") || err == nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	p.meet().Close() // the agent's next link, so that it need not wait for one
}

// hostile is a byte stream that says what the fuzzer wants and takes everything.
type hostile struct{ io.Reader }

func (hostile) Write(p []byte) (int, error) { return len(p), nil }
func (hostile) Close() error                { return nil }

// Shows that no bytes of an agent break the node's end.
func FuzzMeet(f *testing.F) {
	good := magic + "\x00\x00\x00\x0d" + `{"version":1}`
	f.Add([]byte(good))
	f.Add([]byte(good + "\x00\x01\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00"))                             // a stream opened
	f.Add([]byte(good + "\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x02hi"))                           // with data
	f.Add([]byte(good + "\x00\x00\x00\x01\x00\x00\x00\x01\xff\xff\xff\xffhi"))                           // longer than its window
	f.Add([]byte(good + "\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01\x00\x00\x00")) // go away
	f.Fuzz(func(t *testing.T, said []byte) {
		g, err := Meet(hostile{bytes.NewReader(said)}, "i-1")
		if err != nil {
			return
		}
		defer g.Close()
		for {
			c, err := g.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, io.LimitReader(c, 1<<20))
			_ = c.Close()
		}
	})
}

// Shows that no bytes of a node break the agent's end of the handshake.
func FuzzWelcome(f *testing.F) {
	f.Add([]byte(magic + "\x00\x00\x00\x0d" + `{"version":1}`))
	f.Add([]byte("HTTP/1.1 200 OK\r\n\r\n"))
	f.Fuzz(func(t *testing.T, said []byte) {
		var w Welcome
		_ = readHello(bytes.NewReader(said), &w)
	})
}

package frontend

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"kiln"
)

// openDoor serves a door whose ordinary way answers "ordinary" and whose fast way knows no caller.
func openDoor(t *testing.T, bound time.Duration) (addr string, stop func() error) {
	t.Helper()
	g := openGate(t, 2*time.Second, func(c *DoorConfig) { c.HeadTimeout, c.IdleTimeout = bound, bound })
	stop = sync.OnceValue(func() error {
		g.stop()
		return <-g.served
	})
	t.Cleanup(func() { _ = stop() })
	return g.addr, stop
}

// ask sends one request on a connection and gives the answer's status and body.
func ask(t *testing.T, c net.Conn, br *bufio.Reader, request string) (int, string) {
	t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// One connection may ask for an Invoke and for other things in any order: each is answered on its way, in order.
func TestConnectionChangesWays(t *testing.T) {
	addr, _ := openDoor(t, time.Minute)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	br := bufio.NewReader(c)
	other := "GET /kiln/v1/nodes HTTP/1.1\r\nHost: x\r\n\r\n"
	chunked := strings.Replace(plainInvoke, "Content-Length: 2\r\n\r\n{}", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 1)
	waits := strings.Replace(plainInvoke, "Host", "X-Note: 1\r\nHost", 1)
	for i, request := range []string{plainInvoke, other, plainInvoke, waits, other, other, chunked, plainInvoke, other} {
		status, body := ask(t, c, br, request)
		if strings.HasPrefix(request, "GET") {
			if status != http.StatusOK || body != "ordinary" {
				t.Fatalf("request %d: %d %q", i, status, body)
			}
		} else if status != http.StatusForbidden || !strings.Contains(body, `"message"`) {
			t.Fatalf("request %d: %d %q", i, status, body)
		}
	}
}

// A client that says half a request, or nothing, loses its connection, and nobody else's.
func TestSlowClientsAreLetGo(t *testing.T) {
	addr, _ := openDoor(t, 600*time.Millisecond)
	for _, said := range []string{"", "POST /2015-03-31/func", plainInvoke[:len(plainInvoke)-2]} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, said); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(said, "\r\n\r\n") {
			continue // its body may take longer; the door's end takes it
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("after %q: %v, not an end", said, err)
		}
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if status, _ := ask(t, c, bufio.NewReader(c), plainInvoke); status != http.StatusForbidden {
		t.Errorf("another client's request: %d", status)
	}
}

// A body over the bound is refused with AWS's error before it is read, and the client gets to read why.
func TestBodyTooLarge(t *testing.T) {
	addr, _ := openDoor(t, time.Minute)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	request := strings.Replace(plainInvoke, "Length: 2", "Length: 7000000", 1)
	status, body := ask(t, c, bufio.NewReader(c), request)
	if status != http.StatusRequestEntityTooLarge || !strings.Contains(body, "6291556") {
		t.Errorf("%d %q", status, body)
	}
}

// An ending door closes idle connections at once and returns.
func TestDoorEnds(t *testing.T) {
	addr, stop := openDoor(t, time.Minute)
	var conns []net.Conn
	for _, request := range []string{plainInvoke, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ask(t, c, bufio.NewReader(c), request)
		conns = append(conns, c)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for i, c := range conns {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("connection %d is still served", i)
		}
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("the port is still open")
	}
}

// A body takes memory as it arrives and not as it is claimed, and none when there is no room; its room is given back.
func TestReceive(t *testing.T) {
	f := New(Config{})
	large := strings.Repeat("x", 3*freeBodyBytes)
	for _, row := range []struct {
		name          string
		sent          string
		length, limit int64
		kind          kiln.Kind
		broken        bool
	}{
		{name: "claimed", sent: large, length: int64(len(large)), limit: 1 << 20},
		{name: "not claimed", sent: large, length: -1, limit: 1 << 20},
		{name: "just at the limit", sent: large, length: -1, limit: int64(len(large))},
		{name: "empty", length: 0, limit: 10},
		{name: "claims too much", sent: "x", length: 11, limit: 10, kind: kiln.KindTooLarge},
		{name: "is too much", sent: large, length: -1, limit: int64(len(large)) - 1, kind: kiln.KindTooLarge},
		{name: "ends early", sent: "x", length: 2, limit: 10, broken: true},
		{name: "what follows is left", sent: "xyz", length: 2, limit: 10},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := strings.NewReader(row.sent)
			body, held, err := f.receive(r, row.length, row.limit)
			f.release(held)
			if row.broken {
				if err != io.ErrUnexpectedEOF {
					t.Fatal(err)
				}
				return
			}
			if (err != nil) != (row.kind != 0) || err != nil && kiln.KindOf(err) != row.kind {
				t.Fatal(err)
			}
			if err == nil && row.length >= 0 && int64(len(body)) != row.length || err == nil && row.length < 0 && len(body) != len(row.sent) {
				t.Errorf("%d bytes", len(body))
			}
			if err == nil && row.length >= 0 && r.Len() != len(row.sent)-int(row.length) {
				t.Error("more was read than the body")
			}
		})
	}
	if !f.bodies.TryAcquire(maxBodiesBytes) {
		t.Fatal("room was not given back")
	}
	if _, _, err := f.receive(strings.NewReader(large), -1, 1<<20); kiln.KindOf(err) != kiln.KindUnavailable {
		t.Errorf("without room: %v", err)
	}
	if body, _, err := f.receive(strings.NewReader("small"), 5, 1<<20); err != nil || string(body) != "small" {
		t.Errorf("a small body needs no room: %q, %v", body, err)
	}
}

package chaos

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"kiln/test/kilntest"
)

const (
	// headWithin bounds how long a client may take for the head of a request, readWithin for its body, as the server is set.
	headWithin, readWithin = 10 * time.Second, 5 * time.Second
	// idle is how many connections are held open without a word.
	idle = 1000
)

// raw gives a signed Invoke as its bytes. Headers are set before it is signed, at which time is chosen.
func raw(t *testing.T, a *kilntest.Account, function string, body []byte, at time.Time) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, a.Server.URL+"/2015-03-31/functions/"+function+"/invocations", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(body)
	key := aws.Credentials{AccessKeyID: a.Key, SecretAccessKey: a.Secret}
	if err := v4.NewSigner().SignHTTP(context.Background(), key, req, hex.EncodeToString(sum[:]), "lambda", a.Region, at); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := req.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// dial opens a bare connection to the server, which nothing may keep for more than half a minute.
func dial(t *testing.T, s *kilntest.Server) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c.(*net.TCPConn)
}

// answered reads one answer from a connection: its status and body, or 0 when the server closed it without one.
func answered(t *testing.T, c net.Conn) (int, string) {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is neither answered nor closed")
	}
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(body)
}

// impatient starts a server that gives slow bodies little time, with a function to call.
func impatient(t *testing.T) (*kilntest.Server, *kilntest.Account) {
	t.Helper()
	kilntest.NeedContainer(t)
	s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"warming.instances": "1", "http.read": readWithin.String()}})
	a := s.NewAccount(t)
	echo := kilntest.Probe(t, "go", "echo")
	echo.Environment = map[string]string{"MODE": "echo"}
	a.Deploy(echo)
	a.Invoke(kilntest.Invocation{Function: "echo"}).OK()
	return s, a
}

// Clients that dawdle with the head or the body of a request are let go within the bounds set, and those that hold a
// thousand connections open without a word hinder nobody; when they are gone the server has its descriptors again.
func TestDawdlingClients(t *testing.T) {
	s, a := impatient(t)
	n := startNeighbour(t, s)
	quiet := s.Kernel(t).Descriptors
	whole := raw(t, a, "echo", []byte(`{"a":1}`), time.Now())
	var dawdling sync.WaitGroup
	for _, c := range []struct {
		what  string
		first []byte
		bound time.Duration
	}{
		{"half a word", []byte("PO"), headWithin},
		{"half a head", whole[:100], headWithin},
		{"a head and half a body", whole[:len(whole)-3], readWithin},
		{"half of another request's head", []byte("GET /kiln/v1/instances HTTP/1.1\r\nHost: x\r\nX-"), headWithin},
		{"a body for the API", []byte("POST /2015-03-31/functions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"), readWithin + headWithin},
	} {
		conn := dial(t, s)
		began := time.Now()
		if _, err := conn.Write(c.first); err != nil {
			t.Fatal(err)
		}
		dawdling.Go(func() {
			status, text := answered(t, conn)
			if took := time.Since(began); took > c.bound+15*time.Second || status == http.StatusOK {
				t.Errorf("%s: after %s it was answered %d %s", c.what, took, status, text)
			} else {
				t.Logf("%s: after %s it was answered %d %.80q", c.what, took, status, text)
			}
		})
	}
	dawdling.Go(func() { trickle(t, s, whole) })
	held := make([]net.Conn, 0, idle)
	for range idle {
		held = append(held, dial(t, s))
	}
	for range 100 {
		if took := timed(func() { a.Invoke(kilntest.Invocation{Function: "echo"}).OK() }); took > 10*time.Second {
			t.Errorf("beside %d idle connections an execution took %s", idle, took)
		}
	}
	if now := s.Kernel(t).Descriptors; now < quiet+idle/2 {
		t.Errorf("the server holds %d descriptors and held %d: this test sees nothing", now, quiet)
	}
	for _, c := range held {
		_ = c.Close()
	}
	dawdling.Wait()
	kilntest.Eventually(t, 10*time.Second, func() error {
		if now := s.Kernel(t).Descriptors; now > quiet+32 {
			return fmt.Errorf("the server holds %d descriptors and held %d", now, quiet)
		}
		return nil
	})
	n.unhurt()
}

func timed(do func()) time.Duration {
	began := time.Now()
	do()
	return time.Since(began)
}

// trickle sends a head byte by byte, so slowly that each byte is news and the whole takes too long.
func trickle(t *testing.T, s *kilntest.Server, whole []byte) {
	conn := dial(t, s)
	began := time.Now()
	for n := range whole {
		if _, err := conn.Write(whole[n : n+1]); err != nil {
			break // let go
		}
		after(300 * time.Millisecond)
		if took := time.Since(began); took > headWithin+15*time.Second {
			t.Errorf("a head that trickles is taken for %s", took)
			break
		}
	}
}

// Lengths that are not so, bodies over their bound, requests that are no HTTP and signatures that are wrong, old or of
// tomorrow are refused with AWS's status, and half-closed connections have their answer; the connections of others go on,
// and not one of the refused runs code.
func TestWrongRequests(t *testing.T) {
	s, a := impatient(t)
	n := startNeighbour(t, s)
	ran := len(a.Executions())
	now := time.Now()
	sound := string(raw(t, a, "echo", []byte(`{"a":1}`), now))
	change := func(old, new string) string {
		if !strings.Contains(sound, old) {
			t.Fatalf("there is no %q in %s", old, sound)
		}
		return strings.Replace(sound, old, new, 1)
	}
	const length = "Content-Length: 7\r\n"
	for what, request := range map[string]string{
		"two lengths":              change(length, length+"Content-Length: 8\r\n"),
		"a negative length":        change(length, "Content-Length: -7\r\n"),
		"no number as a length":    change(length, "Content-Length: seven\r\n"),
		"a sum as a length":        change(length, "Content-Length: +7\r\n"),
		"a length of 100 digits":   change(length, "Content-Length: "+strings.Repeat("9", 100)+"\r\n"),
		"a length and chunks":      change(length, length+"Transfer-Encoding: chunked\r\n"),
		"an unknown encoding":      change(length, "Transfer-Encoding: rot13\r\n"),
		"a chunk of wrong form":    change(length, "Transfer-Encoding: chunked\r\n"),
		"another body":             change(`{"a":1}`, `{"a":2}`),
		"another function's name":  change("/functions/echo/", "/functions/other/"),
		"a broken signature":       change("Signature=", "Signature=0"),
		"no signature":             change("Authorization:", "X-Authorization:"),
		"no HTTP":                  "HELO kiln\r\n\r\n",
		"a head of 1 MB":           change("Host:", "X-Long: "+strings.Repeat("x", 1<<20)+"\r\nHost:"),
		"a name with a space":      change("Host:", "A b: c\r\nHost:"),
		"a head ended by bare CRs": strings.ReplaceAll(sound, "\r\n", "\r"),
		"an hour ago":              string(raw(t, a, "echo", []byte(`{"a":1}`), now.Add(-time.Hour))),
		"in an hour":               string(raw(t, a, "echo", []byte(`{"a":1}`), now.Add(time.Hour))),
		"too short":                change(length, "Content-Length: 8\r\n"),
		"too long":                 change(length, "Content-Length: 6\r\n"),
	} {
		conn := dial(t, s)
		_, _ = io.WriteString(conn, request) // may be cut off by the refusal
		_ = conn.CloseWrite()
		status, text := answered(t, conn)
		if status != 0 && (status < 400 || status > 505) {
			t.Errorf("%s: %d %s", what, status, text)
		}
		if strings.Contains(what, "hour") && (status != http.StatusForbidden || !strings.Contains(text, "Signature")) {
			t.Errorf("%s: %d %s", what, status, text)
		}
		t.Logf("%s: %d %.120q", what, status, text)
	}
	sevenMB(t, a)
	if now := len(a.Executions()); now != ran {
		t.Errorf("%d of the refused requests ran", now-ran)
	}
	half := dial(t, s)
	if _, err := io.WriteString(half, sound); err != nil {
		t.Fatal(err)
	}
	_ = half.CloseWrite()
	if status, text := answered(t, half); status != http.StatusOK || text != `{"a":1}` {
		t.Errorf("on a half-closed connection: %d %s", status, text)
	}
	n.unhurt()
}

// sevenMB sends 7 MB, whole and signed, and demands AWS's refusal.
func sevenMB(t *testing.T, a *kilntest.Account) {
	t.Helper()
	big := `"` + strings.Repeat("x", 7_000_000) + `"`
	a.Invoke(kilntest.Invocation{Function: "echo", Payload: big}).Refused(http.StatusRequestEntityTooLarge, "RequestTooLargeException")
	unsigned := kilntest.Call{Method: http.MethodPost, Path: "/2015-03-31/functions/echo/invocations", Body: []byte(big), Unsigned: true}
	if got := a.Do(unsigned); got.Status < 400 || got.Status > 499 {
		t.Errorf("7 MB without a signature: %d %s", got.Status, got.Body)
	}
	a.Invoke(kilntest.Invocation{Function: "echo", Payload: `{}`, Secret: "wrong wrong wrong wrong wrong wrong wron"}).Refused(http.StatusForbidden, "InvalidSignatureException")
}

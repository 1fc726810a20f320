package runtimeapi

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

var heads = []string{
	askNext,
	"GET /2018-06-01/ping HTTP/1.0\r\n\r\n",
	"GET http://127.0.0.1:9001/2018-06-01/ping?x=1 HTTP/1.1\r\nHost: 127.0.0.1:9001\r\nUser-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n\r\n",
	"POST /2018-06-01/runtime/invocation/00000000-0000-4000-8000-000000000001/response HTTP/1.1\r\nHost: x\r\ncontent-length:5\r\nConnection: Close\r\n\r\nhello",
	"POST /2018-06-01/runtime/invocation/00000000-0000-4000-8000-000000000001/error HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\nTrailer: A\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n",
	"POST /2018-06-01/runtime/init/error HTTP/1.1\nHost: x\nExpect: 100-continue\nContent-Length: 0\nContent-Length: 0\n\n",
	"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
	"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
	"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
	"\r\n\r\n",
}

// FuzzRequest compares the reader with net/http's: where both take a request they agree on method, path, length, body and
// what becomes of the connection; what net/http takes from a plain client, the reader takes too; and nothing makes it
// panic or read beyond the request.
func FuzzRequest(f *testing.F) {
	for _, h := range heads {
		f.Add([]byte(h))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 4<<10 {
			return
		}
		ours, theirs := net.Pipe()
		go func() {
			_, _ = theirs.Write(in)
			_ = theirs.Close()
		}()
		defer ours.Close()
		c := newConn(ours, 8<<10)
		var r request
		err := c.readHead(&r)
		want, wantErr := http.ReadRequest(bufio.NewReader(bytes.NewReader(in)))
		if err != nil || wantErr != nil {
			return
		}
		if string(r.method) != want.Method {
			t.Errorf("method %q, want %q", r.method, want.Method)
		}
		if path, _, _ := strings.Cut(want.RequestURI, "?"); strings.HasPrefix(path, "/") && string(r.path) != path {
			t.Errorf("path %q, want %q", r.path, path)
		}
		if got := r.length; got == chunked && want.ContentLength != -1 || got != chunked && got != want.ContentLength {
			t.Errorf("length %d, want %d", got, want.ContentLength)
		}
		if want.Close && !r.closes {
			t.Error("connection kept, net/http closes it")
		}
		body, err := c.readBody(&r, 4<<10)
		wantBody, wantErr := io.ReadAll(io.LimitReader(want.Body, 5<<10))
		if err == nil && wantErr == nil && !bytes.Equal(body, wantBody) {
			t.Errorf("body %q, want %q", body, wantBody)
		}
	})
}

// What ordinary clients send is read; what is ambiguous is not.
func TestHeads(t *testing.T) {
	for i, h := range heads {
		var r request
		n := headEnd([]byte(h), 0)
		err := parseHead([]byte(h)[:n], &r)
		if wellFormed := i < 6; wellFormed != (n > 0 && err == nil) {
			t.Errorf("%q: %d, %v", h, n, err)
		}
	}
	for in, want := range map[string]int64{"0": 0, "ff": 255, "A;x=y": 10, " 1 ": 1} {
		if n, ok := parseChunk([]byte(in)); !ok || n != want {
			t.Errorf("chunk %q: %d %v", in, n, ok)
		}
	}
	for _, in := range []string{"", "g", "-1", "1234567890123456", "0x1"} {
		if _, ok := parseChunk([]byte(in)); ok {
			t.Errorf("chunk %q taken", in)
		}
	}
}

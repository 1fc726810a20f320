package frontend

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

const plainInvoke = "POST /2015-03-31/functions/echo/invocations HTTP/1.1\r\nHost: 127.0.0.1:4566\r\nAuthorization: AWS4-HMAC-SHA256 x\r\nContent-Length: 2\r\n\r\n{}"

// A plain Invoke is read on the fast way; whatever else is asked is left whole for the ordinary way.
func TestPeekHead(t *testing.T) {
	rows := []struct {
		name, request string
		ordinary      bool
	}{
		{"plain", plainInvoke, false},
		{"qualifier", strings.Replace(plainInvoke, "invocations", "invocations?Qualifier=1", 1), false},
		{"escaped ARN", strings.Replace(plainInvoke, "echo", "arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Aecho", 1), false},
		{"expects to be told to go on", strings.Replace(plainInvoke, "Host", "Expect: 100-continue\r\nHost", 1), false},
		{"another operation", strings.Replace(plainInvoke, "/invocations", "/versions", 1), true},
		{"another method", strings.Replace(plainInvoke, "POST", "GET", 1), true},
		{"HTTP/1.0", strings.Replace(plainInvoke, "HTTP/1.1", "HTTP/1.0", 1), true},
		{"chunked", strings.Replace(plainInvoke, "Content-Length: 2", "Transfer-Encoding: chunked", 1), true},
		{"two lengths", strings.Replace(plainInvoke, "Host", "Content-Length: 2\r\nHost", 1), true},
		{"a length that is none", strings.Replace(plainInvoke, "Length: 2", "Length: +2", 1), true},
		{"a folded field", strings.Replace(plainInvoke, "Host", " folded\r\nHost", 1), true},
		{"a space before the colon", strings.Replace(plainInvoke, "Host:", "Host :", 1), true},
		{"an upgrade", strings.Replace(plainInvoke, "Host", "Upgrade: h2c\r\nHost", 1), true},
		{"the host of a function URL", strings.Replace(plainInvoke, "127.0.0.1", "x.lambda-url.us-east-1.localhost", 1), true},
		{"a long head", strings.Replace(plainInvoke, "Host", "X: "+strings.Repeat("x", bufferBytes)+"\r\nHost", 1), true},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			br := bufio.NewReaderSize(strings.NewReader(row.request), bufferBytes)
			var h head
			size, err := h.peekHead(br)
			if errors.Is(err, errOrdinary) != row.ordinary {
				t.Fatalf("error %v, ordinary wanted %v", err, row.ordinary)
			}
			if row.ordinary {
				rest, _ := io.ReadAll(br)
				if string(rest) != row.request {
					t.Fatal("bytes were taken that the ordinary way needs")
				}
				return
			}
			_, _ = br.Discard(size)
			body, _, err := New(Config{}).receive(br, h.length, 100)
			if err != nil || string(body) != "{}" {
				t.Fatalf("body %q, error %v", body, err)
			}
		})
	}
}

// A request cut short is an ended connection, not an empty request.
func TestPeekHeadCutShort(t *testing.T) {
	for n := 1; n < len(plainInvoke)-2; n++ {
		var h head
		_, err := h.peekHead(bufio.NewReaderSize(strings.NewReader(plainInvoke[:n]), bufferBytes))
		if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, errOrdinary) {
			t.Fatalf("cut at %d: error %v", n, err)
		}
	}
}

// FuzzHead holds the hand-written reading against net/http's: what the fast way takes, net/http reads the same.
func FuzzHead(f *testing.F) {
	f.Add([]byte(plainInvoke))
	f.Add([]byte(strings.Replace(plainInvoke, "Host", "Connection: close\r\nX-Kiln-Memory: 256\r\nhOST", 1)))
	f.Add([]byte("POST /2015-03-31/functions/%2e/invocations?a=%zz HTTP/1.1\r\nHost:a\r\n\r\n"))
	f.Fuzz(func(t *testing.T, request []byte) {
		var h head
		size, err := h.peekHead(bufio.NewReaderSize(bytes.NewReader(request), bufferBytes))
		if err != nil {
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(request)))
		if err != nil {
			// net/http refuses more targets and fields than we look at; the signature refuses them after us.
			return
		}
		if r.Method != http.MethodPost || r.RequestURI != string(h.target) {
			t.Fatalf("read %q, net/http %q", h.target, r.RequestURI)
		}
		if r.ContentLength != h.length && r.ContentLength >= 0 {
			t.Fatalf("length %d, net/http %d", h.length, r.ContentLength)
		}
		if got, want := string(h.get("authorization")), r.Header.Get("Authorization"); got != want {
			t.Fatalf("field %q, net/http %q", got, want)
		}
		if size <= 0 || size > len(request) {
			t.Fatalf("size %d of %d", size, len(request))
		}
	})
}

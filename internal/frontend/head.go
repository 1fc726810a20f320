package frontend

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"kiln/internal/identity"
)

// Bounds of a request's head on the fast way. A request beyond them goes the ordinary way, which has its own.
const (
	maxHeadBytes   = 16 << 10
	maxHeadFields  = 64
	invokePrefix   = "/2015-03-31/functions/"
	invokeSuffix   = "/invocations"
	maxTrailerLine = 4 << 10
)

// field is one header of a request. Both slices lie in the head's own buffer.
type field struct{ name, value []byte }

// head is the first part of one request: the request line and the headers, as they came. It is used again for each
// request of a connection; nothing of it may be kept.
type head struct {
	raw    []byte // a copy of the bytes up to and with the empty line
	target []byte // as sent: escaped path and query
	path   []byte
	query  []byte
	fields []field

	length  int64 // of the body; -1 when chunked
	expect  bool  // the client waits for "100 Continue"
	closing bool  // the client wants no further request on this connection

	signed identity.Signed // the view for verification, used again
}

// errOrdinary says that a request is not for the fast way: it is answered by net/http instead.
var errOrdinary = errors.New("not for the fast way")

// peekHead waits for a whole head at the front of br and parses it when it asks for an Invoke in the plainest form. It
// takes nothing out of br: on errOrdinary the same bytes go to net/http. An io error means the connection has ended.
func (h *head) peekHead(br *bufio.Reader) (size int, err error) {
	seen := 0
	for {
		b, err := br.Peek(max(br.Buffered(), seen+1))
		if end := headEnd(b, seen); end > 0 {
			return end, h.parse(b[:end])
		}
		if len(b) >= maxHeadBytes || errors.Is(err, bufio.ErrBufferFull) {
			return 0, errOrdinary
		}
		if err != nil {
			if len(b) > 0 && errors.Is(err, io.EOF) {
				return 0, io.ErrUnexpectedEOF
			}
			return 0, err
		}
		seen = len(b)
	}
}

// headEnd gives the length of the head at the front of b, with its empty line, or 0 when it is not all there. The first
// seen bytes were looked at before.
func headEnd(b []byte, seen int) int {
	from := max(seen-3, 0)
	if i := bytes.Index(b[from:], []byte("\r\n\r\n")); i >= 0 {
		return from + i + 4
	}
	return 0
}

// parse reads a whole head. Anything that is not the plainest form of an Invoke gives errOrdinary: the ordinary way
// knows the rest of HTTP, and gives the errors.
func (h *head) parse(b []byte) error {
	h.raw = append(h.raw[:0], b...)
	h.fields = h.fields[:0]
	h.length, h.expect, h.closing = 0, false, false
	line, rest, _ := bytes.Cut(h.raw, []byte("\r\n"))
	target, ok := bytes.CutPrefix(line, []byte("POST "))
	if !ok {
		return errOrdinary
	}
	if target, ok = bytes.CutSuffix(target, []byte(" HTTP/1.1")); !ok {
		return errOrdinary
	}
	h.target = target
	h.path, h.query, _ = bytes.Cut(target, []byte("?"))
	if !isInvokePath(h.path) {
		return errOrdinary
	}
	return h.parseFields(rest)
}

func (h *head) parseFields(rest []byte) error {
	hasLength := false
	for {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		if len(line) == 0 {
			return nil
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || len(h.fields) == maxHeadFields || !isToken(name) {
			return errOrdinary
		}
		value = trimSpace(value)
		if !isFieldValue(value) {
			return errOrdinary
		}
		h.fields = append(h.fields, field{name, value})
		switch {
		case equalFold(name, "content-length"):
			n, err := strconv.ParseUint(string(value), 10, 62)
			if err != nil || hasLength || value[0] == '+' {
				return errOrdinary
			}
			h.length, hasLength = int64(n), true
		case equalFold(name, "host"):
			if isURLHost(text(value)) {
				return errOrdinary
			}
		case equalFold(name, "transfer-encoding"), equalFold(name, "upgrade"), equalFold(name, "trailer"):
			return errOrdinary
		case equalFold(name, "expect"):
			if !equalFold(value, "100-continue") {
				return errOrdinary
			}
			h.expect = true
		case equalFold(name, "connection"):
			h.closing = h.closing || equalFold(value, "close")
		}
	}
}

// fromHTTP makes a head of a request that net/http has read, so that a connection can come back to the fast way.
func (h *head) fromHTTP(r *http.Request) {
	h.raw = append(h.raw[:0], r.RequestURI...)
	h.target = h.raw
	h.path, h.query, _ = bytes.Cut(h.target, []byte("?"))
	h.fields = append(h.fields[:0], field{[]byte("host"), []byte(r.Host)})
	for name, values := range r.Header {
		for _, v := range values {
			h.fields = append(h.fields, field{[]byte(name), []byte(v)})
		}
	}
	if r.ContentLength >= 0 && r.Header.Get("Content-Length") == "" {
		h.fields = append(h.fields, field{[]byte("content-length"), strconv.AppendInt(nil, r.ContentLength, 10)})
	}
	h.length = r.ContentLength
	h.expect = strings.EqualFold(r.Header.Get("Expect"), "100-continue")
	h.closing = r.Close || !r.ProtoAtLeast(1, 1)
}

// get gives the first value of a header, nil when there is none. The name is in lower case.
func (h *head) get(name string) []byte {
	for i := range h.fields {
		if equalFold(h.fields[i].name, name) {
			return h.fields[i].value
		}
	}
	return nil
}

// skipTrailer reads what stands behind the last chunk of a body, up to and with the empty line.
func skipTrailer(br *bufio.Reader) error {
	for range maxHeadFields {
		line, err := br.ReadSlice('\n')
		if err != nil || len(line) > maxTrailerLine {
			return io.ErrUnexpectedEOF
		}
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			return nil
		}
	}
	return io.ErrUnexpectedEOF
}

// isInvokePath reports whether an escaped path is Invoke's; what stands between may be empty of any escape or full.
func isInvokePath(path []byte) bool {
	name, ok := bytes.CutPrefix(path, []byte(invokePrefix))
	if !ok {
		return false
	}
	if name, ok = bytes.CutSuffix(bytes.TrimSuffix(name, []byte("/")), []byte(invokeSuffix)); !ok {
		return false
	}
	return len(name) > 0 && bytes.IndexByte(name, '/') < 0
}

func isToken(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?={}`, c) >= 0 {
			return false
		}
	}
	return len(b) > 0
}

func isFieldValue(b []byte) bool {
	for _, c := range b {
		if (c < ' ' && c != '\t') || c == 0x7f {
			return false
		}
	}
	return true
}

func trimSpace(b []byte) []byte { return bytes.Trim(b, " \t") }

// equalFold compares with a word in lower case; ASCII only.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i := range b {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

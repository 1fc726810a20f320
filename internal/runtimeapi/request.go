package runtimeapi

import (
	"bytes"
	"errors"
	"math"
)

// What can be wrong with a request's form. Each ends its connection after the answer named in refusals.
var (
	errMalformed   = errors.New("malformed request")
	errHeadTooLong = errors.New("request head over its limit")
	errVersion     = errors.New("not HTTP/1.0 or 1.1")
	errEncoding    = errors.New("transfer encoding other than chunked")
)

// call is which call of the API a request makes.
type call uint8

const (
	callUnknown call = iota
	callPing
	callNext
	callResponse
	callError
	callInitError
	callBinding
)

// chunked stands for a body of unknown length in request.length.
const chunked = math.MinInt64

// request is the head of one request, as far as it matters here. Slices point into the connection's buffer and hold
// until its next read.
type request struct {
	call   call
	method []byte
	path   []byte // without query
	id     []byte // the request id in the path of a response or error
	length int64  // of the body in bytes, or chunked
	// expects is true when the peer waits for 100 Continue; closes when it wants no further request on the connection.
	expects, closes bool
	// mode is the response mode asked for: "" or "streaming", anything else is refused.
	mode      []byte
	errorType string
}

// allow is the method of each call.
func (c call) allow() string {
	switch c {
	case callResponse, callError, callInitError:
		return "POST"
	}
	return "GET"
}

// headEnd gives the length of the head in b with its empty line, 0 when it is not all there. from is how much of b is
// known to hold no end.
func headEnd(b []byte, from int) int {
	for i := max(from, 0); ; {
		n := bytes.IndexByte(b[i:], '\n')
		if n < 0 {
			return 0
		}
		i += n + 1
		switch {
		case i < len(b) && b[i] == '\n':
			return i + 1
		case i+1 < len(b) && b[i] == '\r' && b[i+1] == '\n':
			return i + 2
		}
	}
}

// parseHead reads a whole head, as headEnd found it, into r.
func parseHead(b []byte, r *request) error {
	*r = request{}
	line, rest := cutLine(b)
	if err := r.parseLine(line); err != nil {
		return err
	}
	sawLength := false
	for {
		line, rest = cutLine(rest)
		if len(line) == 0 {
			break
		}
		colon := bytes.IndexByte(line, ':')
		if colon <= 0 || !isToken(line[:colon]) {
			return errMalformed
		}
		value := trim(line[colon+1:])
		if !isText(value) {
			return errMalformed
		}
		if err := r.header(line[:colon], value, &sawLength); err != nil {
			return err
		}
	}
	if r.length == chunked && sawLength {
		return errMalformed
	}
	return nil
}

// header takes in one header line. Lengths and encodings that contradict each other are refused.
func (r *request) header(name, value []byte, sawLength *bool) error {
	switch len(name) {
	case len("Expect"):
		if equalFold(name, "expect") && equalFold(value, "100-continue") {
			r.expects = true
		}
	case len("Connection"):
		if equalFold(name, "connection") {
			r.connection(value)
		}
	case len("Content-Length"):
		if equalFold(name, "content-length") {
			n, ok := parseLength(value)
			if !ok || *sawLength && n != r.length {
				return errMalformed
			}
			*sawLength = true
			if r.length != chunked {
				r.length = n
			}
		}
	case len("Transfer-Encoding"):
		if equalFold(name, "transfer-encoding") {
			if !equalFold(value, "chunked") || r.length == chunked {
				return errEncoding
			}
			r.length = chunked
			if *sawLength {
				return errMalformed
			}
		}
	case len("Lambda-Runtime-Function-Error-Type"):
		if equalFold(name, "lambda-runtime-function-error-type") {
			r.errorType = string(value)
		}
	case len("Lambda-Runtime-Function-Response-Mode"):
		if equalFold(name, "lambda-runtime-function-response-mode") {
			r.mode = value
		}
	}
	return nil
}

// connection reads the Connection header, a list of tokens.
func (r *request) connection(value []byte) {
	for part := range bytes.SplitSeq(value, []byte{','}) {
		switch part = trim(part); {
		case equalFold(part, "close"):
			r.closes = true
		case equalFold(part, "keep-alive") && !r.closes:
			r.closes = false
		}
	}
}

// parseLine reads the request line.
func (r *request) parseLine(line []byte) error {
	method, rest, ok1 := bytes.Cut(line, []byte{' '})
	target, version, ok2 := bytes.Cut(rest, []byte{' '})
	if !ok1 || !ok2 || !isToken(method) || len(target) == 0 || !isTarget(target) {
		return errMalformed
	}
	switch string(version) {
	case "HTTP/1.1":
	case "HTTP/1.0":
		r.closes = true
	default:
		return errVersion
	}
	if target[0] != '/' { // the absolute form, as proxies are spoken to
		_, after, ok := bytes.Cut(target, []byte("://"))
		slash := bytes.IndexByte(after, '/')
		if !ok || slash < 0 {
			target = []byte("/")
		} else {
			target = after[slash:]
		}
	}
	r.method = method
	r.path, _, _ = bytes.Cut(target, []byte{'?'})
	r.route()
	return nil
}

// route finds the call by its path.
func (r *request) route() {
	if string(r.path) == "/kiln/binding" {
		r.call = callBinding
		return
	}
	rest, ok := bytes.CutPrefix(r.path, []byte("/2018-06-01/"))
	if !ok {
		return
	}
	switch string(rest) {
	case "ping":
		r.call = callPing
	case "runtime/invocation/next":
		r.call = callNext
	case "runtime/init/error":
		r.call = callInitError
	default:
		id, ok := bytes.CutPrefix(rest, []byte("runtime/invocation/"))
		if !ok {
			return
		}
		id, verb, _ := bytes.Cut(id, []byte{'/'})
		switch r.id = id; string(verb) {
		case "response":
			r.call = callResponse
		case "error":
			r.call = callError
		}
	}
}

// cutLine takes the first line off b, without its end.
func cutLine(b []byte) (line, rest []byte) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return b, nil
	}
	line, rest = b[:i], b[i+1:]
	if i > 0 && line[i-1] == '\r' {
		line = line[:i-1]
	}
	return line, rest
}

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// equalFold compares ASCII without case; lower is in lower case.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// isToken reports whether b may be a method or a header's name (RFC 9110, 5.6.2).
func isToken(b []byte) bool {
	for _, c := range b {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0:
		default:
			return false
		}
	}
	return len(b) > 0
}

func isTarget(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c == 0x7f {
			return false
		}
	}
	return true
}

// isText reports whether b may be a header's value: no control characters but tabs.
func isText(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// parseLength reads a body length: decimal digits that fit an int64.
func parseLength(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// parseChunk reads a chunk's size line: hexadecimal digits, then perhaps an extension, which is ignored.
func parseChunk(line []byte) (int64, bool) {
	line, _, _ = bytes.Cut(line, []byte{';'})
	line = trim(line)
	if len(line) == 0 || len(line) > 15 {
		return 0, false
	}
	var n int64
	for _, c := range line {
		switch {
		case '0' <= c && c <= '9':
			n = n<<4 | int64(c-'0')
		case 'a' <= c && c <= 'f':
			n = n<<4 | int64(c-'a'+10)
		case 'A' <= c && c <= 'F':
			n = n<<4 | int64(c-'A'+10)
		default:
			return 0, false
		}
	}
	return n, true
}

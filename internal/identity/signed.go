package identity

import (
	"net/http"
	"strconv"
	"strings"

	"kiln"
)

// Field is one header field of a request.
type Field struct {
	Name  string // in any case
	Value string
}

// Signed is a plain view of a request, for verification. Nothing of it is kept after Authenticate returns, so strings may
// point into a connection's buffer.
type Signed struct {
	Method string
	// Path is as it was sent, still escaped, without query.
	Path string
	// Query is as it was sent, without the question mark.
	Query string
	// Host is the Host field's value.
	Host string
	// Fields are all other header fields, in the order they came.
	Fields []Field
	// Body is the whole body.
	Body []byte
}

// FromHTTP gives the view of a request of net/http. The body, already read, is given apart.
func FromHTTP(r *http.Request, body []byte) *Signed {
	s := &Signed{Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Host: r.Host, Body: body}
	if target, ok := strings.CutPrefix(r.RequestURI, "/"); ok { // as it was sent, where EscapedPath may have made it anew
		path, _, _ := strings.Cut(target, "?")
		s.Path = "/" + path
	}
	s.Fields = make([]Field, 0, len(r.Header)+1)
	for name, values := range r.Header {
		for _, v := range values {
			s.Fields = append(s.Fields, Field{name, v})
		}
	}
	if r.Header.Get("Content-Length") == "" && r.ContentLength >= 0 {
		s.Fields = append(s.Fields, Field{"Content-Length", strconv.FormatInt(r.ContentLength, 10)})
	}
	return s
}

// field gives the value of the first field of a name.
func (s *Signed) field(name string) (string, bool) {
	for i := range s.Fields {
		if f := &s.Fields[i]; len(f.Name) == len(name) && strings.EqualFold(f.Name, name) {
			return f.Value, true
		}
	}
	return "", false
}

// Caller is who signed a request.
type Caller struct {
	Account kiln.AccountID
	KeyID   string
	// Operator is true when the caller may see and do everything.
	Operator bool
	// Service is the service the signature is for, one of Config.Services.
	Service string
}

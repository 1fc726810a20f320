package frontend

import (
	"unsafe"

	"kiln/internal/identity"
)

// authenticate finds out who signed the request whose head and body were read.
func (f *Frontend) authenticate(h *head, body []byte) (identity.Caller, error) {
	s := &h.signed
	s.Method, s.Path, s.Query, s.Body = "POST", text(h.path), text(h.query), body
	s.Host, s.Fields = "", s.Fields[:0]
	for _, field := range h.fields {
		if equalFold(field.name, "host") {
			s.Host = text(field.value)
			continue
		}
		s.Fields = append(s.Fields, identity.Field{Name: text(field.name), Value: text(field.value)})
	}
	return f.cfg.Identity.Authenticate(s)
}

// text sees bytes of a head as a string without copying them. identity keeps nothing of what it is given, and the head's
// buffer does not change before Authenticate has returned.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

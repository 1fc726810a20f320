package identity

import (
	"bytes"
	"slices"
	"strings"
)

// maxPairs bounds the pairs of a signed query.
const maxPairs = 256

// pair is one name and value of a query, encoded, by its place in scratch.query.
type pair struct{ name, value, end int }

// canonical writes the request as the client must have seen it when it signed: method, path, query, fields, their names and
// the body's hash. twice encodes the path once more, as every service but S3 has it. False when the claim is one nobody can
// have signed.
func (w *scratch) canonical(s *Signed, c *claim, twice bool) bool {
	b := append(w.text[:0], s.Method...)
	b = append(b, '\n')
	switch {
	case s.Path == "":
		b = append(b, '/')
	case twice:
		b = appendEncoded(b, s.Path, true)
	default:
		b = append(b, s.Path...)
	}
	b = append(b, '\n')
	b, ok := w.appendQuery(b, s.Query)
	if !ok {
		return false
	}
	b = append(b, '\n')
	host := false
	for rest := c.fields; rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, ";")
		b = append(b, name...)
		b = append(b, ':')
		if name == "host" {
			host = true
			b = appendTrimmed(b, s.Host)
		} else {
			b = s.appendField(b, name)
		}
		b = append(b, '\n')
	}
	b = append(b, '\n')
	b = append(b, c.fields...)
	b = append(b, '\n')
	if c.declared != "" {
		b = append(b, c.declared...)
	} else {
		var text [64]byte
		s.hash(&text)
		b = append(b, text[:]...)
	}
	w.text = b
	return host
}

// appendField writes the values of all fields of a name, which is in lower case, joined by commas.
func (s *Signed) appendField(b []byte, name string) []byte {
	first := true
	for i := range s.Fields {
		f := &s.Fields[i]
		if len(f.Name) != len(name) || !isLower(f.Name, name) {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = appendTrimmed(b, f.Value)
	}
	return b
}

// isLower reports whether name in lower case is lower; they are of one length.
func isLower(name, lower string) bool {
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// appendTrimmed writes a field's value without space around it and with single spaces inside.
func appendTrimmed(b []byte, value string) []byte {
	value = strings.Trim(value, " \t")
	if !strings.Contains(value, "  ") {
		return append(b, value...)
	}
	for i := range len(value) {
		if value[i] != ' ' || value[i-1] != ' ' { // the first is no space: it was trimmed
			b = append(b, value[i])
		}
	}
	return b
}

// appendQuery writes the query's pairs, encoded anew and sorted, but for the signature itself.
func (w *scratch) appendQuery(b []byte, query string) ([]byte, bool) {
	w.query, w.pairs = w.query[:0], w.pairs[:0]
	for query != "" {
		var part string
		part, query, _ = strings.Cut(query, "&")
		if part == "" || strings.HasPrefix(part, "X-Amz-Signature=") {
			continue
		}
		if len(w.pairs) == maxPairs {
			return b, false
		}
		name, value, _ := strings.Cut(part, "=")
		p := pair{name: len(w.query)}
		w.query = appendRecoded(w.query, name)
		p.value = len(w.query)
		w.query = appendRecoded(w.query, value)
		p.end = len(w.query)
		w.pairs = append(w.pairs, p)
	}
	if len(w.pairs) > 1 {
		slices.SortFunc(w.pairs, func(p, q pair) int {
			if n := bytes.Compare(w.query[p.name:p.value], w.query[q.name:q.value]); n != 0 {
				return n
			}
			return bytes.Compare(w.query[p.value:p.end], w.query[q.value:q.end])
		})
	}
	for i, p := range w.pairs {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(b, w.query[p.name:p.value]...)
		b = append(b, '=')
		b = append(b, w.query[p.value:p.end]...)
	}
	return b, true
}

const upperHex = "0123456789ABCDEF"

// plain reports whether a byte stands for itself in a canonical request.
func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '_' || c == '.' || c == '~'
}

// appendEncoded writes text with every byte that does not stand for itself as % and two digits; slashes stay in a path.
func appendEncoded(b []byte, text string, path bool) []byte {
	for i := range len(text) {
		if c := text[i]; plain(c) || path && c == '/' {
			b = append(b, c)
		} else {
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return b
}

// appendRecoded decodes a part of a query as it was sent and encodes it as it was signed.
func appendRecoded(b []byte, text string) []byte {
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '+':
			c = ' '
		case c == '%' && i+2 < len(text):
			if hi, lo := nibble(text[i+1]), nibble(text[i+2]); hi >= 0 && lo >= 0 {
				c = byte(hi<<4 | lo)
				i += 2
			}
		}
		if plain(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return b
}

// nibble reads a hexadecimal digit, -1 when it is none.
func nibble(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// cleanPath removes empty and dot segments, as botocore does before it signs; false when there are none.
func cleanPath(path string) (string, bool) {
	if !strings.Contains(path, "//") && !strings.Contains(path, "/.") {
		return path, false
	}
	var kept []string
	for part := range strings.SplitSeq(path, "/") {
		switch part {
		case "", ".":
		case "..":
			if len(kept) > 0 {
				kept = kept[:len(kept)-1]
			}
		default:
			kept = append(kept, part)
		}
	}
	clean := "/" + strings.Join(kept, "/")
	if len(kept) > 0 && strings.HasSuffix(path, "/") {
		clean += "/"
	}
	return clean, clean != path
}

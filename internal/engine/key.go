package engine

import (
	"strings"

	"kiln"
)

const hexDigits = "0123456789ABCDEF"

// plainKeyByte reports whether a byte of a key may stand in a subject as it is. The dot separates tokens and the equals sign
// is our own mark, so both are escaped.
func plainKeyByte(c byte) bool {
	return c == '-' || c == '_' || c == '/' ||
		'0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// escapeKey writes any key as a subject the store takes: other bytes become "=" and two hexadecimal digits, so no two keys
// share a subject and no key has a wildcard, a space or an empty token.
func escapeKey(key string) string {
	extra := 0
	for i := range len(key) {
		if !plainKeyByte(key[i]) {
			extra += 2
		}
	}
	if extra == 0 {
		return key
	}
	var b strings.Builder
	b.Grow(len(key) + extra)
	for i := range len(key) {
		if c := key[i]; plainKeyByte(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('=')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
	return b.String()
}

// unescapeKey reads what escapeKey wrote. False when it cannot have written it.
func unescapeKey(s string) (string, bool) {
	if !strings.Contains(s, "=") {
		return s, true
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '=' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		hi, lo := strings.IndexByte(hexDigits, s[i+1]), strings.IndexByte(hexDigits, s[i+2])
		if hi < 0 || lo < 0 {
			return "", false
		}
		b.WriteByte(byte(hi<<4 | lo))
		i += 2
	}
	return b.String(), true
}

// checkWrite refuses what no store could hold.
func checkWrite(op, key string, value []byte) error {
	if key == "" || len(key) > MaxKeyBytes {
		return kiln.Errorf(kiln.KindInvalid, op, "a document's key has 1 to %d bytes, this one %d", MaxKeyBytes, len(key))
	}
	if len(value) > MaxValueBytes {
		return kiln.Errorf(kiln.KindTooLarge, op, "a document has at most %d bytes, this one %d", MaxValueBytes, len(value))
	}
	return nil
}

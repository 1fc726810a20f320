package kiln

import "testing"

// A request id is a UUID of version 4 with the random bytes it is given.
func TestNewRequestID(t *testing.T) {
	for want, b := range map[RequestID][16]byte{
		"00000000-0000-4000-8000-000000000000": {},
		"01234567-89ab-4def-bfed-cba987654321": {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xff, 0xed, 0xcb, 0xa9, 0x87, 0x65, 0x43, 0x21},
	} {
		if got := NewRequestID(b); got != want {
			t.Errorf("%x gives %s, want %s", b, got, want)
		}
	}
}

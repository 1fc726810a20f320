package kiln

import "encoding/hex"

// NewRequestID gives the request id that sixteen random bytes make: a UUID of version 4 (RFC 9562).
func NewRequestID(b [16]byte) RequestID {
	var out [36]byte
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	hex.Encode(out[0:8], b[0:4])
	hex.Encode(out[9:13], b[4:6])
	hex.Encode(out[14:18], b[6:8])
	hex.Encode(out[19:23], b[8:10])
	hex.Encode(out[24:36], b[10:16])
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return RequestID(out[:])
}

package frontend

import (
	"errors"
	"io"

	"kiln"
)

// Bounds of the bodies held in memory.
const (
	// freeBodyBytes is what a body may take without asking for room: nearly all are smaller.
	freeBodyBytes = 64 << 10
	// maxBodiesBytes bounds what all larger bodies together take at once.
	maxBodiesBytes = 512 << 20
)

// receive reads a body of at most limit bytes; length is what was claimed, -1 when nothing was. Memory is taken as bytes
// arrive and not as they are claimed, and beyond the first of it only while there is room for all: held bytes of it are to
// be given back by release. Kinds: KindTooLarge, KindUnavailable (no room); other errors are the connection's.
func (f *Frontend) receive(r io.Reader, length, limit int64) (body []byte, held int64, err error) {
	end := limit
	if length >= 0 {
		end = length
	}
	if end > limit {
		return nil, 0, tooLarge(limit)
	}
	body = make([]byte, 0, min(end, freeBodyBytes))
	for {
		if length >= 0 && int64(len(body)) == length {
			return body, held, nil
		}
		if len(body) == cap(body) {
			// One byte more than the limit, when no length was claimed, tells a body that is too large from one that fits.
			grown := min(2*int64(cap(body))+1, end+1)
			if !f.bodies.TryAcquire(grown) {
				return nil, held, kiln.Errorf(kiln.KindUnavailable, "frontend: read body", "Too many large requests are being received; try again in a moment.")
			}
			held += grown
			body = append(make([]byte, 0, grown), body...)
		}
		room := body[len(body):cap(body)]
		if length >= 0 {
			room = room[:min(int64(len(room)), length-int64(len(body)))]
		}
		n, err := r.Read(room)
		body = body[:len(body)+n]
		switch {
		case int64(len(body)) > limit:
			return nil, held, tooLarge(limit)
		case errors.Is(err, io.EOF) && length < 0:
			return body, held, nil
		case errors.Is(err, io.EOF) && int64(len(body)) < length:
			return nil, held, io.ErrUnexpectedEOF
		case err != nil && !errors.Is(err, io.EOF):
			return nil, held, err
		}
	}
}

// release gives the room of a body back.
func (f *Frontend) release(held int64) {
	if held > 0 {
		f.bodies.Release(held)
	}
}

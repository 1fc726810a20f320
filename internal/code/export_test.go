package code

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"

	"kiln"
)

// Unpack unpacks a package into an empty folder, as Cache does.
func Unpack(ctx context.Context, zip io.ReaderAt, size int64, into *os.Root, limits Limits) (Contents, error) {
	p, err := newPlan(zip, size, limits)
	if err != nil {
		return Contents{}, err
	}
	return p.Contents, p.unpack(ctx, into, false)
}

// DigestOf gives the digest of bytes at hand.
func DigestOf(b []byte) kiln.Digest {
	sum := sha256.Sum256(b)
	return kiln.Digest(hex.EncodeToString(sum[:]))
}

// Used gives the number of packages and their bytes.
func (s *Store) Used() (packages int, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sizes), s.used
}

// Used gives the number of entries and their bytes on disk.
func (c *Cache) Used() (entries int, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.slots), c.used
}

// Has says whether a package is there, unpacked.
func (c *Cache) Has(digest kiln.Digest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.slots[digest]
	return s != nil && s.state == slotReady
}

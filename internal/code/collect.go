package code

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"time"

	"kiln"
)

// Collect removes the packages that were put before a time and that wanted does not want. A package somebody has just put
// and is about to refer to is younger than that, so give a time well in the past. Packages are looked at one by one; ctx
// ends the walk. It gives how many were removed and their bytes. Kinds: KindInternal.
func (s *Store) Collect(ctx context.Context, before time.Time, wanted func(kiln.Digest) bool) (removed int, size int64, err error) {
	s.mu.Lock()
	keys := make([][sha256.Size]byte, 0, len(s.sizes))
	for key := range s.sizes {
		keys = append(keys, key)
	}
	s.mu.Unlock()
	for _, key := range keys {
		if ctx.Err() != nil {
			return removed, size, nil
		}
		if wanted(kiln.Digest(hex.EncodeToString(key[:]))) {
			continue
		}
		n, err := s.removeOlder(key, before)
		if err != nil {
			return removed, size, diskError("code: collect packages", err)
		}
		if n >= 0 {
			removed++
			size += n
		}
	}
	return removed, size, nil
}

// removeOlder removes a package put before a time and gives its size; -1 when it is younger or gone. No name appears
// while it looks, so a package put again meanwhile is young.
func (s *Store) removeOlder(key [sha256.Size]byte, before time.Time) (int64, error) {
	s.change.Lock()
	defer s.change.Unlock()
	info, err := os.Stat(s.path(key))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.ModTime().Before(before) {
		return -1, nil
	}
	if err != nil {
		return -1, err
	}
	return info.Size(), s.removeLocked(key)
}

package code

import (
	"context"
	"io"

	"kiln"
)

// PutZip keeps what r gives as a deployment package: a zip AWS would take, of size bytes. It is checked before it counts
// as kept, and what is no package does not stay. Kinds: KindInvalid (AWS's texts), and Put's.
func (s *Store) PutZip(ctx context.Context, r io.Reader, size int64) (kiln.Digest, int64, error) {
	digest, size, err := s.Put(ctx, r, max(size, 1))
	if err != nil {
		return "", 0, err
	}
	file, _, err := s.Open(digest)
	if err != nil {
		return "", 0, err
	}
	defer file.Close()
	if _, err := CheckZip(ctx, file, Limits{}); err != nil {
		if kiln.KindOf(err) == kiln.KindInvalid { // nobody can refer to bytes that never passed
			_ = s.Delete(digest)
		}
		return "", 0, err
	}
	return digest, size, nil
}

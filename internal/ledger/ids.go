package ledger

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	// idsSuffix ends the name of the file that says which ids a segment may hold: its fingerprints, sorted, and their CRC-32,
	// each four bytes, little endian. It can be made again from the segment.
	idsSuffix = ".ids"
	// temporaryPrefix begins the name of a file that is being written; backups leave it out.
	temporaryPrefix = ".temporary-"
	// maxFilters bounds the segments whose fingerprints are held in memory, the newest: some 36 KB each, and with segments
	// of 8 MiB those of 4 GiB of records. Those of older ones are read for each search.
	maxFilters = 512
)

// fingerprints are those of the ids in a segment, sorted. A search for an id that is nowhere so reads no segment, but one
// in some hundred thousand by mistake.
type fingerprints []uint32

// hashID gives an id's hash, of which the lower half is its fingerprint. It is the same in every process.
func hashID(id string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(id))
	return h.Sum64()
}

// fingerprintsOf gives a table's fingerprints.
func fingerprintsOf(table []entry) fingerprints {
	prints := make(fingerprints, 0, len(table))
	for _, e := range table {
		if e.length > 0 {
			prints = append(prints, uint32(e.id))
		}
	}
	slices.Sort(prints)
	return slices.Compact(prints)
}

// holds reports whether an id of that hash may be among them.
func (p fingerprints) holds(hash uint64) bool {
	_, found := slices.BinarySearch(p, uint32(hash))
	return found
}

func (p fingerprints) encode() []byte {
	b := make([]byte, 0, 4*len(p)+4)
	for _, one := range p {
		b = binary.LittleEndian.AppendUint32(b, one)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// decodeFingerprints reads what encode wrote. False when it is damaged.
func decodeFingerprints(b []byte) (fingerprints, bool) {
	n := len(b)/4 - 1
	if n < 0 || len(b)%4 != 0 || crc32.ChecksumIEEE(b[:4*n]) != binary.LittleEndian.Uint32(b[4*n:]) {
		return nil, false
	}
	prints := make(fingerprints, n)
	for i := range prints {
		prints[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return prints, slices.IsSorted(prints)
}

// complete keeps the fingerprints of a segment that will not grow any more. That its file cannot be written costs only the
// making of it at another time.
func (j *journal[T]) complete(s *segment, table []entry) {
	prints := fingerprintsOf(table)
	temporary := filepath.Join(j.dir, temporaryPrefix+filepath.Base(j.idsPath(s)))
	if os.WriteFile(temporary, prints.encode(), 0o600) == nil {
		_ = os.Rename(temporary, j.idsPath(s))
	}
	j.keep(s, prints)
}

// keep holds a segment's fingerprints in memory when it is among the newest.
func (j *journal[T]) keep(s *segment, prints fingerprints) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s.prints = prints
	for _, old := range j.segments[:max(len(j.segments)-maxFilters, 0)] {
		old.prints = nil
	}
}

// mayHold reports whether a segment may hold an id. Reads the segment only when nothing else tells, and keeps what it
// learns.
func (j *journal[T]) mayHold(s *segment, hash uint64) bool {
	j.mu.Lock()
	prints, loaded := s.prints, s.loaded
	j.mu.Unlock()
	switch {
	case prints != nil:
		return prints.holds(hash)
	case loaded:
		return true // its table tells
	}
	if b, err := os.ReadFile(j.idsPath(s)); err == nil {
		if prints, ok := decodeFingerprints(b); ok {
			j.keep(s, prints)
			return prints.holds(hash)
		}
	}
	if _, err := j.load(s); err != nil {
		return false // deleted meanwhile, or unreadable
	}
	j.mu.Lock()
	prints = s.prints
	j.mu.Unlock()
	return prints == nil || prints.holds(hash)
}

// tidy removes what belongs to no complete segment: the rest of a writing that was cut short, of a backup, of a deletion.
func (j *journal[T]) tidy(names []string) error {
	complete := map[string]bool{}
	for _, s := range j.segments[:max(len(j.segments)-1, 0)] {
		complete[filepath.Base(j.idsPath(s))] = true
	}
	for _, name := range names {
		if !strings.HasSuffix(name, idsSuffix) || complete[name] {
			continue
		}
		if err := os.Remove(filepath.Join(j.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (j *journal[T]) idsPath(s *segment) string {
	return strings.TrimSuffix(j.path(s), segmentSuffix) + idsSuffix
}

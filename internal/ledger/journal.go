package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"kiln"
)

const (
	// segmentBytes is how large one file of a journal grows, in bytes: some 9,000 records.
	segmentBytes = 8 << 20
	// writeBytes is how much is encoded and written at a time, in bytes.
	writeBytes = 256 << 10
	// maxTables bounds the complete segments whose table of contents is held in memory, some 300 KB each: the newest, some
	// 36,000 records, which is where lists begin. Others are read again when somebody asks.
	maxTables = 4
	// maxLineBytes bounds one line of a journal, in bytes; longer ones are damage.
	maxLineBytes = 64 << 10
	// cleanName is a file that is there only while no process writes.
	cleanName = "clean"
	// segmentSuffix ends a segment's name, which begins with the number of its first line in 16 hexadecimal digits.
	segmentSuffix = ".jsonl"
)

// journal keeps items of one kind as lines of JSON in files of bounded size, the oldest of which are deleted. Line i of a
// file that begins at number f has number f+i. One goroutine writes (flush); any number read.
type journal[T any] struct {
	dir      string
	maxBytes int64
	key      func(*T) key
	encode   func([]byte, *T) []byte
	leaving  func() // called before items leave pending; may be nil
	seed     maphash.Seed
	pending  pending[T]

	file *os.File // the last segment's; the writer's alone
	buf  []byte   // the writer's alone

	mu       sync.Mutex
	segments []*segment // oldest first, the last is being written; guarded by mu, their fields too
	clock    uint64     // counts uses of tables; guarded by mu
}

// key is what a table knows of a line without reading it again.
type key struct {
	id, account, function string
	at                    int64 // microseconds since 1970
}

// entry is a line's place in its segment's table.
type entry struct {
	id       uint64 // hash, see hashID
	at       int64  // microseconds since 1970
	account  uint32 // hash
	function uint32 // hash
	offset   uint32 // a segment is little longer than segmentBytes
	length   int32  // without the line's end; 0 for a line that cannot be read
}

type segment struct {
	first  uint64
	size   int64
	table  []entry // nil when it is not in memory
	loaded bool
	used   uint64       // journal.clock at the last use
	prints fingerprints // of a complete segment's ids; nil when they are not in memory
	ended  time.Time    // when its last line was written, or later; zero while it grows
}

func openJournal[T any](dir string, maxBytes int64, maxPending int, key func(*T) key, encode func([]byte, *T) []byte) (*journal[T], error) {
	j := &journal[T]{dir: dir, maxBytes: maxBytes, key: key, encode: encode, seed: maphash.MakeSeed()}
	j.pending.limit = maxPending
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
		digits, ok := strings.CutSuffix(e.Name(), segmentSuffix)
		first, err := strconv.ParseUint(digits, 16, 64)
		if !ok || err != nil || len(digits) != 16 {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		j.segments = append(j.segments, &segment{first: first, size: info.Size(), ended: info.ModTime()})
	}
	slices.SortFunc(j.segments, func(a, b *segment) int { return int(min(max(int64(a.first-b.first), -1), 1)) })
	if err := j.tidy(names); err != nil {
		return nil, err
	}
	return j, j.resume()
}

// resume finds the number to go on with. After an unclean end up to a full buffer of numbers may have been given out and
// lost: they are passed over, so that no number is ever used twice.
func (j *journal[T]) resume() error {
	next := uint64(1)
	if n := len(j.segments); n > 0 {
		last := j.segments[n-1]
		whole, err := j.load(last)
		if err != nil {
			return err
		}
		if whole < last.size { // the last line is torn
			if err := os.Truncate(j.path(last), whole); err != nil {
				return err
			}
			last.size = whole
		}
		last.ended = time.Time{}
		next = last.first + uint64(len(last.table))
		if err := os.Remove(filepath.Join(j.dir, cleanName)); errors.Is(err, fs.ErrNotExist) {
			next += uint64(j.pending.limit)
		} else if err != nil {
			return err
		}
	}
	j.pending.first, j.pending.next = next, next
	return nil
}

// close says that nothing pending was lost.
func (j *journal[T]) close() error {
	var err error
	if j.file != nil {
		err = errors.Join(j.file.Sync(), j.file.Close())
		j.file = nil
	}
	return errors.Join(err, os.WriteFile(filepath.Join(j.dir, cleanName), nil, 0o600))
}

// flush writes what is pending. After an error nothing of it is lost: the same bytes are written again, at the same
// place, by the next flush.
func (j *journal[T]) flush() error {
	for {
		items, first := j.pending.oldest()
		if len(items) == 0 {
			return nil
		}
		s, err := j.writable(first)
		if err != nil {
			return err
		}
		j.buf = j.buf[:0]
		table := make([]entry, 0, len(items))
		for i := range items {
			if len(j.buf) >= writeBytes {
				break
			}
			start := len(j.buf)
			j.buf = append(j.encode(j.buf, &items[i]), '\n')
			table = append(table, j.entry(j.key(&items[i]), s.size+int64(start), len(j.buf)-start-1))
		}
		if _, err := j.file.WriteAt(j.buf, s.size); err != nil {
			j.file.Close()
			j.file = nil
			return err
		}
		j.mu.Lock()
		s.size += int64(len(j.buf))
		s.table = append(s.table, table...)
		j.mu.Unlock()
		if j.leaving != nil {
			j.leaving()
		}
		j.pending.remove(len(table))
	}
}

// writable gives the segment that item number next goes to, with its file open: the last one, unless it is full or its
// numbers do not reach next.
func (j *journal[T]) writable(next uint64) (*segment, error) {
	j.mu.Lock()
	var last *segment
	if n := len(j.segments); n > 0 {
		last = j.segments[n-1]
	}
	fits := last != nil && last.loaded && last.size < segmentBytes && last.first+uint64(len(last.table)) == next
	j.mu.Unlock()
	if fits && j.file != nil {
		return last, nil
	}
	if fits {
		f, err := os.OpenFile(j.path(last), os.O_WRONLY, 0)
		if err == nil {
			j.file = f
			return last, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return j.begin(next)
}

// begin starts a segment, and deletes the oldest beyond the bound.
func (j *journal[T]) begin(next uint64) (*segment, error) {
	if j.file != nil {
		err := errors.Join(j.file.Sync(), j.file.Close())
		j.file = nil
		if err != nil {
			return nil, err
		}
	}
	s := &segment{first: next, loaded: true}
	f, err := os.OpenFile(j.path(s), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	j.file = f
	j.mu.Lock()
	if n := len(j.segments); n > 0 && j.segments[n-1].first == next { // it was deleted from under us while empty
		j.segments = j.segments[:n-1]
	}
	var full *segment
	var table []entry
	if n := len(j.segments); n > 0 {
		full = j.segments[n-1]
		table = slices.Clone(full.table) // without the room it had to grow
		full.table = table
		full.ended = time.Now()
	}
	j.segments = append(j.segments, s)
	total := int64(segmentBytes)
	for _, s := range j.segments {
		total += s.size
	}
	var old []*segment
	for total > j.maxBytes && len(j.segments) > 1 {
		total -= j.segments[0].size
		old = append(old, j.segments[0])
		j.segments = slices.Clone(j.segments[1:])
	}
	j.forget()
	j.mu.Unlock()
	if full != nil && table != nil {
		j.complete(full, table)
	}
	for _, s := range old {
		for _, path := range []string{j.path(s), j.idsPath(s)} {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		}
	}
	return s, nil
}

// forget drops tables beyond the bound, the least recently used first. The caller holds mu.
func (j *journal[T]) forget() {
	for {
		var oldest *segment
		n := 0
		for _, s := range j.segments[:max(len(j.segments)-1, 0)] {
			if s.loaded {
				if n++; oldest == nil || s.used < oldest.used {
					oldest = s
				}
			}
		}
		if n <= maxTables {
			return
		}
		oldest.loaded, oldest.table = false, nil
	}
}

// load reads a segment's table from its file and gives the length of its whole lines. Errors are the system's.
func (j *journal[T]) load(s *segment) (whole int64, err error) {
	f, err := os.Open(j.path(s))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var table []entry
	whole, err = eachLine(f, func(offset int64, line []byte) {
		var item T
		if json.Unmarshal(line, &item) != nil {
			table = append(table, entry{offset: uint32(offset)})
			return
		}
		table = append(table, j.entry(j.key(&item), offset, len(line)))
	})
	if err != nil {
		return 0, err
	}
	j.mu.Lock()
	if !s.loaded {
		s.loaded, s.table = true, table
	}
	news := s.prints == nil && s != j.segments[len(j.segments)-1]
	j.forget()
	j.mu.Unlock()
	if news {
		j.complete(s, table)
	}
	return whole, nil
}

// eachLine calls yield with every whole line and gives where they end; what follows is torn. A line too long to be ours is
// given as an empty one. The line is yield's only until it returns.
func eachLine(r io.Reader, yield func(offset int64, line []byte)) (whole int64, err error) {
	buf := make([]byte, maxLineBytes)
	held, long := 0, false
	start := int64(0) // offset of buf[0], or of the long line whose end is being looked for
	for {
		n, err := r.Read(buf[held:])
		held += n
		at := 0
		for {
			end := bytes.IndexByte(buf[at:held], '\n')
			if end < 0 {
				break
			}
			if long {
				yield(whole, nil)
			} else {
				yield(whole, buf[at:at+end])
			}
			long = false
			at += end + 1
			whole = start + int64(at)
		}
		held = copy(buf, buf[at:held])
		start += int64(at)
		if held == len(buf) {
			start += int64(held)
			held, long = 0, true
		}
		if err == io.EOF {
			return whole, nil
		}
		if err != nil {
			return whole, err
		}
	}
}

// table gives a segment's table, loading it when it is not in memory.
func (j *journal[T]) table(s *segment) []entry {
	for range 3 { // it may be dropped again between loading and looking, when many read at once
		j.mu.Lock()
		j.clock++
		s.used = j.clock
		table, loaded := s.table, s.loaded
		j.mu.Unlock()
		if loaded {
			return table
		}
		if _, err := j.load(s); err != nil {
			return nil // deleted meanwhile, or unreadable: as if it were empty
		}
	}
	return nil
}

// list gives the segments, oldest first.
func (j *journal[T]) list() []*segment {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.segments)
}

// read gives the item at an entry of an open segment file.
func (j *journal[T]) read(f *os.File, e entry) (item T, ok bool) {
	line := make([]byte, e.length)
	if _, err := f.ReadAt(line, int64(e.offset)); err != nil {
		return item, false
	}
	return item, json.Unmarshal(line, &item) == nil
}

func (j *journal[T]) entry(k key, offset int64, length int) entry {
	return entry{id: hashID(k.id), account: j.hash32(k.account), function: j.hash32(k.function), at: k.at,
		offset: uint32(offset), length: int32(length)}
}

func (j *journal[T]) hash32(s string) uint32 { return uint32(maphash.String(j.seed, s)) }

func (j *journal[T]) path(s *segment) string {
	return filepath.Join(j.dir, fmt.Sprintf("%016x", s.first)+segmentSuffix)
}

// Cursors are opaque to callers: a letter for the list and the number of the next item to look at.
func cursor(list byte, seq uint64) string { return string(list) + strconv.FormatUint(seq, 36) }

func parseCursor(list byte, s string) (uint64, error) {
	if len(s) > 1 && s[0] == list {
		if seq, err := strconv.ParseUint(s[1:], 36, 64); err == nil {
			return seq, nil
		}
	}
	return 0, kiln.Errorf(kiln.KindInvalid, "ledger: read list", "The next token %.40q is not one of this list.", s)
}

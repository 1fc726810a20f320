package ledger

import "sync"

// chunkItems is how many items one chunk of pending holds.
const chunkItems = 256

// spareChunks is how many empty chunks are kept for the next burst.
const spareChunks = 4

// pending holds items that are not on disk yet, oldest first, in chunks that are used again. Adding one copies it and
// never waits for the disk. Items once added do not change until they are removed.
type pending[T any] struct {
	limit int // items

	mu     sync.Mutex
	chunks []*chunk[T] // guarded by mu; all full but the last
	spare  []*chunk[T] // guarded by mu
	taken  int         // items of chunks[0] that are removed; guarded by mu
	first  uint64      // sequence number of the oldest item; guarded by mu
	next   uint64      // sequence number of the next item; guarded by mu
}

type chunk[T any] struct {
	items [chunkItems]T
	n     int
}

// add copies an item in and gives its sequence number. name, when not nil, writes the number into the copy. False when
// there is no room. wake is true when there was nothing pending before.
func (p *pending[T]) add(item *T, name func(*T, uint64)) (seq uint64, wake, ok bool) {
	p.mu.Lock()
	if p.next-p.first >= uint64(p.limit) {
		p.mu.Unlock()
		return 0, false, false
	}
	var c *chunk[T]
	if n := len(p.chunks); n > 0 {
		c = p.chunks[n-1]
	}
	if c == nil || c.n == chunkItems {
		c = p.grow()
	}
	seq = p.next
	c.items[c.n] = *item
	if name != nil {
		name(&c.items[c.n], seq)
	}
	c.n++
	wake = p.first == p.next
	p.next++
	p.mu.Unlock()
	return seq, wake, true
}

// grow appends an empty chunk. The caller holds mu.
func (p *pending[T]) grow() *chunk[T] {
	var c *chunk[T]
	if n := len(p.spare); n > 0 {
		c = p.spare[n-1]
		p.spare = p.spare[:n-1]
	} else {
		c = new(chunk[T])
	}
	p.chunks = append(p.chunks, c)
	return c
}

// oldest gives a view of the oldest items that lie together, and the first one's sequence number. The view holds until
// remove is called, by the same caller.
func (p *pending[T]) oldest() ([]T, uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first == p.next {
		return nil, p.next
	}
	c := p.chunks[0]
	return c.items[p.taken:c.n], p.first
}

// remove takes the n oldest items out: they are on disk. They lie in one chunk.
func (p *pending[T]) remove(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.chunks[0]
	clear(c.items[p.taken : p.taken+n]) // lets go of what the items refer to
	p.taken += n
	p.first += uint64(n)
	if p.taken < c.n {
		return
	}
	c.n, p.taken = 0, 0
	if p.first == p.next { // the last chunk too is begun anew
		return
	}
	p.chunks = append(p.chunks[:0], p.chunks[1:]...)
	if len(p.spare) < spareChunks {
		p.spare = append(p.spare, c)
	}
}

// each calls yield with a copy of every item whose number lies in [from, to), newest first or oldest first, until it says
// no. It gives the number of the oldest pending item: older ones are on disk.
func (p *pending[T]) each(from, to uint64, newestFirst bool, yield func(seq uint64, item *T) bool) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	from, to = max(from, p.first), min(to, p.next)
	for i := uint64(0); from+i < to; i++ {
		seq := from + i
		if newestFirst {
			seq = to - 1 - i
		}
		at := int(seq-p.first) + p.taken
		if !yield(seq, &p.chunks[at/chunkItems].items[at%chunkItems]) {
			break
		}
	}
	return p.first
}

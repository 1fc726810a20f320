//go:build linux

package sandbox

import (
	"fmt"
	"hash/fnv"
	"net"
	"sync"

	"kiln"
)

// Host uids for guests. systemd leaves 0x70000000 to 0x7ffdffff to nobody (systemd.io/UIDS-GIDS); every server on the
// machine takes one segment of it, every container one range of its server's segment.
const (
	firstUID = 0x70000000
	// RangeSize is how many user and group ids a container has: 0 to RangeSize-1 as it sees them.
	RangeSize = 1024
	// rangesPerSegment bounds a server's containers alive at once.
	rangesPerSegment = 4096
	segments         = 63
)

// Ranges hands out ranges of host user ids, each to one container at a time.
type Ranges struct {
	first uint32
	claim net.Listener

	mu   sync.Mutex
	used map[uint32]bool // guarded by mu; by index in the segment
	next uint32          // guarded by mu; so that a range rests before it is given again
}

// ClaimRanges takes a segment for the server called name. The claim is a socket in the abstract namespace: the machine
// sees it, and it ends with the process. Kinds: KindUnavailable when all segments are taken.
func ClaimRanges(name string) (*Ranges, error) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // never fails
	start := h.Sum32() % segments
	for i := range uint32(segments) {
		segment := (start + i) % segments
		claim, err := net.Listen("unix", fmt.Sprintf("@kiln-uids-%d", segment))
		if err != nil {
			continue // another server's
		}
		return &Ranges{first: firstUID + segment*rangesPerSegment*RangeSize, claim: claim, used: map[uint32]bool{}}, nil
	}
	return nil, kiln.Errorf(kiln.KindUnavailable, "sandbox: claim user ids", "all %d segments of host user ids are taken by other servers on this machine", segments)
}

// Take gives the first host uid of a free range. Kinds: KindUnavailable when there is none.
func (r *Ranges) Take() (uint32, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for range rangesPerSegment {
		i := r.next
		r.next = (r.next + 1) % rangesPerSegment
		if !r.used[i] {
			r.used[i] = true
			return r.first + i*RangeSize, nil
		}
	}
	return 0, kiln.Errorf(kiln.KindUnavailable, "sandbox: take user ids", "%d containers are alive, the most one server has user ids for", rangesPerSegment)
}

// Return gives a range back.
func (r *Ranges) Return(first uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.used, (first-r.first)/RangeSize)
}

// Close gives the segment back.
func (r *Ranges) Close() { _ = r.claim.Close() }

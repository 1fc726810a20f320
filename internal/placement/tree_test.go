package placement

import (
	"math/rand/v2"
	"testing"

	"kiln"
)

// Trees that grow to many blocks and shrink to nothing hold what a plain list holds, in order, whatever is put in, moved and
// taken out, and no block but the only one is ever empty.
func TestTreeOfManyBlocks(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		x := &tree{}
		var slots []*slot
		for step := range 4000 {
			grows := 3 // of 5, then fewer
			if step > 2000 {
				grows = 1
			}
			switch n := r.IntN(5); {
			case n < grows:
				slots = append(slots, x.add(&Instance{Sequence: uint64(step), FreeMiB: 64 * r.IntN(40)}))
			case n == 4 && len(slots) > 0:
				s := slots[r.IntN(len(slots))]
				s.in.FreeMiB = 64 * r.IntN(40)
				s.refit()
			case len(slots) > 0:
				i := r.IntN(len(slots))
				x.remove(slots[i])
				slots[i] = slots[len(slots)-1]
				slots = slots[:len(slots)-1]
			}
			if step%16 > 0 {
				continue
			}
			need := r.IntN(64 * 42)
			var want *Instance
			for _, s := range slots {
				if in := s.in; in.FreeMiB >= need && (want == nil || in.FreeMiB < want.FreeMiB || in.FreeMiB == want.FreeMiB && in.Sequence < want.Sequence) {
					want = in
				}
			}
			if got := x.fit(need); got != want || int(x.len()) != len(slots) {
				t.Fatalf("seed %d step %d: %d MiB gives %+v, want %+v; %d of %d", seed, step, need, got, want, x.len(), len(slots))
			}
			for i, b := range x.blocks {
				if len(b.entries) > blockMax || len(b.entries) == 0 {
					t.Fatalf("seed %d step %d: block %d of %d has %d entries", seed, step, i, len(x.blocks), len(b.entries))
				}
			}
		}
		if len(slots) > 400 || len(x.blocks) > 1+len(slots)/8 {
			t.Errorf("seed %d: %d blocks for %d entries", seed, len(x.blocks), len(slots))
		}
	}
	var none *tree
	if none.fit(1) != nil || none.len() != 0 || (&tree{}).fit(kiln.MinMemoryMiB) != nil {
		t.Error("an empty tree has something")
	}
}

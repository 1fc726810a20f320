package sim

import (
	"reflect"
	"testing"
)

// With everything failing that can fail, nothing is lost, overcommitted, shared between accounts or left behind; one seed is
// one history (R21 R29 R30 R32 R34 R37 R43). The thousand seeds are in test/simulation.
func TestTry(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(30) {
		r, err := Try(t.Context(), seed)
		if err != nil {
			t.Fatal(err)
		}
		for o, n := range r.Outcomes {
			seen[o] += n
		}
		if seed == 0 {
			again, err := Try(t.Context(), seed)
			if err != nil || !reflect.DeepEqual(r, again) {
				t.Errorf("the same seed gave %+v, then %+v, %v", r, again, err)
			}
			t.Logf("%+v", r)
		}
	}
	for _, o := range []string{"done", "lost", "refused", "failed", "cancelled"} {
		if seen[o] == 0 {
			t.Errorf("no request was %s: %v", o, seen)
		}
	}
}

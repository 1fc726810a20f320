package code

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"kiln"
)

// What nobody wants is removed once it is old, what is wanted or young stays. (R100)
func TestCollect(t *testing.T) {
	s, err := OpenStore(t.TempDir(), Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	put := func(text string) kiln.Digest {
		d, _, err := s.Put(t.Context(), strings.NewReader(text), 100)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	wanted, unwanted := put("wanted"), put("unwanted")
	only := func(d kiln.Digest) bool { return d == wanted }
	if n, _, err := s.Collect(t.Context(), time.Now().Add(-time.Hour), only); n != 0 || err != nil {
		t.Fatalf("collected %d young packages, error %v", n, err)
	}
	n, size, err := s.Collect(t.Context(), time.Now().Add(time.Hour), only)
	if n != 1 || size != int64(len("unwanted")) || err != nil {
		t.Fatalf("collected %d packages of %d bytes, error %v", n, size, err)
	}
	if _, _, err := s.Open(unwanted); kiln.KindOf(err) != kiln.KindNotFound {
		t.Errorf("the unwanted package: %v", err)
	}
	if err := s.Verify(t.Context(), wanted); err != nil {
		t.Errorf("the wanted package: %v", err)
	}
}

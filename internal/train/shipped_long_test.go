//go:build long

package train

import (
	"context"
	"os"
	"slices"
	"testing"

	"kiln/internal/retention"
)

// The table that is shipped is what kiln train makes of the public traces, byte for byte (R40).
func TestShippedIsMadeAgain(t *testing.T) {
	dir := os.Getenv("KILN_TRACES")
	if dir == "" {
		dir = "../../../shared/traces"
	}
	traces, err := Development(dir)
	if err != nil {
		t.Skipf("SKIPPED: the public traces are not there (%v); set KILN_TRACES to their folder to run this", err)
	}
	made, err := Fit(context.Background(), traces, Options{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	shipped, err := retention.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(made.Bytes(), shipped.Bytes()) {
		t.Error("kiln train makes another table than the one that is shipped; run kiln train --out internal/retention/table.bin")
	}
}

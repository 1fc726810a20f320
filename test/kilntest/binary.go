package kilntest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// Root is the folder of the repository: the nearest one with a go.mod, from the folder of the package that is tested
// upwards. The paths that the compiler notes are no help: -trimpath takes them away.
func Root() string { return root() }

var root = sync.OnceValue(func() string {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	return "."
})

// built gives the kiln to test: $KILN_BIN, or one built from this tree. A value that is computed once is no state.
var built = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("KILN_BIN"); path != "" {
		return filepath.Abs(path)
	}
	// The packages of one run build it at the same time: each to a name of its own, then in one step to the common one.
	path := filepath.Join(Root(), "bin", "kiln-under-test")
	own := fmt.Sprintf("%s-%d", path, os.Getpid())
	if err := GoBuild("kiln/cmd/kiln", own); err != nil {
		return "", err
	}
	return path, os.Rename(own, path)
})

// Binary gives the path of the kiln to test.
func Binary() (string, error) { return built() }

// GoBuild builds a main package of this module as a static Linux binary.
func GoBuild(pkg, to string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-o", to, pkg)
	cmd.Dir = Root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

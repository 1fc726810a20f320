// Package images knows the language runtimes of this node: which interpreters are installed, how each is started as a
// prepared process, and Kiln's own bootstraps for them, which it writes into the data directory.
//
// It is not for packages of code, nor for containers: drivers show the host's /usr and the bootstraps' folder to a
// container and start what Runtime.Command says. server calls Find once; node asks Lookup at every start. An Images is
// read-only once made and safe for all.
package images

import (
	"cmp"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"kiln"
)

//go:embed bootstrap
var bootstraps embed.FS

// probeLimit bounds how long an interpreter may take to say its version.
const probeLimit = 5 * time.Second

// Config says where to look and where to write.
type Config struct {
	// Dir is the folder of the data directory for bootstraps; it is made.
	Dir string
	// Folders are where interpreters are looked for (default /usr/bin). Only what lies under /usr can be shown to a
	// container.
	Folders []string
	Logger  *slog.Logger
}

// Mode says what to do about an identifier whose exact interpreter is not installed.
type Mode string

// The modes.
const (
	// Nearest runs it on the nearest version of the same language.
	Nearest Mode = "nearest"
	// Strict refuses it.
	Strict Mode = "strict"
)

// Images are the runtimes of this node.
type Images struct{ found []found }

// found is one interpreter.
type found struct {
	language     string // "python", "nodejs", "provided"
	major, minor int
	runtime      kiln.Runtime
}

// Find looks for interpreters and writes the bootstraps. KindInternal when they cannot be written; an interpreter that does
// not work is left out and logged.
func Find(ctx context.Context, c Config) (*Images, error) {
	if len(c.Folders) == 0 {
		c.Folders = []string{"/usr/bin"}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	dir, err := write(c.Dir)
	if err != nil {
		return nil, kiln.Wrap(kiln.KindInternal, "images: write bootstraps", "the data directory cannot be written", err)
	}
	i := &Images{found: []found{{language: "provided", runtime: kiln.Runtime{
		Name: "provided", Kind: kiln.RuntimeProvided, Command: []string{"/bin/sh"}, BootstrapDir: dir}}}}
	for _, folder := range c.Folders {
		i.look(ctx, c.Logger, folder, dir)
	}
	slices.SortStableFunc(i.found, func(a, b found) int {
		return cmp.Or(strings.Compare(a.language, b.language), a.major-b.major, a.minor-b.minor)
	})
	return i, nil
}

// List gives the runtimes, sorted by language and version.
func (i *Images) List() []kiln.Runtime {
	list := make([]kiln.Runtime, len(i.found))
	for n, f := range i.found {
		list[n] = f.runtime
	}
	return list
}

var (
	fileName      = regexp.MustCompile(`^(?:(python)3\.\d+|(node)(?:js)?)$`)
	pythonVersion = regexp.MustCompile(`^Python (3)\.(\d+)\.`)
	nodeVersion   = regexp.MustCompile(`^v(\d+)\.(\d+)\.`)
)

// look adds the interpreters in one folder.
func (i *Images) look(ctx context.Context, logger *slog.Logger, folder, dir string) {
	entries, _ := os.ReadDir(folder) // a folder that is not there holds none
	for _, e := range entries {
		m := fileName.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		path := filepath.Join(folder, e.Name())
		real, err := filepath.EvalSymlinks(path)
		if err != nil || !strings.HasPrefix(real, "/usr/") || strings.HasPrefix(real, "/usr/local/pyenv") {
			logger.Warn("interpreter left out: not under /usr", "path", path, "error", err)
			continue
		}
		f := found{language: "nodejs"}
		pattern := nodeVersion
		if m[1] != "" {
			f.language, pattern = "python", pythonVersion
		}
		out, err := version(ctx, path)
		v := pattern.FindStringSubmatch(out)
		if v == nil {
			logger.Warn("interpreter left out: it does not say its version", "path", path, "error", err)
			continue
		}
		f.major, _ = strconv.Atoi(v[1])
		f.minor, _ = strconv.Atoi(v[2])
		f.runtime = f.prepare(path, dir)
		if !slices.ContainsFunc(i.found, func(o found) bool { return o.runtime.Name == f.runtime.Name }) {
			i.found = append(i.found, f)
		}
	}
}

// prepare says how the interpreter is started as a prepared process.
func (f found) prepare(path, dir string) kiln.Runtime {
	r := kiln.Runtime{Kind: kiln.RuntimeManaged, BootstrapDir: dir, Environment: map[string]string{"LANG": "en_US.UTF-8", "TZ": ":UTC"}}
	switch f.language {
	case "python":
		// -S leaves the host's site-packages out. Variables are heeded: a container made for one function may set them.
		r.Name = "python3." + strconv.Itoa(f.minor)
		r.Command = []string{path, "-S", "-s", "-B", "-X", "utf8", "/var/runtime/bootstrap.py"}
		// The bootstrap imports nothing that draws random numbers; what does, seeds itself from the kernel at its import. Node.js
		// has drawn the state of its generators from the kernel before its first line runs, and cannot be told to do so again.
		r.Copies = true
	case "nodejs":
		r.Name = "nodejs" + strconv.Itoa(f.major)
		r.Command = []string{path, "/var/runtime/bootstrap.js"}
	}
	return r
}

// version asks an interpreter for its version, within probeLimit.
func version(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	return string(out), err
}

// write puts the bootstraps into a folder named by their digest, so that another version of Kiln writes another, and
// gives its path. Running containers keep the one they were started with.
func write(dir string) (string, error) {
	sum := sha256.New()
	files := map[string][]byte{}
	err := fs.WalkDir(bootstraps, "bootstrap", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := bootstraps.ReadFile(path)
		files[e.Name()] = b
		sum.Write([]byte(e.Name()))
		sum.Write(b)
		return err
	})
	if err != nil {
		return "", err
	}
	cut, err := filepath.Glob(filepath.Join(dir, ".bootstrap-*"))
	if err != nil {
		return "", err
	}
	for _, path := range cut { // not renamed when the process before was killed
		if err := os.RemoveAll(path); err != nil {
			return "", err
		}
	}
	final := filepath.Join(dir, "bootstrap-"+hex.EncodeToString(sum.Sum(nil))[:16])
	if whole(final, files) {
		return final, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	temp, err := os.MkdirTemp(dir, ".bootstrap-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(temp, name), b, 0o444); err != nil {
			return "", err
		}
	}
	// The container's user is another than ours.
	if err := os.Chmod(temp, 0o755); err != nil {
		return "", err
	}
	if err := os.RemoveAll(final); err != nil {
		return "", err
	}
	return final, os.Rename(temp, final)
}

// whole reports whether the folder holds these files, byte for byte.
func whole(dir string, files map[string][]byte) bool {
	for name, b := range files {
		if have, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(have) != string(b) {
			return false
		}
	}
	return true
}

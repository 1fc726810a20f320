//go:build long && linux && amd64

package guestv2

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"kiln/test/kilntest"
)

// goStandIn is the machine's go: it has no compiler, and the tests' own programs come built.
const goStandIn = `#!/bin/sh
for word; do
	case $last in -o) out=$word ;; esac
	case $word in */rawloop) built=rawloop ;; main.go) built=guest ;; esac
	last=$word
done
cp "/tests/built/$built" "$out"
`

// makeDisk makes an image of a system that can run the tests.
func makeDisk(t *testing.T, folder string) string {
	t.Helper()
	tree := filepath.Join(folder, "tree")
	s := system{t: t, tree: tree, done: map[string]bool{}}
	for _, dir := range []string{"usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "usr/local/bin", "etc", "proc", "sys", "dev", "run", "tmp", "root", "var", "tests/built"} {
		s.must(os.MkdirAll(filepath.Join(tree, dir), 0o755))
	}
	for _, link := range []string{"bin", "sbin", "lib", "lib64"} {
		s.must(os.Symlink("usr/"+link, filepath.Join(tree, link)))
	}
	for _, name := range programs {
		if path, err := exec.LookPath(name); err == nil {
			s.add(path)
		} else if path, err := exec.LookPath("/usr/sbin/" + name); err == nil {
			s.add(path)
		}
	}
	s.python()
	s.add("/etc/ld.so.cache")
	s.must(os.WriteFile(filepath.Join(tree, "usr/local/bin/go"), []byte(goStandIn), 0o755))
	s.must(os.WriteFile(filepath.Join(tree, "etc/passwd"), []byte("root:x:0:0:root:/root:/bin/sh\n"), 0o644))
	s.build()
	image := filepath.Join(folder, "disk")
	s.must(os.WriteFile(image, nil, 0o600))
	s.must(os.Truncate(image, diskMiB<<20))
	s.run("", "mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", tree, image)
	return image
}

// system is the tree of files that becomes the disk.
type system struct {
	t    *testing.T
	tree string
	done map[string]bool
}

func (s system) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s system) run(dir, name string, args ...string) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// library is a line of ldd: "\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)" or "\t/lib64/ld-linux-x86-64.so.2 (0x…)".
var library = regexp.MustCompile(`(/\S+) \(0x`)

// add copies a file of this machine, what it links to, and the libraries it needs.
func (s system) add(path string) {
	s.t.Helper()
	if s.done[path] {
		return
	}
	s.done[path] = true
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return // a link to nowhere is no loss
	}
	b, err := os.ReadFile(real)
	s.must(err)
	info, err := os.Stat(real)
	s.must(err)
	// The root's own links (/bin to /usr/bin) are there already: a file goes where they lead.
	to := filepath.Join(s.tree, merged(path))
	s.must(os.MkdirAll(filepath.Dir(to), 0o755))
	s.must(os.WriteFile(to, b, info.Mode().Perm()))
	if !bytes.HasPrefix(b, []byte("\x7fELF")) {
		return
	}
	out, err := exec.CommandContext(s.t.Context(), "ldd", real).Output()
	if err != nil {
		return // a static program
	}
	for _, m := range library.FindAllStringSubmatch(string(out), -1) {
		s.add(m[1])
	}
}

func merged(path string) string {
	for _, top := range []string{"/bin/", "/sbin/", "/lib/", "/lib64/"} {
		if strings.HasPrefix(path, top) {
			return "/usr" + path
		}
	}
	return path
}

// python adds the standard library of this machine's interpreter.
func (s system) python() {
	s.t.Helper()
	found, err := filepath.Glob("/usr/lib/python3*")
	s.must(err)
	for _, top := range found {
		s.must(filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case e.IsDir() && (e.Name() == "dist-packages" || e.Name() == "test" || e.Name() == "idlelib" || strings.HasPrefix(e.Name(), "config-")):
				return fs.SkipDir
			case !e.IsDir():
				s.add(path)
			}
			return nil
		}))
	}
	interpreters, err := filepath.Glob("/usr/bin/python3*")
	s.must(err)
	for _, path := range interpreters {
		if !strings.HasSuffix(path, "-config") {
			s.add(path)
		}
	}
}

// build compiles the tests and the programs they would build.
func (s system) build() {
	s.t.Helper()
	root := kilntest.Root()
	for name, pkg := range map[string]string{"sandbox": "./internal/sandbox", "container": "./internal/driver/container"} {
		s.run(root, "go", "test", "-c", "-o", filepath.Join(s.tree, "tests", name), pkg)
	}
	s.run(root, "go", "test", "-c", "-tags", "clock", "-o", filepath.Join(s.tree, "tests", "clock"), "./test/guestv2/clock")
	s.must(kilntest.GoBuild("kiln/cmd/kiln", filepath.Join(s.tree, "tests", "kiln")))
	for name, pkg := range map[string]string{"rawloop": "./internal/driver/container/testdata/rawloop", "guest": "./internal/driver/drivertest/testdata/guest"} {
		s.run(root, "go", "build", "-o", filepath.Join(s.tree, "tests", "built", name), pkg)
	}
}

// makeRAMDisk makes the archive the kernel unpacks at first: init and the modules, in cpio's "new ASCII" format
// (Documentation/driver-api/early-userspace/buffer-format.rst).
func makeRAMDisk(t *testing.T, folder, kernel string) []byte {
	t.Helper()
	program := filepath.Join(folder, "init")
	if err := kilntest.GoBuild("kiln/test/guestv2/init", program); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	number := 0
	add := func(name string, mode int, content []byte) {
		number++
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
		b.WriteString(name + "\x00")
		b.Write(make([]byte, -b.Len()&3))
		b.Write(content)
		b.Write(make([]byte, -b.Len()&3))
	}
	for _, dir := range []string{"dev", "root", "modules"} {
		add(dir, 0o040755, nil)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	add("init", 0o100755, content)
	for i, name := range modules {
		found, err := filepath.Glob(filepath.Join(kernel, "lib/modules/*/kernel", name))
		if err != nil || len(found) != 1 {
			t.Fatalf("module %s: %v %v", name, found, err)
		}
		if content, err = os.ReadFile(found[0]); err != nil {
			t.Fatal(err)
		}
		add(fmt.Sprintf("modules/%02d.ko", i), 0o100644, content)
	}
	add("TRAILER!!!", 0, nil)
	return b.Bytes()
}

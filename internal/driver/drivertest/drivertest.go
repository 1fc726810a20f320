// Package drivertest is the suite that every node.Driver passes, called in one line by each driver's own test:
//
//	drivertest.Run(t, newDriver)
//
// It never asks whom it tests. What a driver cannot do it declares in its Capabilities, and the suite proves either the
// capability or its clean refusal; which interpreters it can start, its test says in Subject.Runtimes. The suite brings
// its own guests: a raw Runtime API loop, built here, for provided runtimes, and small handlers for managed ones.
//
// It is for tests only and stands beside the house. The suite runs its parts one after another; within one, calls go out
// from many goroutines as node makes them.
package drivertest

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kiln"
	"kiln/internal/images"
	"kiln/internal/node"
)

// Hooks are what the driver is to be made with: Config.Exited and Config.Output.
type Hooks struct {
	Exited func(kiln.Exit)
	Output func(kiln.ContainerID, []byte)
}

// Subject is a driver under test. Its maker registers its end with t.Cleanup.
type Subject struct {
	Driver node.Driver
	// Runtimes are those it can start; "provided" is among them. Runtimes gives this machine's.
	Runtimes []kiln.Runtime
	// Left names what is left on the machine of containers and instances; called when all are deleted. May be nil.
	Left func() []string
}

// Runtimes finds the runtimes of this machine, with their bootstraps in a folder of the test.
func Runtimes(t testing.TB) []kiln.Runtime {
	t.Helper()
	i, err := images.Find(t.Context(), images.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return i.List()
}

//go:embed testdata/guest/main.go
var guestSource []byte

// patience bounds every wait of the suite; none is expected to take a tenth of it.
const patience = 60 * time.Second

// Run puts a driver through the suite.
func Run(t *testing.T, newDriver func(t *testing.T, h Hooks) Subject) {
	s := &suite{newDriver: newDriver, guest: build(t)}
	for _, part := range []struct {
		name string
		run  func(*bench)
	}{
		{"Life", life}, {"Unknown", unknown}, {"LateCode", lateCode}, {"Output", output}, {"FunctionError", functionError},
		{"Crash", crash}, {"Timeout", timeout}, {"Many", many}, {"DeleteWhileExecuting", deleteWhileExecuting},
		{"InitFails", initFails}, {"Fresh", fresh}, {"Limits", limits}, {"Resize", resize}, {"Pause", pause}, {"Detach", detach}, {"Isolation", isolation},
		{"Managed", managed}, {"ManagedFresh", managedFresh}, {"Several", several}, {"SeveralManaged", severalManaged},
	} {
		t.Run(part.name, func(t *testing.T) {
			b := s.bench(t)
			part.run(b)
			b.end()
		})
	}
}

type suite struct {
	newDriver func(*testing.T, Hooks) Subject
	guest     string // the built bootstrap
}

// build compiles the guest as a static program.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), guestSource, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", "bootstrap", "main.go")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build guest: %v\n%s", err, out)
	}
	return filepath.Join(dir, "bootstrap")
}

// bench is one part's driver with what it told.
type bench struct {
	*testing.T
	Subject
	guest string
	next  atomic.Int64

	mu      sync.Mutex
	exits   map[kiln.ContainerID][]kiln.Exit
	written map[kiln.ContainerID][]byte
	largest int // piece of output
	changed chan struct{}
	made    []kiln.InstanceID
}

func (s *suite) bench(t *testing.T) *bench {
	b := &bench{T: t, guest: s.guest, exits: map[kiln.ContainerID][]kiln.Exit{}, written: map[kiln.ContainerID][]byte{}, changed: make(chan struct{}, 1)}
	b.Subject = s.newDriver(t, Hooks{
		Exited: func(e kiln.Exit) {
			b.mu.Lock()
			b.exits[e.Container] = append(b.exits[e.Container], e)
			b.mu.Unlock()
			b.signal()
		},
		Output: func(id kiln.ContainerID, p []byte) {
			b.mu.Lock()
			b.written[id] = append(b.written[id], p...)
			b.largest = max(b.largest, len(p))
			b.mu.Unlock()
			b.signal()
		},
	})
	return b
}

func (b *bench) signal() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// eventually waits until ok, which is called with mu held after each Exited and Output.
func (b *bench) eventually(what string, ok func() bool) {
	b.Helper()
	limit := time.After(patience)
	for {
		b.mu.Lock()
		done := ok()
		b.mu.Unlock()
		if done {
			return
		}
		select {
		case <-b.changed:
		case <-limit:
			b.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// end deletes what the part made and looks whether anything is left.
func (b *bench) end() {
	b.Helper()
	for _, id := range b.made {
		if err := b.Driver.DeleteInstance(b.Context(), id); err != nil {
			b.Errorf("delete instance: %v", err)
		}
	}
	if b.Left != nil {
		if left := b.Left(); len(left) > 0 {
			b.Errorf("left behind: %v", left)
		}
	}
}

func (b *bench) runtime(name string) (kiln.Runtime, bool) {
	for _, r := range b.Runtimes {
		if strings.HasPrefix(r.Name, name) {
			return r, true
		}
	}
	return kiln.Runtime{}, false
}

// instance boots an instance.
func (b *bench) instance() kiln.InstanceID {
	b.Helper()
	n := b.next.Add(1)
	id := kiln.InstanceID(fmt.Sprintf("i-%08x%08x", time.Now().UnixNano()&0xffffffff, n))
	spec := kiln.InstanceSpec{ID: id, BootID: fmt.Sprintf("%032x", n), AllowanceMiB: 512, Configuration: kiln.Configuration{
		Driver: b.Driver.Capabilities().Name, Runtime: "provided", Shape: kiln.Shape{MemoryMiB: 2048, CPUs: 2}}}
	if err := b.Driver.CreateInstance(b.Context(), spec); err != nil {
		b.Fatalf("create instance: %v", err)
	}
	b.made = append(b.made, id)
	return id
}

// container makes a container; from any goroutine.
func (b *bench) container(i kiln.InstanceID, runtime string, fresh *kiln.Binding) kiln.ContainerID {
	b.Helper()
	r, ok := b.runtime(runtime)
	if !ok {
		b.Errorf("no runtime %s", runtime)
		return ""
	}
	id := kiln.ContainerID(fmt.Sprintf("c-%08x%08x", time.Now().UnixNano()&0xffffffff, b.next.Add(1)))
	if _, err := b.Driver.CreateContainer(b.Context(), kiln.ContainerSpec{ID: id, Instance: i, Runtime: r, Fresh: fresh}); err != nil {
		b.Errorf("create container: %v", err)
	}
	return id
}

// code makes an unpacked package of files, and attaches it.
func (b *bench) code(i kiln.InstanceID, files map[string]string) string {
	b.Helper()
	dir := b.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	if err := b.Driver.AttachPackage(b.Context(), i, digest(dir), dir); err != nil {
		b.Fatalf("attach package: %v", err)
	}
	return dir
}

// digest names a folder as a package; what is in it is of no account here.
func digest(dir string) kiln.Digest {
	sum := sha256.Sum256([]byte(dir))
	return kiln.Digest(hex.EncodeToString(sum[:]))
}

// compiled makes a package with the compiled guest and a constant.
func (b *bench) compiled(i kiln.InstanceID, constant string) string {
	b.Helper()
	program, err := os.ReadFile(b.guest)
	if err != nil {
		b.Fatal(err)
	}
	return b.code(i, map[string]string{"bootstrap": string(program), "constant": constant})
}

// binding is a function of 128 MiB in dir.
func binding(dir, handler string, env map[string]string) kiln.Binding {
	all := map[string]string{"LAMBDA_TASK_ROOT": "/var/task", "PATH": "/usr/bin:/bin", "TZ": ":UTC"}
	maps.Copy(all, env)
	return kiln.Binding{
		Version: &kiln.Version{Account: kiln.DefaultAccount, Function: "f", Number: kiln.Latest, Package: digest(dir), Handler: handler, MemoryMiB: 128, DiskMiB: 512, TimeoutMillis: 3000},
		Amounts: kiln.Amounts{MemoryMiB: 128, MilliCPUs: 500, DiskMiB: 512, Processes: 64}, Environment: all, CodeDir: dir, InitLimit: 20 * time.Second}
}

// bind binds and wants success; from any goroutine.
func (b *bench) bind(c kiln.ContainerID, g kiln.Binding) {
	b.Helper()
	r, err := b.Driver.BindContainer(b.Context(), c, g)
	if err != nil {
		b.Errorf("bind container: %v", err)
	} else if r.Failure != nil {
		b.Errorf("initialisation: %s %s", r.Failure.Type, r.Failure.Payload)
	}
}

// ready makes a container that runs the compiled guest.
func (b *bench) ready(i kiln.InstanceID, dir string) kiln.ContainerID {
	b.Helper()
	c := b.container(i, "provided", nil)
	b.bind(c, binding(dir, "h", nil))
	return c
}

// execute has a container execute an event within limit.
func (b *bench) execute(c kiln.ContainerID, event string, limit time.Duration) kiln.Answer {
	id := kiln.RequestID(fmt.Sprintf("00000000-0000-4000-8000-%012x", b.next.Add(1)))
	return b.Driver.Execute(b.Context(), c, &kiln.Delivery{RequestID: id, Payload: []byte(event), Deadline: time.Now().Add(limit),
		ARN: "arn:aws:lambda:us-east-1:000000000000:function:f"})
}

// info is what the compiled guest sees of itself.
type info struct {
	Count                                                     int
	Host, Cwd, Machine, Constant, Marker, Memory, Quota, Left string
	Env                                                       map[string]string
}

func (b *bench) info(c kiln.ContainerID) (i info) {
	b.Helper()
	a := b.execute(c, `{"do":"info"}`, patience)
	if a.Failure != nil {
		b.Errorf("info: %s", a.Failure.Payload)
	} else if err := json.Unmarshal(a.Payload, &i); err != nil {
		b.Errorf("info %q: %v", a.Payload, err)
	}
	return i
}

// wantLost checks an answer that ended its container.
func (b *bench) wantLost(a kiln.Answer, outcome kiln.Outcome, kind string) {
	b.Helper()
	if a.Failure == nil || a.Failure.Outcome != outcome || a.Failure.Type != kind || !a.Lost || a.Undelivered {
		b.Errorf("got %+v (payload %s), want a lost container: %s %s", a, a.Payload, outcome, kind)
	}
}

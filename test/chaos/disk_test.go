package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"golang.org/x/sys/unix"

	"kiln/test/kilntest"
)

const (
	// diskMiB is the size of the disk that is filled, reserveMiB what the server is told to leave alone of it.
	diskMiB, reserveMiB = 512, 64
	// recoversWithin bounds the time from space being there again until everything is as before.
	recoversWithin = 30 * time.Second
)

// smallDisk mounts a file system of its own on a file.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	image, top := filepath.Join(dir, "image"), filepath.Join(dir, "disk")
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			kilntest.Skip(t, "%s: %v: %s", name, err, out)
		}
	}
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, diskMiB<<20), os.Mkdir(top, 0o700)); err != nil {
		t.Fatal(err)
	}
	run("mkfs.ext4", "-q", "-F", "-m", "0", image)
	run("mount", "-o", "loop", image, top)
	t.Cleanup(func() {
		if out, err := exec.Command("umount", top).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
			_ = exec.Command("umount", "-l", top).Run() // so that the next test has its disk
		}
	})
	return top
}

// filler is the file that takes the space.
type filler struct {
	t    *testing.T
	path string
}

// leave fills the disk until at most this many bytes are free.
func (f filler) leave(free int64) {
	f.t.Helper()
	file, err := os.OpenFile(f.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		f.t.Fatal(err)
	}
	defer file.Close()
	for block := int64(1 << 20); block >= 4096; block /= 16 {
		for {
			var fs unix.Statfs_t
			if err := unix.Statfs(f.path, &fs); err != nil {
				f.t.Fatal(err)
			}
			if int64(fs.Bavail)*int64(fs.Bsize)-block < free {
				break
			}
			if _, err := file.Write(make([]byte, block)); err != nil {
				break // full
			}
		}
	}
	_ = file.Sync()
}

func (f filler) remove() {
	if err := os.Remove(f.path); err != nil {
		f.t.Error(err)
	}
}

// The disk under the data directory fills up, first into the reserve, then to the last byte. New code is refused with an
// error that names the disk; what is registered is read and executed all the while; when there is room again everything is
// as before, by itself, and a kill shows that nothing acknowledged was lost. // R101
func TestDiskFull(t *testing.T) {
	kilntest.NeedContainer(t)
	top := smallDisk(t)
	s := kilntest.Start(t, kilntest.Options{Data: filepath.Join(top, "data"), Listen: address(t), Settings: map[string]string{
		"warming.instances": "1", "disk.reserve": fmt.Sprint(reserveMiB), "instances.shapes": `[{"memory":1024,"cpus":2}]`}})
	a := s.NewAccount(t)
	names := []string{a.Probe("python", "one"), a.Probe("go", "two")}
	for _, name := range names {
		a.Invoke(kilntest.Invocation{Function: name}).Facts()
	}
	fill := filler{t, filepath.Join(top, "filler")}
	for _, free := range []int64{reserveMiB << 20 / 2, 0} {
		t.Run(fmt.Sprintf("%d MiB left", free>>20), func(t *testing.T) {
			fill.leave(free)
			began := time.Now()
			for time.Since(began) < time.Second {
				stillServes(t, a, names)
			}
			refusedForTheDisk(t, a, "late")
		})
		fill.remove()
		kilntest.Eventually(t, recoversWithin, func() error { return deploys(t, a, fmt.Sprintf("after-%d", free>>20)) })
		stillServes(t, a, names)
		recorded(t, a, names[0])
	}
	_, err := a.Lambda().GetFunction(context.Background(), &lambda.GetFunctionInput{FunctionName: aws.String("late")})
	if err == nil {
		t.Error("what was refused is there")
	}
	before := s.Kill(t)
	s.Restart(t)
	for _, what := range before.Still(s.Kernel(t)) {
		t.Errorf("left behind: %s", what)
	}
	for _, name := range append(names, "after-0", "after-32") {
		a.Invoke(kilntest.Invocation{Function: name}).OK()
	}
}

// The disk stalls: a write to it waits until the test lets it go on. What is warm is executed meanwhile, for records are
// written behind; a registration waits, and is acknowledged when it is on disk. // R101
func TestDiskStalls(t *testing.T) {
	kilntest.NeedContainer(t)
	top := smallDisk(t)
	s := kilntest.Start(t, kilntest.Options{Data: filepath.Join(top, "data"), Settings: map[string]string{
		"warming.instances": "1", "disk.reserve": fmt.Sprint(reserveMiB), "instances.shapes": `[{"memory":1024,"cpus":2}]`}})
	a := s.NewAccount(t)
	name := a.Probe("python", "warm")
	a.Invoke(kilntest.Invocation{Function: name}).Facts()
	input := kilntest.Probe(t, "go", "waits").Unique().Input(t)
	if out, err := exec.Command("fsfreeze", "-f", top).CombinedOutput(); err != nil {
		kilntest.Skip(t, "fsfreeze: %v: %s", err, out)
	}
	var thawed atomic.Bool
	thaw := sync.OnceFunc(func() {
		thawed.Store(true)
		if out, err := exec.Command("fsfreeze", "-u", top).CombinedOutput(); err != nil {
			t.Errorf("fsfreeze -u: %v: %s", err, out)
		}
	})
	t.Cleanup(thaw)
	defer time.AfterFunc(stallAtMost, thaw).Stop() // for executions that wait for the disk, which is the failure
	deployed := make(chan error, 1)
	go func() {
		_, err := a.Lambda().CreateFunction(context.Background(), input)
		deployed <- err
	}()
	var ids []string
	for range 20 {
		ids = append(ids, a.Invoke(kilntest.Invocation{Function: name}).OK().RequestID())
	}
	if thawed.Load() {
		t.Errorf("20 warm executions did not end while the disk stalled for %s", stallAtMost)
	}
	select {
	case err := <-deployed:
		t.Errorf("the registration was answered before it was on disk: %v", err)
		deployed <- nil
	default:
	}
	thaw()
	if err := <-deployed; err != nil {
		t.Errorf("the registration: %v", err)
	}
	a.WaitActive("waits")
	a.Invoke(kilntest.Invocation{Function: "waits"}).Facts()
	for _, id := range ids {
		a.Execution(id)
	}
}

// stallAtMost bounds how long the disk stalls: less than the server waits for a write.
const stallAtMost = 8 * time.Second

// stillServes demands that what is registered is read and executed.
func stillServes(t *testing.T, a *kilntest.Account, names []string) {
	t.Helper()
	for _, name := range names {
		a.Invoke(kilntest.Invocation{Function: name}).Facts()
		a.Do(kilntest.Call{Method: http.MethodGet, Path: "/2015-03-31/functions/" + name}).OK()
	}
	a.Do(kilntest.Call{Method: http.MethodGet, Path: "/2015-03-31/functions"}).OK()
	a.Do(kilntest.Call{Method: http.MethodGet, Path: "/kiln/v1/executions", Service: "kiln"}).OK()
}

// refusedForTheDisk demands that new code is refused, by an error that says why.
func refusedForTheDisk(t *testing.T, a *kilntest.Account, name string) {
	t.Helper()
	client := a.Lambda(func(o *lambda.Options) { o.RetryMaxAttempts = 1 })
	_, err := client.CreateFunction(context.Background(), kilntest.Probe(t, "go", name).Unique().Input(t))
	if err == nil || !strings.Contains(err.Error(), "disk") {
		t.Errorf("new code on a full disk: %v", err)
	}
}

func deploys(t *testing.T, a *kilntest.Account, name string) error {
	client := a.Lambda(func(o *lambda.Options) { o.RetryMaxAttempts = 1 })
	if _, err := client.CreateFunction(context.Background(), kilntest.Probe(t, "go", name).Unique().Input(t)); err != nil && !strings.Contains(err.Error(), "ResourceConflict") {
		return err
	}
	a.WaitActive(name)
	_, err := a.TryInvoke(kilntest.Invocation{Function: name})
	return err
}

// recorded demands that new executions leave their records again.
func recorded(t *testing.T, a *kilntest.Account, name string) {
	t.Helper()
	answer := a.Invoke(kilntest.Invocation{Function: name}).OK()
	if e := a.Execution(answer.RequestID()); e.Outcome != "success" {
		t.Errorf("the record: %+v", e)
	}
}

package door

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"kiln/test/kilntest"
)

// With less disk free than the reserve, and with none at all, new code is refused with a sentence; what is registered
// runs and can be read; with room again everything goes on by itself.
// R44
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		kilntest.Skip(t, "this needs root, to mount a small disk")
	}
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=192m"); err != nil {
		kilntest.Skip(t, "no small disk can be mounted: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	s := kilntest.Start(t, kilntest.Options{Driver: "process", Data: filepath.Join(disk, "data"), Settings: map[string]string{"disk.reserve": "32"}})
	operator := s.Operator(t)
	name := operator.Probe("python", "before")
	operator.Invoke(kilntest.Invocation{Function: name, Payload: `{}`}).OK()
	filler := filepath.Join(disk, "filler")
	for _, leave := range []int64{16 << 20, 0} {
		fill(t, filler, disk, leave)
		code := kilntest.Probe(t, "python", fmt.Sprintf("refused%d", leave)).Unique()
		body, err := json.Marshal(map[string]any{"FunctionName": code.Name, "Runtime": code.Runtime, "Handler": code.Handler,
			"Role": "arn:aws:iam::000000000000:role/r", "Code": map[string]any{"ZipFile": code.Zip(t)}})
		if err != nil {
			t.Fatal(err)
		}
		answer := operator.Do(kilntest.Call{Method: http.MethodPost, Path: "/2015-03-31/functions", Body: body})
		if answer.Refused(http.StatusServiceUnavailable, "ServiceUnavailableException"); !bytes.Contains(answer.Body, []byte("disk")) {
			t.Errorf("with %d MiB left: %s", leave>>20, answer.Body)
		}
		operator.Invoke(kilntest.Invocation{Function: name, Payload: `{}`}).OK()
		operator.Do(kilntest.Call{Method: http.MethodGet, Path: "/2015-03-31/functions/" + name}).OK()
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	after := operator.Probe("python", "after")
	operator.Invoke(kilntest.Invocation{Function: after, Payload: `{}`}).OK()
	var last string
	kilntest.Eventually(t, 10*time.Second, func() error {
		last = operator.Invoke(kilntest.Invocation{Function: name, Payload: `{}`}).OK().RequestID()
		answer := operator.Do(kilntest.Call{Method: http.MethodGet, Path: "/kiln/v1/executions/" + last, Service: "kiln"})
		return answer.Failure()
	})
}

// fill takes the disk's space but for some bytes.
func fill(t *testing.T, path, disk string, leave int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for piece := int64(1 << 20); piece >= 512; {
		var fs syscall.Statfs_t
		if err := syscall.Statfs(disk, &fs); err != nil {
			t.Fatal(err)
		}
		if int64(fs.Bavail)*int64(fs.Bsize)-leave < piece {
			piece /= 2
			continue
		}
		if _, err := f.Write(make([]byte, piece)); err != nil {
			piece /= 2
		}
	}
}

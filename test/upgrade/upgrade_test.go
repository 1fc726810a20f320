// Package upgrade shows that a Kiln starts on what an older one has left: a data directory of each format there ever was
// lies in testdata, made by make-data.sh with a real server. It shows too that what can not be read is not touched, and
// that a backup holds all that a data directory does. Nothing else calls it.
package upgrade

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kiln/test/kilntest"
)

// unpack makes a data directory of an archive.
func unpack(t *testing.T, archive string) string {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "data")
	for r := tar.NewReader(z); ; {
		entry, err := r.Next()
		if errors.Is(err, io.EOF) {
			return data
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(data, filepath.Clean("/"+entry.Name))
		if entry.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o700)
		} else {
			var b []byte
			if b, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(path, b, fs.FileMode(entry.Mode))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// secondAccount reads the key of the account that make-data.sh made.
func secondAccount(t *testing.T, data string, s *kilntest.Server) *kilntest.Account {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(data, "second-account"))
	if err != nil {
		t.Fatal(err)
	}
	a := s.Operator(t)
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		value = strings.Trim(value, `"'`)
		switch name {
		case "AWS_ACCESS_KEY_ID":
			a.Key = value
		case "AWS_SECRET_ACCESS_KEY":
			a.Secret = value
		case "KILN_ACCOUNT_ID":
			a.ID = value
		}
	}
	return a
}

// holds checks everything make-data.sh made, by what the server answers; old is when it was made at the latest.
func holds(t *testing.T, s *kilntest.Server, data string) {
	t.Helper()
	operator := s.Operator(t)
	for qualifier, want := range map[string]string{
		"":     `{"salute": "hello", "event": {"n": 9}, "version": "$LATEST"}`,
		"live": `{"greeting": "hello", "event": {"n": 9}, "version": "1"}`,
		"1":    `{"greeting": "hello", "event": {"n": 9}, "version": "1"}`,
	} {
		if got := string(operator.Invoke(kilntest.Invocation{Function: "greet", Qualifier: qualifier, Payload: `{"n": 9}`}).OK().Body); got != want {
			t.Errorf("greet:%s answers %s, want %s", qualifier, got, want)
		}
	}
	theirs := secondAccount(t, data, s)
	theirs.Invoke(kilntest.Invocation{Function: "theirs", Payload: `{}`}).OK()
	theirs.Invoke(kilntest.Invocation{Function: "greet", Payload: `{}`}).Refused(404, "ResourceNotFoundException")
	old := 0
	for _, e := range operator.Executions("function=greet", "account="+operator.ID) {
		if e.Times.Received != nil && e.Times.Received.Before(s.Started) {
			old++
		}
	}
	if old != 2 {
		t.Errorf("%d records of before are there, want 2", old)
	}
	if events := operator.Events("kind=container.bind"); len(events) < 3 || !events[0].Time.Before(s.Started) {
		t.Errorf("the events of before are not there: %d bindings", len(events))
	}
	log, err := s.CLI("logs", "greet", "--data", s.Data)
	if err != nil || !strings.Contains(log, "said by 1") || !strings.Contains(log, "said by $LATEST") {
		t.Errorf("the log of before is not there: %v\n%s", err, log)
	}
}

// A server starts on a data directory of every format there ever was and finds everything: functions, versions, aliases,
// accounts, keys, records, events and logs.
// R101
func TestUpgrade(t *testing.T) {
	archives, err := filepath.Glob("testdata/format-*.tar.gz")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no data directory to start from: %v", err)
	}
	for _, archive := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(archive), ".tar.gz"), func(t *testing.T) {
			data := unpack(t, archive)
			holds(t, kilntest.Start(t, kilntest.Options{Data: data}), data)
		})
	}
}

// tree gives a digest of everything in a folder: names, modes, times and bytes.
func tree(t *testing.T, root string) string {
	t.Helper()
	sum := sha256.New()
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintln(sum, path, info.Mode(), info.ModTime().UnixNano())
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			_, _ = sum.Write(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// run runs kiln, which must succeed.
func run(t *testing.T, args ...string) {
	t.Helper()
	binary, err := kilntest.Binary()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), binary, args...).CombinedOutput(); err != nil {
		t.Fatalf("kiln %v: %v\n%s", args, err, out)
	}
}

// refused runs kiln, which must end with status 2, and gives what it says.
func refused(t *testing.T, args ...string) string {
	t.Helper()
	binary, err := kilntest.Binary()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), binary, args...).CombinedOutput()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != 2 {
		t.Fatalf("kiln %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// A data directory of a format to come, one without its format, and one that was restored in part are refused with a
// sentence, and not a byte, a time or a name in them changes.
func TestUnknownFormat(t *testing.T) {
	for text, want := range map[string]string{"2\n": `format "2"`, "restoring\n": "not restored to its end", "": "lost its file format", "x": `format "x"`} {
		data := unpack(t, "testdata/format-1.tar.gz")
		path := filepath.Join(data, "format")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if text == "" {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		before := tree(t, data)
		if said := refused(t, "serve", "--data", data, "--listen", "127.0.0.1:0", "--driver", "process"); !strings.Contains(said, want) {
			t.Errorf("%q: said %q, want %q", text, said, want)
		}
		if tree(t, data) != before {
			t.Errorf("%q: the directory was touched", text)
		}
	}
}

// A backup taken while the server runs and changes, and one taken after it has ended, restore into all there was. The file is
// its owner's alone.
func TestBackup(t *testing.T) {
	data := unpack(t, "testdata/format-1.tar.gz")
	folder := t.TempDir()
	running, ended := filepath.Join(folder, "running.tar"), filepath.Join(folder, "ended.tar")
	s := kilntest.Start(t, kilntest.Options{Data: data})
	changing := make(chan error, 1)
	stop := make(chan struct{})
	operator := s.Operator(t)
	go func() {
		for {
			select {
			case <-stop:
				changing <- nil
				return
			default:
			}
			if answer, err := operator.TryInvoke(kilntest.Invocation{Function: "other", Payload: `{}`}); err != nil || answer.Failure() != nil {
				changing <- fmt.Errorf("while a backup is written: %v %v", err, answer)
				return
			}
		}
	}()
	if _, err := s.CLI("backup", running, "--data", data); err != nil {
		t.Fatal(err)
	}
	close(stop)
	if err := <-changing; err != nil {
		t.Error(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	run(t, "backup", ended, "--data", data)
	for _, file := range []string{running, ended} {
		info, err := os.Stat(file)
		if err != nil || info.Mode() != 0o600 {
			t.Fatalf("the backup: %v %v", info.Mode(), err)
		}
		restored := filepath.Join(folder, filepath.Base(file)+".data")
		run(t, "restore", file, "--data", restored)
		if said := refused(t, "restore", file, "--data", restored); !strings.Contains(said, "is not empty") {
			t.Errorf("a second restore says %q", said)
		}
		holds(t, kilntest.Start(t, kilntest.Options{Data: restored}), data)
	}
}

// A backup that is cut off or damaged leaves the folder empty and says so.
func TestDamagedBackup(t *testing.T) {
	data := unpack(t, "testdata/format-1.tar.gz")
	folder := t.TempDir()
	file := filepath.Join(folder, "whole.tar")
	run(t, "backup", file, "--data", data)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	turned := append([]byte(nil), whole...)
	turned[strings.Index(string(whole), `"key":`)+10] ^= 1
	for name, b := range map[string][]byte{"cut": whole[:len(whole)/2], "turned": turned, "nothing": nil} {
		if err := os.WriteFile(filepath.Join(folder, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(folder, name+".data")
		began := time.Now()
		if said := refused(t, "restore", filepath.Join(folder, name), "--data", target); !strings.Contains(said, "damaged") && !strings.Contains(said, "no backup") {
			t.Errorf("%s: said %q after %s", name, said, time.Since(began))
		}
		if left, err := os.ReadDir(target); err != nil || len(left) > 0 {
			t.Errorf("%s: %d files are left, %v", name, len(left), err)
		}
	}
}

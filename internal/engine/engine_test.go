package engine

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"kiln"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// open opens an engine that is closed with the test.
func open(t testing.TB, dir string) *Engine {
	t.Helper()
	e, err := Open(t.Context(), Config{Dir: dir, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func documents(t testing.TB, e *Engine, bucket string, hook func(Change)) *Documents {
	t.Helper()
	d, err := e.Documents(t.Context(), bucket, hook)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// A write is in the writer's copy, and told to the hook, when it returns; a write at a revision that is no longer the
// newest is a conflict and changes nothing; a deleted document can be made again.
func TestWritesAreSeen(t *testing.T) {
	var told []string
	var d *Documents
	d = documents(t, open(t, t.TempDir()), "things", func(c Change) {
		if doc, there := d.Get(c.Key); there == c.Deleted || there && doc.Revision != c.Document.Revision {
			t.Errorf("told of %v before it was in the copy", c)
		}
		told = append(told, fmt.Sprintf("%s=%s %t", c.Key, c.Document.Value, c.Deleted))
	})
	ctx := t.Context()
	first, err := d.Create(ctx, "a/$LATEST", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	if doc, ok := d.Get("a/$LATEST"); !ok || string(doc.Value) != "1" || doc.Revision != first {
		t.Fatalf("after create: %v %v", doc, ok)
	}
	if _, err := d.Create(ctx, "a/$LATEST", []byte("x")); kiln.KindOf(err) != kiln.KindConflict {
		t.Fatalf("second create: %v", err)
	}
	second, err := d.Update(ctx, "a/$LATEST", []byte("2"), first)
	if err != nil || second <= first {
		t.Fatalf("update: %d %v", second, err)
	}
	if _, err := d.Update(ctx, "a/$LATEST", []byte("x"), first); kiln.KindOf(err) != kiln.KindConflict {
		t.Fatalf("update at an old revision: %v", err)
	}
	if _, err := d.Update(ctx, "missing", []byte("x"), first); kiln.KindOf(err) != kiln.KindConflict {
		t.Fatalf("update of nothing: %v", err)
	}
	if err := d.Delete(ctx, "a/$LATEST", first); kiln.KindOf(err) != kiln.KindConflict {
		t.Fatalf("delete at an old revision: %v", err)
	}
	if err := d.Delete(ctx, "a/$LATEST", second); err != nil {
		t.Fatal(err)
	}
	if doc, ok := d.Get("a/$LATEST"); ok {
		t.Fatalf("after delete: %v", doc)
	}
	if _, err := d.Create(ctx, "a/$LATEST", []byte("3")); err != nil {
		t.Fatal(err)
	}
	want := []string{"a/$LATEST=1 false", "a/$LATEST=2 false", "a/$LATEST= true", "a/$LATEST=3 false"}
	if !slices.Equal(told, want) {
		t.Fatalf("hook was told %q, want %q", told, want)
	}
}

// A lost race is known by either of the store's errors, whatever is wrapped around it.
func TestLostRace(t *testing.T) {
	for _, err := range []error{jetstream.ErrKeyExists, jetstream.ErrKeyRevisionMismatch} {
		if !lostRace(fmt.Errorf("x: %w", err)) {
			t.Errorf("%v is not known", err)
		}
	}
	if lostRace(nil) || lostRace(jetstream.ErrNoStreamResponse) {
		t.Error("something else is taken for a lost race")
	}
}

// Every write is synced, and the bucket's stream answers no direct reads: see the package's notes on power cuts and staleness.
func TestSettings(t *testing.T) {
	e := open(t, t.TempDir())
	if !e.backend.server.JetStreamConfig().SyncAlways {
		t.Error("writes are not synced")
	}
	if e.backend.server.Addr() != nil {
		t.Error("the server listens")
	}
	info, err := documents(t, e, "things", nil).link.Load().stream.Info(t.Context())
	if err != nil || info.Config.AllowDirect || info.Config.MaxMsgsPerSubject != 1 {
		t.Errorf("%+v %v", info.Config, err)
	}
}

// Sixteen writers that each read, change and write one document lose no change and always come to an end: who lost a race
// reads what won.
func TestConcurrentCompareAndSwap(t *testing.T) {
	d := documents(t, open(t, t.TempDir()), "things", nil)
	if _, err := d.Create(t.Context(), "n", nil); err != nil {
		t.Fatal(err)
	}
	const writers, each = 16, 4
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				for tries := 0; ; tries++ {
					doc, _ := d.Get("n")
					_, err := d.Update(t.Context(), "n", append(slices.Clone(doc.Value), '.'), doc.Revision)
					if err == nil {
						break
					}
					if kiln.KindOf(err) != kiln.KindConflict || tries > 10*writers*each {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if doc, _ := d.Get("n"); len(doc.Value) != writers*each {
		t.Fatalf("%d changes of %d are there", len(doc.Value), writers*each)
	}
}

// Each gives the documents of a prefix sorted by key, also after changes and a reopening, and allows writing meanwhile.
func TestEachIsSorted(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	d := documents(t, e, "things", nil)
	for _, key := range []string{"b/2", "a/1", "b/$LATEST", "b/1.x", "b", "c", "b/=2"} {
		if _, err := d.Create(t.Context(), key, []byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"b/$LATEST", "b/1.x", "b/2", "b/=2"}
	slices.Sort(want)
	check := func(d *Documents, delete string) {
		t.Helper()
		var got []string
		for key, doc := range d.Each("b/") {
			if string(doc.Value) != key {
				t.Fatalf("%q holds %q", key, doc.Value)
			}
			got = append(got, key)
			if key == delete {
				if err := d.Delete(t.Context(), key, doc.Revision); err != nil {
					t.Fatal(err)
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	check(d, "b/2")
	want = slices.DeleteFunc(want, func(s string) bool { return s == "b/2" })
	check(d, "")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	check(documents(t, open(t, dir), "things", nil), "")
}

// A copy of the directory taken while writers run, as a killed process leaves it, opens, and holds every write that was
// acknowledged before the copy began.
func TestOpensAfterKill(t *testing.T) {
	dir, copied := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	d := documents(t, open(t, dir), "things", nil)
	for i := range 50 {
		if _, err := d.Create(t.Context(), fmt.Sprint("before-", i), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	begun := make(chan struct{}, 4)
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				d.Create(ctx, fmt.Sprint("during-", w, "-", i), []byte(strings.Repeat("y", 1000)))
				if i == 0 {
					begun <- struct{}{}
				}
			}
		})
	}
	for range 4 {
		<-begun
	}
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	stop()
	wg.Wait()
	again := documents(t, open(t, copied), "things", nil)
	for i := range 50 {
		if _, ok := again.Get(fmt.Sprint("before-", i)); !ok {
			t.Fatalf("write %d is lost", i)
		}
	}
	if _, err := again.Create(t.Context(), "after", nil); err != nil {
		t.Fatal(err)
	}
}

// writerDir tells the test binary, run again, to be the writer that TestOpensAfterKill9 kills.
const writerDir = "KILN_ENGINE_TEST_WRITER"

// Every write a process was told of before it was killed is there when its directory is opened again, and again after a
// second kill.
func TestOpensAfterKill9(t *testing.T) {
	if dir := os.Getenv(writerDir); dir != "" {
		writeUntilKilled(t, dir)
	}
	dir := t.TempDir()
	acknowledged := map[string]bool{}
	for range 2 {
		writer := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOpensAfterKill9$")
		writer.Env = append(os.Environ(), writerDir+"="+dir)
		out, err := writer.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := writer.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			acknowledged[lines.Text()] = true
			if n == 100 { // what it writes until it is gone is read as well
				if err := writer.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := writer.Wait(); err == nil || len(acknowledged) < 100 {
			t.Fatalf("the writer ended by itself after %d writes: %v", len(acknowledged), err)
		}
	}
	d := documents(t, open(t, dir), "things", nil)
	for key := range acknowledged {
		if _, ok := d.Get(key); !ok {
			t.Errorf("%q is lost", key)
		}
	}
}

// writeUntilKilled writes documents with four goroutines and tells of each on standard output.
func writeUntilKilled(t *testing.T, dir string) {
	d := documents(t, open(t, dir), "things", nil)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				key := rand.Text()
				if _, err := d.Create(t.Context(), key, []byte(key)); err != nil {
					t.Error(err)
					return
				}
				os.Stdout.WriteString(key + "\n")
			}
		})
	}
	wg.Wait()
}

// Below the reserve of disk space nothing new is written, deleting and reading go on, and the message says what to do.
func TestReserve(t *testing.T) {
	e := open(t, t.TempDir())
	d := documents(t, e, "things", nil)
	revision, err := d.Create(t.Context(), "a", nil)
	if err != nil {
		t.Fatal(err)
	}
	e.reserve = 1 << 62
	if _, err := d.Create(t.Context(), "b", nil); kiln.KindOf(err) != kiln.KindUnavailable ||
		!strings.Contains(err.Error(), "nearly full") {
		t.Fatal(err)
	}
	if _, err := d.Update(t.Context(), "a", nil, revision); kiln.KindOf(err) != kiln.KindUnavailable {
		t.Fatal(err)
	}
	if err := d.Delete(t.Context(), "a", revision); err != nil {
		t.Fatal(err)
	}
}

// A value of the greatest size is taken, one byte more is too large; keys of no use are refused; a bucket opens once.
func TestBounds(t *testing.T) {
	e := open(t, t.TempDir())
	d := documents(t, e, "things", nil)
	ctx := t.Context()
	if _, err := d.Create(ctx, strings.Repeat("$", MaxKeyBytes), make([]byte, MaxValueBytes)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key  string
		size int
		want kiln.Kind
	}{
		{"a", MaxValueBytes + 1, kiln.KindTooLarge},
		{"", 1, kiln.KindInvalid},
		{strings.Repeat("k", MaxKeyBytes+1), 1, kiln.KindInvalid},
	} {
		if _, err := d.Create(ctx, c.key, make([]byte, c.size)); kiln.KindOf(err) != c.want {
			t.Errorf("key of %d, value of %d: %v, want %s", len(c.key), c.size, err, c.want)
		}
	}
	if _, err := e.Documents(ctx, "things", nil); kiln.KindOf(err) != kiln.KindConflict {
		t.Errorf("opened twice: %v", err)
	}
	for _, name := range []string{"", "a.b", "a/b", "ä", "a b"} {
		if _, err := e.Documents(ctx, name, nil); kiln.KindOf(err) != kiln.KindInvalid {
			t.Errorf("bucket %q: %v", name, err)
		}
	}
}

// After Close, reading still answers from the copy and a write fails at once rather than hanging. Closing twice is fine.
func TestClosed(t *testing.T) {
	e := open(t, t.TempDir())
	d := documents(t, e, "things", nil)
	if _, err := d.Create(t.Context(), "a", nil); err != nil {
		t.Fatal(err)
	}
	e.Close()
	e.Close()
	if _, ok := d.Get("a"); !ok {
		t.Error("the copy is gone")
	}
	if _, err := d.Create(t.Context(), "b", nil); kiln.KindOf(err) != kiln.KindUnavailable {
		t.Errorf("write after close: %v", err)
	}
}

// The engine's folder is closed to others, since secrets are in it, and a folder that cannot be made is an error.
func TestDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "engine")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("%v %v", info.Mode(), err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{Dir: file, Logger: quiet()}); kiln.KindOf(err) != kiln.KindUnavailable {
		t.Fatalf("on a file: %v", err)
	}
}

// Every key comes back from its escaped form, which has only bytes the store takes and no empty token.
func FuzzKey(f *testing.F) {
	for _, seed := range []string{"000000000000/f/$LATEST", "a.b", ".", "..", "=", "=2E", "*", ">", " ", "ä", "\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		escaped := escapeKey(key)
		if strings.Trim(escaped, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_/=") != "" ||
			strings.ContainsAny(escaped, ".*> ") {
			t.Fatalf("%q became %q", key, escaped)
		}
		if back, ok := unescapeKey(escaped); !ok || back != key {
			t.Fatalf("%q became %q became %q %t", key, escaped, back, ok)
		}
		if back, ok := unescapeKey(key); ok && len(back) > len(key) {
			t.Fatalf("%q grew to %q", key, back)
		}
	})
}

// BenchmarkCreate measures synced writes by one writer.
func BenchmarkCreate(b *testing.B) {
	d := documents(b, open(b, b.TempDir()), "things", nil)
	i := 0
	for b.Loop() {
		i++
		if _, err := d.Create(b.Context(), fmt.Sprint(i), []byte("value")); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCreateParallel measures synced writes by sixteen writers, each of a document of its own.
func BenchmarkCreateParallel(b *testing.B) {
	d := documents(b, open(b, b.TempDir()), "things", nil)
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := d.Create(b.Context(), fmt.Sprintf("%p-%d", pb, i), []byte("value")); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkSync measures the disk's own append and fsync, the floor of every write.
func BenchmarkSync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "f"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 200)
	for b.Loop() {
		if _, err := f.Write(block); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}

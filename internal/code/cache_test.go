package code_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"kiln"
	"kiln/internal/code"
)

func openCache(t *testing.T, dir string, fetch code.Fetch, config code.CacheConfig) *code.Cache {
	t.Helper()
	config.Logger = slog.New(slog.DiscardHandler)
	c, err := code.OpenCache(dir, fetch, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func acquire(t *testing.T, c *code.Cache, d kiln.Digest) code.Entry {
	t.Helper()
	e, err := c.Acquire(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// A package is fetched and unpacked once however many ask at once, exactly one of them is told of the fetch, and later
// ones and a later process find it there.
// R25 R31
func TestCacheFetchesOnce(t *testing.T) {
	store := openStore(t, t.TempDir(), 0)
	small := put(t, store, makeZip(t, file{name: "f", body: "small"}))
	random := make([]byte, 3<<20)
	rand.New(rand.NewSource(1)).Read(random)
	large := put(t, store, makeZip(t, file{name: "f", body: string(random)}))
	var fetches atomic.Int32
	fetch := func(ctx context.Context, d kiln.Digest) (io.ReadCloser, error) {
		fetches.Add(1)
		return store.OpenChecked(ctx, d)
	}
	dir := t.TempDir()
	c := openCache(t, dir, fetch, code.CacheConfig{})
	if names := fileNames(t, dir); len(names) != 0 || fetches.Load() != 0 {
		t.Fatalf("before anyone asked: %q", names)
	}
	for i, d := range []kiln.Digest{small, large} {
		var told atomic.Int32
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				e, err := c.Acquire(t.Context(), d)
				if err != nil {
					t.Error(err)
					return
				}
				if e.Fetched {
					told.Add(1)
				}
				if _, err := os.Stat(filepath.Join(e.Dir, "f")); err != nil {
					t.Error(err)
				}
				e.Release()
				e.Release()
			})
		}
		wg.Wait()
		if told.Load() != 1 || fetches.Load() != int32(i+1) {
			t.Fatalf("told %d, fetched %d", told.Load(), fetches.Load())
		}
	}
	c.Close()
	c = openCache(t, dir, fetch, code.CacheConfig{})
	if e := acquire(t, c, large); e.Fetched || fetches.Load() != 2 {
		t.Fatal("fetched again after a restart")
	}
	if n, _ := c.Used(); n != 2 || !c.Has(small) {
		t.Fatalf("%d entries", n)
	}
}

// Who gives up waiting does not end the work for the others.
func TestCancelledWaiterLeavesOthers(t *testing.T) {
	b := makeZip(t, file{name: "f", body: "x"})
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		c := openCache(t, t.TempDir(), func(ctx context.Context, d kiln.Digest) (io.ReadCloser, error) {
			<-gate
			return io.NopCloser(bytes.NewReader(b)), context.Cause(ctx)
		}, code.CacheConfig{})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := c.Acquire(ctx, code.DigestOf(b))
			if kiln.KindOf(err) != kiln.KindUnavailable {
				t.Errorf("cancelled: %v", err)
			}
		})
		synctest.Wait() // the first one's fetch is under way
		wg.Go(func() {
			e, err := c.Acquire(t.Context(), code.DigestOf(b))
			if err != nil || !e.Fetched {
				t.Errorf("the other: %v %v", e, err)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(gate)
		wg.Wait()
		c.Close()
	})
}

// Entries make room for others, the longest unused first. One that is held stays: what is held may take more than the bound
// while the disk has room, and is brought back under it as it is let go; without room on the disk the next is refused, and
// works later.
func TestEvictionSparesHeldEntries(t *testing.T) {
	zips := map[kiln.Digest][]byte{}
	var digests []kiln.Digest
	for i := range 4 {
		b := makeZip(t, file{name: "f", body: fmt.Sprint(i)})
		zips[code.DigestOf(b)] = b
		digests = append(digests, code.DigestOf(b))
	}
	dir := t.TempDir()
	var free atomic.Int64
	free.Store(1<<20 + 4095) // one byte short of a package and the reserve
	c := openCache(t, dir, func(_ context.Context, d kiln.Digest) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(zips[d])), nil
	}, code.CacheConfig{MaxBytes: 2 * 4096, ReserveBytes: 1 << 20, Free: func(string) (int64, error) { return free.Load(), nil }})
	first := acquire(t, c, digests[0])
	acquire(t, c, digests[1]).Release()
	third := acquire(t, c, digests[2])
	if !c.Has(digests[0]) || c.Has(digests[1]) {
		t.Fatal("a held entry was removed")
	}
	_, err := c.Acquire(t.Context(), digests[3])
	wantKind(t, err, kiln.KindUnavailable)
	for _, e := range []code.Entry{first, third} {
		if _, err := os.Stat(filepath.Join(e.Dir, "f")); err != nil {
			t.Fatal(err)
		}
	}
	free.Add(1)
	fourth := acquire(t, c, digests[3])
	if c.Over() != 4096 || !c.Has(digests[0]) || !c.Has(digests[2]) {
		t.Fatalf("%d bytes beyond the bound, where all are held and the disk has room", c.Over())
	}
	first.Release()
	if !fourth.Fetched || c.Has(digests[0]) || c.Over() != 0 {
		t.Fatal("no room was made")
	}
	if n, size := c.Used(); n != 2 || size != 2*4096 || len(fileNames(t, dir)) != 4 {
		t.Fatalf("%d entries of %d bytes, files %q", n, size, fileNames(t, dir))
	}
}

// Many at once on a cache that is too small: nobody ever holds a folder that is not whole.
func TestEvictionUnderLoad(t *testing.T) {
	zips := map[kiln.Digest][]byte{}
	var digests []kiln.Digest
	for i := range 6 {
		b := makeZip(t, file{name: "f", body: fmt.Sprint(i)}, file{name: "d/g", body: fmt.Sprint(i)})
		zips[code.DigestOf(b)] = b
		digests = append(digests, code.DigestOf(b))
	}
	c := openCache(t, t.TempDir(), func(_ context.Context, d kiln.Digest) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(zips[d])), nil
	}, code.CacheConfig{MaxBytes: 3 * 3 * 4096, Seal: true})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			random := rand.New(rand.NewSource(int64(g)))
			for range 200 {
				i := random.Intn(len(digests))
				e, err := c.Acquire(t.Context(), digests[i])
				if err != nil {
					if kiln.KindOf(err) != kiln.KindUnavailable {
						t.Error(err)
					}
					continue
				}
				if b, err := os.ReadFile(filepath.Join(e.Dir, "d", "g")); err != nil || string(b) != fmt.Sprint(i) {
					t.Errorf("%q %v", b, err)
				}
				e.Release()
			}
		})
	}
	wg.Wait()
	c.Close()
	_, err := c.Acquire(t.Context(), code.DigestOf([]byte("another")))
	wantKind(t, err, kiln.KindUnavailable)
}

// A package that is damaged in the store, or is no package, leaves nothing in the cache, and the next one who asks finds
// the good one when it is there.
// R31
func TestFailedFetchLeavesNothing(t *testing.T) {
	good := makeZip(t, file{name: "f", body: "x"})
	bad := makeZip(t, file{name: "../f", body: "x"})
	answer := []byte("not what it was")
	dir := t.TempDir()
	c := openCache(t, dir, func(context.Context, kiln.Digest) (io.ReadCloser, error) {
		if answer == nil {
			return nil, errors.New("out of reach")
		}
		return io.NopCloser(bytes.NewReader(answer)), nil
	}, code.CacheConfig{})
	_, err := c.Acquire(t.Context(), code.DigestOf(good))
	wantKind(t, err, kiln.KindCorrupt)
	answer = make([]byte, 2<<20)
	_, err = c.Acquire(t.Context(), code.DigestOf(good))
	wantKind(t, err, kiln.KindCorrupt)
	answer = nil
	_, err = c.Acquire(t.Context(), code.DigestOf(good))
	wantKind(t, err, kiln.KindUnavailable)
	answer = bad
	_, err = c.Acquire(t.Context(), code.DigestOf(bad))
	wantKind(t, err, kiln.KindInvalid)
	_, err = c.Acquire(t.Context(), "../../etc")
	wantKind(t, err, kiln.KindNotFound)
	if n, size := c.Used(); n != 0 || size != 0 || len(fileNames(t, dir)) != 0 {
		t.Fatalf("%d entries of %d bytes, files %q", n, size, fileNames(t, dir))
	}
	answer = good
	acquire(t, c, code.DigestOf(good))
}

// What a process that was killed in the middle left is removed and fetched again: a half unpacked package, one whose
// completion is missing, torn or of another boot, and one that was being removed.
// R100
func TestCacheAfterKill(t *testing.T) {
	b := makeZip(t, file{name: "f", body: "x"})
	d := code.DigestOf(b)
	fetches := 0
	fetch := func(context.Context, kiln.Digest) (io.ReadCloser, error) {
		fetches++
		return io.NopCloser(bytes.NewReader(b)), nil
	}
	for name, mark := range map[string]string{"no completion": "", "torn": `{"bootId":"1`, "another boot": `{"bootId":"1","bytes":4096}`} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c := openCache(t, dir, fetch, code.CacheConfig{Seal: true})
			acquire(t, c, d)
			c.Close()
			file := filepath.Join(dir, string(d)+".complete")
			if mark == "" {
				os.Remove(file)
			} else if err := os.WriteFile(file, []byte(mark), 0o600); err != nil {
				t.Fatal(err)
			}
			os.MkdirAll(filepath.Join(dir, ".temporary-1", "task", "half"), 0o755)
			os.MkdirAll(filepath.Join(dir, ".temporary-gone-"+string(d)), 0o555)
			os.WriteFile(filepath.Join(dir, strings.Repeat("0", 64)+".complete"), []byte("{}"), 0o600)
			before := fetches
			c = openCache(t, dir, fetch, code.CacheConfig{Seal: true})
			if names := fileNames(t, dir); len(names) != 0 {
				t.Fatalf("left: %q", names)
			}
			if e := acquire(t, c, d); !e.Fetched || fetches != before+1 {
				t.Fatal("not fetched again")
			}
		})
	}
}

// A sealed entry has no write bits, so that code that runs as the node's own user does not change it by mistake.
func TestSealedEntries(t *testing.T) {
	b := makeZip(t, file{name: "d/f", body: "x", mode: 0o755})
	c := openCache(t, t.TempDir(), func(context.Context, kiln.Digest) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b)), nil
	}, code.CacheConfig{Seal: true})
	e := acquire(t, c, code.DigestOf(b))
	for _, name := range []string{".", "d", "d/f"} {
		info, err := os.Stat(filepath.Join(e.Dir, name))
		if err != nil || info.Mode().Perm() != 0o555 {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
}

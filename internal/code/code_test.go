package code_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"kiln"
	"kiln/internal/code"
)

func openStore(t *testing.T, dir string, limit int64) *code.Store {
	t.Helper()
	s, err := code.OpenStore(dir, code.Config{MaxBytes: limit, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t *testing.T, s *code.Store, b []byte) kiln.Digest {
	t.Helper()
	d, n, err := s.Put(t.Context(), bytes.NewReader(b), 1<<30)
	if err != nil || n != int64(len(b)) || d != code.DigestOf(b) {
		t.Fatalf("put: digest %s, %d bytes, error %v", d, n, err)
	}
	return d
}

func wantKind(t testing.TB, err error, kind kiln.Kind) {
	t.Helper()
	if err == nil || kiln.KindOf(err) != kind {
		t.Fatalf("error %v: want kind %v", err, kind)
	}
}

func fileNames(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// A package put is found again under its digest, also by a later process, and removed once.
// R1 R100
func TestStoreKeepsPackages(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, 0)
	d := put(t, s, []byte("a package"))
	put(t, s, []byte("a package"))
	if n, size := s.Used(); n != 1 || size != 9 {
		t.Fatalf("%d packages of %d bytes", n, size)
	}
	s = openStore(t, dir, 0)
	if err := s.Verify(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	f, size, err := s.Open(d)
	if err != nil || size != 9 {
		t.Fatalf("open: %d bytes, %v", size, err)
	}
	f.Close()
	for range 2 {
		if err := s.Delete(d); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err = s.Open(d)
	wantKind(t, err, kiln.KindNotFound)
	_, _, err = s.Open("../../etc/passwd")
	wantKind(t, err, kiln.KindNotFound)
	if n, size := s.Used(); n != 0 || size != 0 {
		t.Fatalf("%d packages of %d bytes", n, size)
	}
}

// What an ended process left half written is gone after the next start, and nothing else is.
// R100
func TestStoreRemovesLeftovers(t *testing.T) {
	dir := t.TempDir()
	d := put(t, openStore(t, dir, 0), []byte("whole"))
	os.WriteFile(filepath.Join(dir, ".temporary-123"), []byte("hal"), 0o600)
	s := openStore(t, dir, 0)
	if names := fileNames(t, dir); len(names) != 1 || names[0] != string(d) {
		t.Fatalf("left: %q", names)
	}
	if _, size := s.Used(); size != 5 {
		t.Fatalf("%d bytes", size)
	}
}

// Bytes that changed on disk are never handed out as good, whatever changed; putting the package again heals it.
// R100
func TestStoreNoticesDamage(t *testing.T) {
	for name, damage := range map[string][]byte{"other bytes": []byte("a pockage"), "shorter": []byte("a pack")} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := openStore(t, dir, 0)
			d := put(t, s, []byte("a package"))
			file := filepath.Join(dir, string(d))
			os.Chmod(file, 0o600)
			if err := os.WriteFile(file, damage, 0o600); err != nil {
				t.Fatal(err)
			}
			wantKind(t, s.Verify(t.Context(), d), kiln.KindCorrupt)
			s = openStore(t, dir, 0)
			wantKind(t, s.Verify(t.Context(), d), kiln.KindCorrupt)
			put(t, s, []byte("a package"))
			if err := s.Verify(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		})
	}
}

type failing struct{ n int }

func (f *failing) Read(p []byte) (int, error) {
	if f.n == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	f.n--
	return len(p), nil
}

// Each bound is held, says which it is, and leaves neither a file nor a byte counted.
func TestStoreBounds(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, 10)
	_, _, err := s.Put(t.Context(), bytes.NewReader(make([]byte, 9)), 8)
	wantKind(t, err, kiln.KindTooLarge)
	_, _, err = s.Put(t.Context(), bytes.NewReader(make([]byte, 11)), 100)
	wantKind(t, err, kiln.KindLimit)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = s.Put(ctx, bytes.NewReader(make([]byte, 5)), 8)
	wantKind(t, err, kiln.KindUnavailable)
	big := openStore(t, t.TempDir(), 0)
	_, _, err = big.Put(t.Context(), &failing{n: 3}, 1<<30)
	wantKind(t, err, kiln.KindUnavailable)
	for _, s := range []*code.Store{s, big} {
		if n, size := s.Used(); n != 0 || size != 0 {
			t.Fatalf("%d packages of %d bytes", n, size)
		}
	}
	if names := fileNames(t, dir); len(names) != 0 {
		t.Fatalf("left: %q", names)
	}
}

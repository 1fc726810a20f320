package ledger_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kiln"
	"kiln/internal/ledger"
)

func texts(lines []ledger.Line) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.Text + "\n")
	}
	return b.String()
}

func folderBytes(t *testing.T, dir string) (size int64, files int) {
	t.Helper()
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			info, _ := d.Info()
			size, files = size+info.Size(), files+1
		}
		return nil
	})
	return size, files
}

// The tail is what an execution wrote, between AWS's own lines, whether it is on disk, in memory or both, by bytes, lines,
// time and request, and after a restart.
// R18
func TestLogTail(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, ledger.Config{})
	run(t, l)
	g := l.Log("000000000000", "f")
	for i := range 5 {
		id := requestID(i)
		at := epoch.Add(time.Duration(i) * time.Second)
		g.Start(at, "c-1", id, "$LATEST")
		g.Write(ledger.Line{Time: at, Container: "c-1", RequestID: id, Text: fmt.Sprintf("hello %d\nsecond\tline\n", i)})
		g.End(at, "c-1", id)
		r := record(i)
		r.Container = "c-1"
		g.Report(at, r)
		if i == 2 {
			sync(t, l)
		}
	}
	want := "START RequestId: " + string(requestID(2)) + " Version: $LATEST\nhello 2\nsecond\tline\nEND RequestId: " +
		string(requestID(2)) + "\nREPORT RequestId: " + string(requestID(2)) +
		"\tDuration: 10.00 ms\tBilled Duration: 10 ms\tMemory Size: 0 MB\tMax Memory Used: 0 MB\t\n"
	check := func(l *ledger.Ledger) {
		t.Helper()
		g := l.Log("000000000000", "f")
		if got := texts(g.Tail(ledger.Tail{RequestID: requestID(2)})); got != want {
			t.Errorf("of a request:\n%s", got)
		}
		all := g.Tail(ledger.Tail{})
		if len(all) != 25 || all[0].RequestID != requestID(0) || !all[24].Time.Equal(epoch.Add(4*time.Second)) || all[24].Container != "c-1" {
			t.Errorf("%d lines", len(all))
		}
		if got := g.Tail(ledger.Tail{Lines: 3}); len(got) != 3 || got[0].Text != "second\tline" {
			t.Errorf("three lines: %v", got)
		}
		if got := g.Tail(ledger.Tail{Since: epoch.Add(3 * time.Second)}); len(got) != 10 {
			t.Errorf("since: %d lines", len(got))
		}
		full := texts(all)
		if got := texts(g.Tail(ledger.Tail{Bytes: 300})); got != full[len(full)-300:] {
			t.Errorf("300 bytes: %q", got)
		}
	}
	check(l)
	sync(t, l)
	check(l)
	check(open(t, dir, ledger.Config{}))
	if lines := l.Log("111111111111", "f").Tail(ledger.Tail{}); len(lines) != 0 {
		t.Errorf("another account sees %v", lines)
	}
}

// 100 MB from one function cost bounded memory and disk, a line says what was dropped, the platform's lines come through
// and the neighbour loses nothing.
func TestHostileLog(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, ledger.Config{FunctionLogBytes: 1 << 20, LogBytes: 4 << 20})
	run(t, l)
	hostile, good := l.Log("111111111111", "hostile"), l.Log("000000000000", "good")
	good.Write(ledger.Line{Time: epoch, Text: "before"})
	text := strings.Repeat("x", 1000)
	for i := range 100_000 {
		hostile.Write(ledger.Line{Time: epoch, Container: "c-1", RequestID: requestID(1), Text: text})
		if i%10_000 == 0 {
			sync(t, l)
		}
	}
	hostile.Write(ledger.Line{Time: epoch, Text: strings.Repeat("y", 3<<20)})
	hostile.Write(ledger.Line{Time: epoch, Text: strings.Repeat("\x80", 3<<20)}) // no characters to cut between
	hostile.Report(epoch, record(1))
	good.Write(ledger.Line{Time: epoch, Text: "after"})
	sync(t, l)
	sync(t, l)
	if got := texts(good.Tail(ledger.Tail{})); got != "before\nafter\n" {
		t.Errorf("the neighbour's log: %q", got)
	}
	tail := hostile.Tail(ledger.Tail{Lines: 50})
	if got := texts(tail); !strings.Contains(got, " log lines dropped (") || !strings.Contains(got, "REPORT RequestId: ") {
		t.Errorf("tail: %.2000s", got)
	}
	if size, files := folderBytes(t, filepath.Join(dir, "logs")); size > 2<<20 || files > 6 {
		t.Errorf("%d bytes in %d files", size, files)
	}
}

// All logs together are bounded; the function that was quiet for longest gives way.
func TestAllLogsAreBounded(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, ledger.Config{LogBytes: 1 << 20})
	run(t, l)
	for i := range 20 {
		for range 2 {
			l.Log("000000000000", fmt.Sprintf("f%d", i)).Write(ledger.Line{Time: epoch, Text: strings.Repeat("z", 60_000)})
		}
		sync(t, l)
	}
	if size, _ := folderBytes(t, filepath.Join(dir, "logs")); size > 1<<20 || size < 1<<19 {
		t.Errorf("%d bytes", size)
	}
	if n := len(l.Log("000000000000", "f0").Tail(ledger.Tail{})); n != 0 {
		t.Errorf("the oldest kept %d lines", n)
	}
	if n := len(l.Log("000000000000", "f19").Tail(ledger.Tail{})); n != 2 {
		t.Errorf("the newest kept %d lines", n)
	}
}

// Who follows gets the tail and then every line as it comes, once each; a slow one is told what it missed; the end of the
// context ends it.
func TestLogFollow(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l := open(t, dir, ledger.Config{})
		end := run(t, l)
		g := l.Log("000000000000", "f")
		write := func(from, to int) {
			for i := from; i < to; i++ {
				g.Write(ledger.Line{Time: time.Now(), RequestID: requestID(i), Text: fmt.Sprint(i)})
			}
		}
		write(0, 10)
		time.Sleep(time.Second) // written
		write(10, 20)
		ctx, cancel := context.WithCancel(t.Context())
		seq, err := g.Follow(ctx, ledger.Tail{Lines: 15})
		if err != nil {
			t.Fatal(err)
		}
		write(20, 30)
		want := 5
		for line := range seq {
			if line.Text != fmt.Sprint(want) {
				t.Fatalf("line %q, want %d", line.Text, want)
			}
			if want++; want == 30 {
				break
			}
		}
		seq, err = g.Follow(ctx, ledger.Tail{Lines: 1})
		if err != nil {
			t.Fatal(err)
		}
		write(30, 30+1024+7)
		n, told := 0, ""
		for line := range seq {
			if strings.HasPrefix(line.Text, "kiln: ") {
				told = line.Text
				break
			}
			if n++; n == 1025 { // all it had room for: the next line comes with the word
				write(2000, 2001)
			}
		}
		if told != "kiln: 7 log lines dropped" {
			t.Errorf("told %q after %d lines", told, n)
		}
		for range ledger.MaxFollowers {
			if _, err := g.Follow(ctx, ledger.Tail{}); err != nil {
				t.Fatal(err)
			}
		}
		_, err = g.Follow(ctx, ledger.Tail{})
		if kiln.KindOf(err) != kiln.KindThrottled {
			t.Errorf("one too many: %v", err)
		}
		cancel()
		synctest.Wait()
		if _, err := g.Follow(t.Context(), ledger.Tail{}); err != nil {
			t.Errorf("after the others ended: %v", err)
		}
		end()
	})
}

// A line torn by a kill is not shown and does not swallow the next one; names cannot leave the folder.
// R101
func TestTornLog(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, ledger.Config{})
	run(t, l)
	names := []string{"f", "", ".", "..", "../../x", ".run", "a/b"}
	for _, name := range names {
		l.Log("000000000000", name).Write(ledger.Line{Time: epoch, Text: "of " + name})
	}
	sync(t, l)
	if n := len(l.Log("000000000000", "f").Tail(ledger.Tail{})); n != 1 {
		t.Fatalf("%d lines", n)
	}
	file := filepath.Join(dir, "logs", "000000000000", "f", "0000000000000001.log")
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("17639054771234")
	f.Close()
	l = open(t, dir, ledger.Config{})
	run(t, l)
	for _, name := range names {
		if got := texts(l.Log("000000000000", name).Tail(ledger.Tail{})); got != "of "+name+"\n" {
			t.Errorf("%q: %q", name, got)
		}
	}
	l.Log("000000000000", "f").Write(ledger.Line{Time: epoch, Text: "next"})
	sync(t, l)
	if got := texts(l.Log("000000000000", "f").Tail(ledger.Tail{})); got != "of f\nnext\n" {
		t.Errorf("%q", got)
	}
	if names, _ := os.ReadDir(dir); len(names) != 3 {
		t.Errorf("%v", names)
	}
}

package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"kiln"
)

func find(l *Ledger, id kiln.RequestID) (kiln.Record, bool) {
	r, err := l.Execution(context.Background(), id)
	return r, err == nil
}

// fill sets every field of a value to something that is not zero.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Struct:
		if t, ok := v.Addr().Interface().(*time.Time); ok {
			*t = time.Date(2026, 1, 2, 3, 4, 5, *n*1_001_000, time.UTC)
			return
		}
		for _, field := range v.Fields() {
			fill(field, n)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.String:
		v.SetString(strings.Repeat("x", *n%7) + "é\"\\<\n")
	default:
		v.SetInt(int64(*n) * 1_234_567)
	}
}

// The hand-written encoding of a record is encoding/json's, so that a new field cannot be forgotten.
func TestRecordEncoding(t *testing.T) {
	n := 0
	var full kiln.Record
	fill(reflect.ValueOf(&full).Elem(), &n)
	plain := full
	plain.Function = "plain-name"
	for _, r := range []*kiln.Record{{}, &full, &plain} {
		want, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := appendRecord(nil, r); !bytes.Equal(got, want) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// The REPORT line is AWS's, tab by tab.
// R18
func TestReportLine(t *testing.T) {
	r := kiln.Record{RequestID: "8f507cfc-xmpl-4697-b07a-ac58fc914c95", DurationMs: kiln.Millis(1234567), BilledMs: kiln.Millis(2e6),
		Memory: kiln.MemoryRecord{AllocatedMiB: 128, UsedBytes: 35<<20 - 5}}
	for _, c := range []struct {
		outcome kiln.Outcome
		kind    string
		init    kiln.Millis
		end     string
	}{
		{kiln.OutcomeSuccess, "", 0, ""},
		{kiln.OutcomeError, "ValueError", 0, ""},
		{kiln.OutcomeSuccess, "", kiln.Millis(100e6), "Init Duration: 100.00 ms\t"},
		{kiln.OutcomeTimeout, "Sandbox.Timedout", 0, "Status: timeout\t"},
		{kiln.OutcomeCrash, "Runtime.ExitError", kiln.Millis(1e6), "Init Duration: 1.00 ms\tStatus: error\tError Type: Runtime.ExitError\t"},
	} {
		r.Outcome, r.ErrorType, r.InitMs = c.outcome, c.kind, c.init
		want := "REPORT RequestId: 8f507cfc-xmpl-4697-b07a-ac58fc914c95\tDuration: 1.23 ms\tBilled Duration: 2 ms\tMemory Size: 128 MB\tMax Memory Used: 35 MB\t" + c.end
		if got := string(AppendReport(nil, &r)); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}

// Whatever a segment's file holds and however it is cut, its lines are found or passed over, and none is made up.
func FuzzSegment(f *testing.F) {
	line := string(appendRecord(nil, &kiln.Record{RequestID: "a"}))
	f.Add([]byte(line+"\n"+line+"\n"), 0)
	f.Add([]byte(line+"\n"+line[:20]), 1)
	f.Add([]byte("\x00\x00\n{}\n\n"), 2)
	f.Add(bytes.Repeat([]byte("x"), maxLineBytes+7), 3)
	f.Add(append(bytes.Repeat([]byte("x"), 2*maxLineBytes), "\nnext\n"...), 0)
	f.Fuzz(func(t *testing.T, b []byte, slow int) {
		var want [][]byte
		for _, one := range bytes.SplitAfter(b, []byte("\n")) {
			if one, ok := bytes.CutSuffix(one, []byte("\n")); ok {
				want = append(want, one)
			}
		}
		r := []func() (int64, error){
			func() (int64, error) { return eachLine(bytes.NewReader(b), checkLine(t, b, &want)) },
			func() (int64, error) { return eachLine(iotest.HalfReader(bytes.NewReader(b)), checkLine(t, b, &want)) },
		}[slow&1]
		whole, err := r()
		if err != nil || whole != int64(bytes.LastIndexByte(b, '\n')+1) || len(want) != 0 {
			t.Fatalf("whole %d of %d bytes, %d lines not seen, %v", whole, len(b), len(want), err)
		}
		fuzzJournal(t, b)
		fuzzBack(t, b)
	})
}

func checkLine(t *testing.T, b []byte, want *[][]byte) func(int64, []byte) {
	return func(offset int64, line []byte) {
		next := (*want)[0]
		*want = (*want)[1:]
		if len(next) >= maxLineBytes {
			next = nil
		}
		if !bytes.Equal(line, next) || !bytes.HasPrefix(b[offset:], line) {
			t.Fatalf("line %q at %d, want %q", line, offset, next)
		}
	}
}

// fuzzJournal opens a folder whose only file holds b, and goes on writing to it.
func fuzzJournal(t *testing.T, b []byte) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "0000000000000001.jsonl"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		j, err := openJournal(dir, 1<<20, 10, recordKey, appendRecord)
		if err != nil {
			t.Fatal(err)
		}
		j.pending.add(&kiln.Record{RequestID: "new"}, nil)
		if err := errors.Join(j.flush(), j.close()); err != nil {
			t.Fatal(err)
		}
		l := &Ledger{records: j, scans: make(chan struct{}, 1)}
		if items, _ := l.Executions(context.Background(), Filter{Limit: 1}); len(items) != 1 || items[0].RequestID != "new" {
			t.Fatalf("newest: %+v", items)
		}
	}
}

// fuzzBack holds the reading of logs from their end to the reading from their beginning.
func fuzzBack(t *testing.T, b []byte) {
	var want [][]byte
	for _, one := range bytes.SplitAfter(b, []byte("\n")) {
		if one, ok := bytes.CutSuffix(one, []byte("\n")); ok && len(one) < backBytes-1 {
			want = append(want, one)
		}
	}
	backLines(bytes.NewReader(b), int64(len(b)), func(line []byte) bool {
		if len(want) == 0 || !bytes.Equal(line, want[len(want)-1]) {
			t.Fatalf("line %.100q too many, or not the one before", line)
		}
		want = want[:len(want)-1]
		return true
	})
	if len(want) != 0 && len(b) < backBytes {
		t.Fatalf("%d lines not seen", len(want))
	}
}

// When the disk refuses, everything goes on in memory within its bound, what is too much is counted, and when the disk
// takes again what was kept is written, once.
// R101
func TestDiskRefuses(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(dir, Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	g := l.Log("000000000000", "f")
	folders := []string{filepath.Join(dir, "records"), filepath.Join(dir, "logs")}
	for _, name := range folders { // a file in a folder's place refuses everybody, root too
		if err := os.RemoveAll(name); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range MaxPendingRecords + 10 {
		l.Append(&kiln.Record{RequestID: kiln.RequestID(rune('a' + i%26)), Outcome: kiln.OutcomeSuccess, RequestBytes: i})
	}
	g.Write(Line{Time: time.Unix(1, 0), Text: "kept"})
	for range 3 {
		if l.flush() == nil || l.logs.flush() == nil {
			t.Fatal("written to nowhere")
		}
	}
	if _, ok := find(l, "a"); !ok || len(g.Tail(Tail{})) != 1 {
		t.Error("not readable while the disk refuses")
	}
	for _, name := range folders {
		if err := errors.Join(os.Remove(name), os.Mkdir(name, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(l.flush(), l.logs.flush()); err != nil {
		t.Fatal(err)
	}
	again, err := Open(dir, Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	items, _ := again.Executions(context.Background(), Filter{Limit: 1})
	if len(items) != 1 || items[0].RequestBytes != MaxPendingRecords-1 {
		t.Errorf("newest: %+v", items)
	}
	if n := len(again.records.segments[0].table); n != MaxPendingRecords-0 && len(again.records.segments) == 1 {
		t.Errorf("%d records written", n)
	}
	if lines := again.Log("000000000000", "f").Tail(Tail{}); len(lines) != 1 {
		t.Errorf("%v", lines)
	}
	if got := counted(t, l, "kiln_records_dropped_total"); got != 10 {
		t.Errorf("%v dropped", got)
	}
	if got := counted(t, l, "kiln_executions_total"); got != MaxPendingRecords+10 {
		t.Errorf("%v executions counted", got)
	}
}

// Old files go when the bound is reached, tables in memory are bounded, and what is left is found.
// R101
func TestJournalIsBounded(t *testing.T) {
	const kept = maxTables + 3
	dir := t.TempDir()
	bounded := func(j *journal[kiln.Record], when string) {
		tables := 0
		for _, s := range j.segments[:len(j.segments)-1] {
			if s.loaded {
				tables++
			}
		}
		if tables > maxTables {
			t.Errorf("%s %d tables of full files are in memory", when, tables)
		}
	}
	j, err := openJournal(dir, kept*segmentBytes, 1000, recordKey, appendRecord)
	if err != nil {
		t.Fatal(err)
	}
	l := &Ledger{records: j, scans: make(chan struct{}, 1)}
	message := strings.Repeat("m", MaxErrorBytes)
	const n = 30_000 // some 160 MB
	for i := range n {
		j.pending.add(&kiln.Record{RequestID: kiln.RequestID(string(appendInt([]byte("id-"), int64(i)))), ErrorMessage: message}, nil)
		if i%500 == 499 {
			if err := j.flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	bounded(j, "after writing")
	size := int64(0)
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, _ error) error {
		if info, err := d.Info(); err == nil && d.Type().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	if size > kept*segmentBytes+writeBytes || size < (kept-2)*segmentBytes {
		t.Errorf("%d bytes on disk", size)
	}
	if _, ok := find(l, "id-0"); ok {
		t.Error("the first record is still there")
	}
	if _, ok := find(l, "id-25000"); !ok {
		t.Error("a late record is gone")
	}
	again, err := openJournal(dir, kept*segmentBytes, 1000, recordKey, appendRecord)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range again.segments[:len(again.segments)-1] {
		if s.loaded {
			t.Error("an old file was read at open")
		}
	}
	l = &Ledger{records: again, scans: make(chan struct{}, 1)}
	for _, id := range []kiln.RequestID{"id-29999", "id-25000"} {
		if _, ok := find(l, id); !ok {
			t.Errorf("%s is not found after a restart", id)
		}
	}
	seen, next := 0, ""
	for {
		items, more := l.Executions(context.Background(), Filter{Limit: MaxLimit, Next: next})
		seen += len(items)
		if next = more; next == "" {
			break
		}
	}
	bounded(again, "after a list of all")
	if seen < 9000 || seen > 16_000 {
		t.Errorf("%d records listed", seen)
	}
}

// A number once parsed comes back, and nothing else is taken for one.
func TestCursors(t *testing.T) {
	for _, seq := range []uint64{1, 35, math.MaxUint64} {
		if got, err := parseCursor('x', cursor('x', seq)); err != nil || got != seq {
			t.Errorf("%d: %d %v", seq, got, err)
		}
	}
	for _, bad := range []string{"x", "e1", "x-1", "x$", "x" + strings.Repeat("z", 30)} {
		if _, err := parseCursor('x', bad); kiln.KindOf(err) != kiln.KindInvalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// An id that is nowhere costs next to nothing: no segment is read for it, nor after a restart, and one that is there is
// found in its segment. Fingerprints that are lost or damaged are made again.
func TestUnknownExecutionReadsNothing(t *testing.T) {
	dir := t.TempDir()
	j, err := openJournal(dir, 100*segmentBytes, 1000, recordKey, appendRecord)
	if err != nil {
		t.Fatal(err)
	}
	message := strings.Repeat("m", MaxErrorBytes)
	for i := range 9_000 { // some 45 MB
		j.pending.add(&kiln.Record{RequestID: kiln.RequestID(string(appendInt([]byte("id-"), int64(i)))), ErrorMessage: message}, nil)
		if i%500 == 499 {
			if err := j.flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	ids, err := filepath.Glob(filepath.Join(dir, "*"+idsSuffix))
	if err != nil || len(ids) < 4 {
		t.Fatalf("%v %v", ids, err)
	}
	if err := errors.Join(os.Remove(ids[0]), os.WriteFile(ids[1], []byte("damaged!"), 0o600),
		os.WriteFile(filepath.Join(dir, "00000000000fffff"+idsSuffix), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		again, err := openJournal(dir, 100*segmentBytes, 1000, recordKey, appendRecord)
		if err != nil {
			t.Fatal(err)
		}
		l := &Ledger{records: again, scans: make(chan struct{}, 1)}
		if _, ok := find(l, "nobody"); ok {
			t.Error("found what was never there")
		}
		read := 0
		for _, s := range again.segments[:len(again.segments)-1] {
			if s.loaded {
				read++
			}
			if again.mayHold(s, hashID("nobody")) {
				t.Error("a segment may hold what was never there")
			}
		}
		if want := 2 * (1 - round); read != want {
			t.Errorf("round %d: %d segments were read, want %d", round, read, want)
		}
		for _, id := range []kiln.RequestID{"id-0", "id-1800", "id-4000", "id-8999"} {
			if r, ok := find(l, id); !ok || r.RequestID != id {
				t.Errorf("%s is not found", id)
			}
		}
		if items, _ := l.Executions(t.Context(), Filter{RequestID: "id-3"}); len(items) != 1 {
			t.Errorf("listed by id: %d", len(items))
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*"+idsSuffix)); len(left) != len(ids) {
		t.Errorf("%d files of fingerprints, want %d", len(left), len(ids))
	}
}

// What was written before the time asked for is not read again.
func TestListSinceReadsNothingOlder(t *testing.T) {
	dir := t.TempDir()
	j, err := openJournal(dir, 100*segmentBytes, 1000, recordKey, appendRecord)
	if err != nil {
		t.Fatal(err)
	}
	message := strings.Repeat("m", MaxErrorBytes)
	for i := range 6_000 { // some 30 MB
		r := kiln.Record{RequestID: kiln.RequestID(string(appendInt([]byte("id-"), int64(i)))), ErrorMessage: message}
		r.Times.Received.Time = time.Now()
		j.pending.add(&r, nil)
		if i%500 == 499 {
			if err := j.flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	if j, err = openJournal(dir, 100*segmentBytes, 1000, recordKey, appendRecord); err != nil {
		t.Fatal(err)
	}
	l := &Ledger{records: j, scans: make(chan struct{}, 1)}
	if items, next := l.Executions(t.Context(), Filter{Since: time.Now().Add(time.Hour)}); len(items) != 0 || next != "" {
		t.Errorf("%d items, then %q", len(items), next)
	}
	for _, s := range j.segments[:len(j.segments)-1] {
		if s.loaded {
			t.Error("an old file was read")
		}
	}
	var all int
	for next := ""; ; {
		items, more := l.Executions(t.Context(), Filter{Since: time.Now().Add(-time.Hour), Limit: MaxLimit, Next: next})
		if all, next = all+len(items), more; next == "" {
			break
		}
	}
	if all != 6_000 {
		t.Errorf("%d of the last hour, want 6000", all)
	}
}

// Who waits for a turn at the old files waits no longer than its context and the bound on one search.
func TestSearchIsBoundedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := Open(t.TempDir(), Config{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		for range maxScans {
			l.scans <- struct{}{}
		}
		start := time.Now()
		if _, err := l.Execution(t.Context(), "nobody"); kiln.KindOf(err) != kiln.KindUnavailable || time.Since(start) != maxScan {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, next := l.Executions(ctx, Filter{}); next == "" || time.Since(start) != maxScan+time.Second {
			t.Errorf("the list ended with %q after %v", next, time.Since(start))
		}
	})
}

// Whatever a file of fingerprints holds, it is what was written or refused.
func FuzzFingerprints(f *testing.F) {
	f.Add(fingerprints{1, 2, 3}.encode())
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if prints, ok := decodeFingerprints(b); ok && !bytes.Equal(prints.encode(), b) {
			t.Errorf("%x became %x", b, prints.encode())
		}
	})
}

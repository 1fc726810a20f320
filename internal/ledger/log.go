package ledger

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"sync"
	"time"

	"kiln"
)

const (
	// MaxLineBytes bounds the text of one line, in bytes; the rest of a longer one becomes further lines.
	MaxLineBytes = 64 << 10
	// MaxPendingLogBytes bounds what one function may write between two flushes, in bytes: with FlushInterval some 5 MB a
	// second. Beyond it lines are dropped, counted, and a line in the log says so.
	MaxPendingLogBytes = 256 << 10
	// platformBytes is room beyond MaxPendingLogBytes for the START, END and REPORT lines, in bytes: those of 60,000
	// executions a second.
	platformBytes = 1 << 20
	// MaxAllPendingLogBytes bounds what all functions together may have waiting for the disk, in bytes.
	MaxAllPendingLogBytes = 32 << 20
	// MaxFollowers bounds those who follow one log.
	MaxFollowers = 32
	// followerLines bounds the lines that wait for one follower; beyond it lines are dropped and a line says so.
	followerLines = 1024
	// maxTailBytes bounds how far back one Tail reads, in bytes.
	maxTailBytes = 4 << 20
)

// Line is one line of a function's log.
type Line struct {
	Time      time.Time
	Container kiln.ContainerID
	RequestID kiln.RequestID
	// Text is the line without its end.
	Text string
}

// Tail chooses the end of a log: the newest lines that are within every bound given. Zero fields do not bound.
type Tail struct {
	// Bytes bounds the texts and their line ends, in bytes. The oldest line may be cut at its beginning to fit, as AWS does.
	Bytes int
	// Lines bounds the number of lines.
	Lines int
	// Since leaves out what is older.
	Since time.Time
	// RequestID leaves out the lines of other requests.
	RequestID kiln.RequestID
}

// Log is one function's log. What is written is readable at once.
type Log struct {
	owner   *logs
	account kiln.AccountID
	name    string
	dir     string

	mu        sync.Mutex
	buf       []byte      // encoded lines nobody has taken yet; guarded by mu
	flushing  []byte      // encoded lines being written to disk; the writer's, changed under mu
	files     []logFile   // oldest first; the writer's, changed under mu
	dirty     bool        // in logs.dirty; guarded by mu
	dropped   int         // lines since the last flush; guarded by mu
	lost      int         // bytes of those; guarded by mu
	followers []*follower // guarded by mu
	gone      bool        // no longer in logs.all, empty for good; guarded by mu

	written time.Time // of the last flush; the writer's alone
	ours    bool      // the last file was begun or mended by this process; the writer's alone
}

type logFile struct {
	number uint64
	size   int64
}

// follower takes the lines of one log as they come.
type follower struct {
	lines chan Line
	lost  int // guarded by Log.mu
}

// Write adds a text, each of its lines as a line. It copies it and returns; it never waits for the disk. Beyond its bounds
// lines are dropped, and a line in their place says how many.
func (g *Log) Write(line Line) {
	text := strings.TrimSuffix(line.Text, "\n")
	for one := range strings.SplitSeq(text, "\n") {
		for len(one) > MaxLineBytes {
			head := cut(one, MaxLineBytes)
			g.add(line.Time, line.Container, line.RequestID, MaxPendingLogBytes, len(head), func(b []byte) []byte { return append(b, head...) })
			one = one[len(head):]
		}
		g.add(line.Time, line.Container, line.RequestID, MaxPendingLogBytes, len(one), func(b []byte) []byte { return append(b, one...) })
	}
}

// Start writes the START line of an execution. version is the version executed.
func (g *Log) Start(at time.Time, container kiln.ContainerID, id kiln.RequestID, version string) {
	g.add(at, container, id, MaxPendingLogBytes+platformBytes, 128, func(b []byte) []byte { return AppendStart(b, id, version) })
}

// End writes the END line of an execution.
func (g *Log) End(at time.Time, container kiln.ContainerID, id kiln.RequestID) {
	g.add(at, container, id, MaxPendingLogBytes+platformBytes, 128, func(b []byte) []byte { return AppendEnd(b, id) })
}

// Report writes the REPORT line of an execution.
func (g *Log) Report(at time.Time, r *kiln.Record) {
	g.add(at, r.Container, r.RequestID, MaxPendingLogBytes+platformBytes, 512, func(b []byte) []byte { return AppendReport(b, r) })
}

// lock locks the log, or the one that took its place while it was empty, and gives it. Who holds on to a Log so may write
// to it whatever became of it.
func (g *Log) lock() *Log {
	for {
		g.mu.Lock()
		if !g.gone {
			return g
		}
		g.mu.Unlock()
		g = g.owner.ledger.Log(g.account, g.name)
	}
}

// add encodes one line of about size bytes into the buffer, unless that would hold more than room.
func (g *Log) add(at time.Time, container kiln.ContainerID, id kiln.RequestID, room, size int, text func([]byte) []byte) {
	g = g.lock()
	if len(g.buf)+size > room || g.owner.pendingBytes.Load()+int64(size) > MaxAllPendingLogBytes {
		g.dropped++
		g.lost += size
		g.mu.Unlock()
		g.owner.ledger.metrics.droppedLines.Inc()
		return
	}
	start := len(g.buf)
	g.buf = appendLineHead(g.buf, at, container, id)
	textAt := len(g.buf)
	g.buf = append(text(g.buf), '\n')
	for i := bytes.IndexByte(g.buf[textAt:], '\n') + textAt; i < len(g.buf)-1; i++ { // an error type may hold anything
		if g.buf[i] == '\n' {
			g.buf[i] = ' '
		}
	}
	n := len(g.buf) - start
	wake := !g.dirty
	g.dirty = true
	if len(g.followers) > 0 {
		g.tell(Line{Time: at, Container: container, RequestID: id, Text: string(g.buf[textAt : len(g.buf)-1])})
	}
	g.mu.Unlock()
	g.owner.pendingBytes.Add(int64(n))
	g.owner.ledger.metrics.logBytes.Add(float64(n))
	if wake {
		g.owner.markDirty(g)
	}
}

// tell hands a line to everyone who follows. The caller holds mu.
func (g *Log) tell(line Line) {
	for _, f := range g.followers {
		if f.lost > 0 {
			select {
			case f.lines <- Line{Time: line.Time, Text: droppedText(f.lost, -1)}:
				f.lost = 0
			default:
			}
		}
		select {
		case f.lines <- line:
		default:
			f.lost++
		}
	}
}

// droppedText is the line in place of dropped ones.
func droppedText(lines, size int) string {
	if size < 0 {
		return fmt.Sprintf("kiln: %d log lines dropped", lines)
	}
	return fmt.Sprintf("kiln: %d log lines dropped (%d bytes)", lines, size)
}

// Tail gives the end of the log, oldest line first. May block for the disk.
func (g *Log) Tail(t Tail) []Line {
	g = g.lock()
	pending, files := g.snapshot()
	g.mu.Unlock()
	return g.tail(t, pending, files)
}

// Follow gives the end of the log as Tail does and then each line as it is written, none twice and none left out but what
// a slow reader makes be dropped, which a line tells. It ends with ctx. May block for the disk.
// Kinds: KindThrottled (too many follow).
func (g *Log) Follow(ctx context.Context, t Tail) (iter.Seq[Line], error) {
	f := &follower{lines: make(chan Line, followerLines)}
	g = g.lock()
	if len(g.followers) >= MaxFollowers {
		g.mu.Unlock()
		return nil, kiln.Errorf(kiln.KindThrottled, "ledger: follow log", "Too many follow this log: at most %d can.", MaxFollowers)
	}
	g.followers = append(g.followers, f)
	pending, files := g.snapshot()
	g.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { g.unfollow(f) }) // for an iterator nobody ever runs
	return func(yield func(Line) bool) {
		defer stop()
		defer g.unfollow(f)
		for _, line := range g.tail(t, pending, files) {
			if !yield(line) {
				return
			}
		}
		for {
			select {
			case line := <-f.lines:
				if (t.RequestID == "" || line.RequestID == t.RequestID) && !yield(line) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}, nil
}

func (g *Log) unfollow(f *follower) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, one := range g.followers {
		if one == f {
			g.followers = append(g.followers[:i:i], g.followers[i+1:]...)
			return
		}
	}
}

// snapshot gives the lines that are not on disk and the files with the lines that are. The caller holds mu.
func (g *Log) snapshot() ([]byte, []logFile) {
	pending := append(bytes.Clone(g.flushing), g.buf...)
	return pending, append([]logFile(nil), g.files...)
}

// tail walks back from the newest line.
func (g *Log) tail(t Tail, pending []byte, files []logFile) []Line {
	w := tailWalk{Tail: t}
	if backLines(bytes.NewReader(pending), int64(len(pending)), w.take) {
		left := int64(maxTailBytes)
		for i := len(files) - 1; i >= 0 && left > 0; i-- {
			left -= files[i].size
			if !g.owner.backFile(g, files[i], w.take) {
				break
			}
		}
	}
	for i, j := 0, len(w.lines)-1; i < j; i, j = i+1, j-1 {
		w.lines[i], w.lines[j] = w.lines[j], w.lines[i]
	}
	return w.lines
}

// tailWalk collects lines, newest first, until a bound is reached.
type tailWalk struct {
	Tail
	lines []Line
	size  int
}

// take says whether to go on.
func (w *tailWalk) take(raw []byte) bool {
	line, ok := parseLine(raw)
	if !ok || w.RequestID != "" && line.RequestID != w.RequestID {
		return true
	}
	if !w.Since.IsZero() && line.Time.Before(w.Since) {
		return false
	}
	if w.Bytes > 0 && w.size+len(line.Text)+1 > w.Bytes {
		if room := w.Bytes - w.size - 1; room > 0 {
			line.Text = line.Text[len(line.Text)-room:]
			w.lines = append(w.lines, line)
		}
		return false
	}
	w.size += len(line.Text) + 1
	w.lines = append(w.lines, line)
	if w.Lines > 0 && len(w.lines) >= w.Lines || w.Bytes > 0 && w.size >= w.Bytes {
		return false
	}
	return w.RequestID == "" || !strings.HasPrefix(line.Text, "START RequestId: ")
}

// appendLineHead appends what stands before a line's text in a file: microseconds since 1970, container and request, each
// ended by a tab.
func appendLineHead(b []byte, at time.Time, container kiln.ContainerID, id kiln.RequestID) []byte {
	b = append(strconv.AppendInt(b, at.UnixMicro(), 10), '\t')
	b = append(append(b, container...), '\t')
	return append(append(b, id...), '\t')
}

// parseLine reads a line of a file, without its end.
func parseLine(raw []byte) (Line, bool) {
	at, rest, ok1 := bytes.Cut(raw, []byte{'\t'})
	container, rest, ok2 := bytes.Cut(rest, []byte{'\t'})
	id, text, ok3 := bytes.Cut(rest, []byte{'\t'})
	micros, err := strconv.ParseInt(string(at), 10, 64)
	if !ok1 || !ok2 || !ok3 || err != nil {
		return Line{}, false
	}
	return Line{Time: time.UnixMicro(micros), Container: kiln.ContainerID(container), RequestID: kiln.RequestID(id),
		Text: string(text)}, true
}

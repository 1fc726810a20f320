package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"kiln"
)

const (
	// logFiles is how many files one function's log is kept in, at most; the oldest is deleted whole.
	logFiles = 4
	// logSuffix ends a log file's name, which begins with its number in 16 hexadecimal digits.
	logSuffix = ".log"
	// noFunction is the folder for code that was never registered.
	noFunction = ".run"
	// backBytes is how much of a log is read at a time, from its end, in bytes. Longer than any line.
	backBytes = MaxLineBytes + 4<<10
	// keptBufferBytes is the largest buffer a quiet function keeps, in bytes.
	keptBufferBytes = 8 << 10
)

// logs is every function's log. Files are opened for each flush and closed after it: none stays open.
type logs struct {
	dir    string
	ledger *Ledger

	pendingBytes atomic.Int64 // encoded lines that wait for the disk
	total        int64        // bytes of all files; the writer's alone
	swept        time.Time    // when sweep was last called; the writer's alone

	mu    sync.RWMutex
	all   map[logName]*Log // guarded by mu
	dirty []*Log           // have lines to write; guarded by mu
}

type logName struct {
	account  kiln.AccountID
	function string
}

// Log gives a function's log; function is empty for code that was never registered.
func (l *Ledger) Log(account kiln.AccountID, function string) *Log {
	name := logName{account, function}
	l.logs.mu.RLock()
	g := l.logs.all[name]
	l.logs.mu.RUnlock()
	if g != nil {
		return g
	}
	l.logs.mu.Lock()
	defer l.logs.mu.Unlock()
	if g = l.logs.all[name]; g == nil {
		g = l.logs.make(name)
		if len(l.logs.all) > MaxLogs {
			signal(l.wakeLogs) // to sweep
		}
	}
	return g
}

// make adds a log. The caller holds mu, or is alone.
func (s *logs) make(name logName) *Log {
	g := &Log{owner: s, account: name.account, name: name.function,
		dir: filepath.Join(s.dir, folder(string(name.account)), folder(name.function))}
	s.all[name] = g
	return g
}

// open finds the logs of earlier processes.
func (s *logs) open(dir string, l *Ledger) error {
	s.dir, s.ledger, s.all = dir, l, make(map[logName]*Log)
	accounts, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, account := range accounts {
		functions, err := os.ReadDir(filepath.Join(dir, account.Name()))
		if err != nil {
			return err
		}
		for _, function := range functions {
			g := s.make(logName{kiln.AccountID(unfolder(account.Name())), unfolder(function.Name())})
			if err := g.find(); err != nil {
				return err
			}
			for _, f := range g.files {
				s.total += f.size
			}
		}
	}
	return nil
}

// find reads which files a log has.
func (g *Log) find() error {
	entries, err := os.ReadDir(g.dir)
	if err != nil {
		return err
	}
	for _, e := range entries { // in the order of their names, and so of their numbers
		digits, ok := strings.CutSuffix(e.Name(), logSuffix)
		number, err := strconv.ParseUint(digits, 16, 64)
		if !ok || err != nil || len(digits) != 16 {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		g.files = append(g.files, logFile{number: number, size: info.Size()})
		g.written = info.ModTime()
	}
	return nil
}

func (s *logs) markDirty(g *Log) {
	s.mu.Lock()
	s.dirty = append(s.dirty, g)
	first := len(s.dirty) == 1
	s.mu.Unlock()
	if first {
		signal(s.ledger.wakeLogs)
	}
}

// flush writes every log that has something to write. One that cannot be written stays in the line.
func (s *logs) flush() error {
	s.mu.Lock()
	dirty := s.dirty
	s.dirty = nil
	s.mu.Unlock()
	var failed []*Log
	var first error
	for _, g := range dirty {
		if err := s.flushOne(g); err != nil {
			failed = append(failed, g)
			if first == nil {
				first = err
			}
		}
	}
	s.mu.Lock()
	s.dirty = append(failed, s.dirty...)
	s.mu.Unlock()
	return errors.Join(first, s.trim(), s.sweep())
}

// flushOne writes what one log has. After an error the same bytes are written again by the next flush.
func (s *logs) flushOne(g *Log) error {
	g.mu.Lock()
	if len(g.flushing) == 0 {
		if g.dropped > 0 {
			before := len(g.buf)
			g.buf = append(appendLineHead(g.buf, time.Now(), "", ""), droppedText(g.dropped, g.lost)...)
			g.buf = append(g.buf, '\n')
			s.pendingBytes.Add(int64(len(g.buf) - before))
			g.dropped, g.lost = 0, 0
		}
		g.flushing, g.buf = g.buf, nil
	}
	data := g.flushing
	g.mu.Unlock()
	if err := s.write(g, data); err != nil {
		return err
	}
	s.pendingBytes.Add(-int64(len(data)))
	g.mu.Lock()
	last := len(g.files) - 1
	g.files[last].size += int64(len(data))
	g.flushing = nil
	if g.buf == nil && cap(data) <= keptBufferBytes {
		g.buf = data[:0]
	}
	again := len(g.buf) > 0 || g.dropped > 0
	g.dirty = again
	g.mu.Unlock()
	s.total += int64(len(data))
	g.written = time.Now()
	if again {
		s.markDirty(g)
	}
	return nil
}

// write puts data at the end of a log's last file, beginning another when that one is full.
func (s *logs) write(g *Log, data []byte) error {
	if n := len(g.files); n == 0 || g.files[n-1].size >= s.ledger.config.FunctionLogBytes/logFiles {
		if err := s.begin(g); err != nil {
			return err
		}
	}
	last := &g.files[len(g.files)-1]
	f, err := os.OpenFile(s.file(g, *last), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if !g.ours {
		if err := s.mend(g, f, last); err != nil {
			f.Close()
			return err
		}
	}
	_, err = f.WriteAt(data, last.size)
	return errors.Join(err, f.Close())
}

// mend ends a torn last line that an earlier process left.
func (s *logs) mend(g *Log, f *os.File, last *logFile) error {
	var end [1]byte
	if last.size > 0 {
		if _, err := f.ReadAt(end[:], last.size-1); err != nil && err != io.EOF {
			return err
		}
		if end[0] != '\n' {
			if _, err := f.WriteAt([]byte{'\n'}, last.size); err != nil {
				return err
			}
			g.mu.Lock()
			last.size++
			g.mu.Unlock()
			s.total++
		}
	}
	g.ours = true
	return nil
}

// begin adds a file to a log and deletes the oldest beyond the bound.
func (s *logs) begin(g *Log) error {
	if err := os.MkdirAll(g.dir, 0o755); err != nil {
		return err
	}
	number := uint64(1)
	if n := len(g.files); n > 0 {
		number = g.files[n-1].number + 1
	}
	g.mu.Lock()
	g.files = append(g.files, logFile{number: number})
	g.mu.Unlock()
	g.ours = true
	for len(g.files) > logFiles {
		if err := s.deleteOldest(g); err != nil {
			return err
		}
	}
	return nil
}

// deleteOldest deletes a log's oldest file.
func (s *logs) deleteOldest(g *Log) error {
	oldest := g.files[0]
	if err := os.Remove(s.file(g, oldest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	g.mu.Lock()
	g.files = slices.Clone(g.files[1:])
	g.mu.Unlock()
	s.total -= oldest.size
	return nil
}

// trim deletes the oldest file of the log that was quiet for longest until the bound on all logs holds.
func (s *logs) trim() error {
	for s.total > s.ledger.config.LogBytes {
		var quiet *Log
		s.mu.RLock()
		for _, g := range s.all {
			if len(g.files) > 0 && (quiet == nil || g.written.Before(quiet.written)) {
				quiet = g
			}
		}
		s.mu.RUnlock()
		if quiet == nil {
			return nil
		}
		if err := s.deleteOldest(quiet); err != nil {
			return err
		}
	}
	return nil
}

// backFile gives the lines of a file, the last one first. False when yield said no, or the file is gone.
func (s *logs) backFile(g *Log, file logFile, yield func([]byte) bool) bool {
	f, err := os.Open(s.file(g, file))
	if err != nil {
		return false
	}
	defer f.Close()
	return backLines(f, file.size, yield)
}

// backLines gives the whole lines of what r holds, the last one first, without their ends. False when yield said no.
func backLines(r io.ReaderAt, size int64, yield func([]byte) bool) bool {
	buf := make([]byte, min(backBytes, size))
	torn := true // what follows the last line end is no line yet
	for size > 0 {
		part := buf[:min(int64(len(buf)), size)]
		start := size - int64(len(part))
		if _, err := r.ReadAt(part, start); err != nil && err != io.EOF {
			return false
		}
		for {
			end := bytes.LastIndexByte(part, '\n')
			if end < 0 {
				break
			}
			if !torn && !yield(part[end+1:]) {
				return false
			}
			torn = false
			part = part[:end]
		}
		switch {
		case start == 0:
			return torn || yield(part)
		case len(part) >= len(buf)-1: // no line of ours is that long
			size = start
		default: // part is the end of a line: it is read again, with its line end, behind what comes before it
			size = start + int64(len(part)) + 1
		}
		torn = true
	}
	return true
}

func (s *logs) file(g *Log, f logFile) string {
	return filepath.Join(g.dir, fmt.Sprintf("%016x", f.number)+logSuffix)
}

// folder makes a name safe as a folder's.
func folder(name string) string {
	if name == "" {
		return noFunction
	}
	escaped := url.PathEscape(name)
	if strings.HasPrefix(escaped, ".") {
		escaped = "%2E" + escaped[1:]
	}
	return escaped
}

func unfolder(name string) string {
	if name == noFunction {
		return ""
	}
	if plain, err := url.PathUnescape(name); err == nil {
		return plain
	}
	return name
}

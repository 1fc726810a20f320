package ledger

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	// MaxLogs bounds the functions that have a log, each with a folder of its own. Beyond it those of deleted functions
	// go, then those that were quiet for longest.
	MaxLogs = 10_000
	// LogKept is how long the log of a deleted function is kept after its last line.
	LogKept = time.Hour
	// SweepInterval is how often logs that nobody needs are looked for.
	SweepInterval = time.Minute
)

// remind wakes the logs' writer to sweep, also when nobody writes.
func (l *Ledger) remind(ctx context.Context) {
	ticker := time.NewTicker(SweepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			signal(l.wakeLogs)
		case <-ctx.Done():
			return
		}
	}
}

// sweep deletes the logs of functions that are deleted and those beyond MaxLogs, and forgets the empty ones. The writer
// calls it after each flush; it does something once in SweepInterval and when there are too many.
func (s *logs) sweep() error {
	s.mu.RLock()
	over := len(s.all) - MaxLogs
	if over <= 0 && time.Since(s.swept) < SweepInterval {
		s.mu.RUnlock()
		return nil
	}
	all := make([]*Log, 0, len(s.all))
	for _, g := range s.all {
		all = append(all, g)
	}
	s.mu.RUnlock()
	if over > 0 {
		over += MaxLogs / 10 // so that it is not done again for the next one
	}
	s.swept = time.Now()
	deleted := make(map[*Log]bool)
	for _, g := range all {
		if g.name != "" && s.ledger.config.Registered != nil && !s.ledger.config.Registered(g.account, g.name) {
			deleted[g] = true
		}
	}
	slices.SortFunc(all, func(a, b *Log) int {
		switch {
		case deleted[a] && !deleted[b]:
			return -1
		case deleted[b] && !deleted[a]:
			return 1
		}
		return a.written.Compare(b.written)
	})
	for _, g := range all {
		due := over > 0 || len(g.files) == 0 || deleted[g] && time.Since(g.written) >= LogKept
		if !due {
			continue
		}
		went, err := s.delete(g)
		if err != nil {
			return err
		}
		if went {
			over--
		}
	}
	return nil
}

// delete deletes a log with its folder, unless somebody follows it or a line waits for the disk.
func (s *logs) delete(g *Log) (went bool, err error) {
	if !g.idle() {
		return false, nil
	}
	for len(g.files) > 0 {
		if err := s.deleteOldest(g); err != nil {
			return false, err
		}
	}
	_ = os.Remove(g.dir) // a folder with something of another's in it stays, and costs nothing
	_ = os.Remove(filepath.Dir(g.dir))
	s.mu.Lock()
	defer s.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.quiet() { // a line came: it goes to a new file
		return false, nil
	}
	g.gone = true
	delete(s.all, logName{g.account, g.name})
	return true, nil
}

func (g *Log) idle() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.quiet()
}

// quiet reports whether nothing of a log waits for the disk and nobody follows it. The caller holds mu.
func (g *Log) quiet() bool {
	return !g.dirty && len(g.buf) == 0 && len(g.flushing) == 0 && g.dropped == 0 && len(g.followers) == 0
}

package engine

import (
	"context"
	"slices"
	"time"

	"kiln"
)

// Bounds of healing.
const (
	// lookInterval is how often Run looks whether the embedded server still works.
	lookInterval = time.Second
	// healTries is how often a new life is tried before Run gives up; the pause between doubles from healPause.
	healTries = 5
	healPause = 250 * time.Millisecond
	// healBytes is the free disk space needed to begin a new life.
	healBytes = 4 << 20
	// healLimit bounds one try, in which everything is read again.
	healLimit = startLimit
)

// doubt has Run look at a backend that did not take a write.
func (e *Engine) doubt(b *backend) {
	select {
	case e.suspect <- b:
	default: // Run is told already
	}
}

// Run keeps the embedded server alive until ctx ends or Close is called: one that died, or broke on a full disk, is
// started anew as soon as there is room. Documents stay readable meanwhile, and writes are refused. An error, which is
// final, says that it cannot be started any more. Kinds: KindUnavailable, KindCorrupt (it lost writes).
func (e *Engine) Run(ctx context.Context) error {
	look := time.NewTicker(lookInterval)
	defer look.Stop()
	for {
		b := e.current()
		select {
		case <-ctx.Done():
			return nil
		case doubted := <-e.suspect:
			if doubted != b {
				continue // its successor is there already
			}
		case <-look.C:
			if b.server.Running() && b.server.JetStreamEnabled() {
				continue
			}
		}
		if e.isClosed() {
			return nil
		}
		e.logger.Error("engine broke, starting it anew")
		if err := e.heal(ctx, b); err != nil || ctx.Err() != nil {
			return err
		}
		e.logger.Info("engine works again")
	}
}

func (e *Engine) isClosed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closed
}

// heal ends a backend and puts a new one in its place.
func (e *Engine) heal(ctx context.Context, old *backend) error {
	old.close()
	pause := healPause
	for try := 1; ; try++ {
		if err := e.awaitRoom(ctx); err != nil {
			return nil // ctx ended
		}
		err := e.renew(ctx)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		e.logger.Error("engine does not start", "try", try, "error", err)
		if try == healTries || kiln.KindOf(err) == kiln.KindCorrupt {
			return kiln.Wrap(kiln.KindOf(err), "engine: start anew", "the store broke and cannot be started any more; look at the disk of the data directory", err)
		}
		if !wait(ctx, pause) {
			return nil
		}
		pause *= 2
	}
}

// awaitRoom blocks until there is disk space to begin with. An error means that ctx ended.
func (e *Engine) awaitRoom(ctx context.Context) error {
	told := false
	for {
		free, err := e.free()
		if err == nil && free >= healBytes {
			return nil
		}
		if !told {
			e.logger.Error("engine waits for disk space", "free", free, "needed", healBytes)
			told = true
		}
		if !wait(ctx, lookInterval/2) {
			return ctx.Err()
		}
	}
}

// wait waits; false when ctx ended before.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// renew starts a backend, moves every bucket to it and puts it to use.
func (e *Engine) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healLimit)
	defer cancel()
	b, err := e.newBackend(ctx)
	if err != nil {
		return err
	}
	for _, d := range e.opened() {
		if err := d.attach(ctx, b); err != nil {
			b.close()
			return err
		}
	}
	e.mu.Lock()
	e.backend = b
	closed := e.closed
	e.mu.Unlock()
	if closed { // Close saw the old one only
		b.close()
	}
	return nil
}

// opened lists the open buckets by name.
func (e *Engine) opened() []*Documents {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []*Documents
	for _, d := range e.buckets {
		if d != nil {
			all = append(all, d)
		}
	}
	slices.SortFunc(all, func(a, b *Documents) int {
		if a.bucket < b.bucket {
			return -1
		}
		return 1
	})
	return all
}

package engine

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"kiln"

	"github.com/nats-io/nats.go/jetstream"
)

// markerAge is how long the mark of a deleted document is kept, so that every node that was away hears of it.
const markerAge = 30 * time.Minute

// Document is a value and the revision that wrote it. The value is shared: nobody may write to it.
type Document struct {
	Value []byte
	// Revision grows with each write of the bucket; it is never used twice.
	Revision uint64
}

// Change tells that a document was written or deleted.
type Change struct {
	Key      string
	Document Document // of a deleted document: the revision of its deletion, no value
	Deleted  bool
}

// Documents is a set of documents with a copy of all of them in memory. Reading does no I/O. A write is synced to disk and
// visible in this process's copy, and the hook has been called for it, before the write returns.
type Documents struct {
	engine *Engine
	bucket string
	hook   func(Change)
	link   atomic.Pointer[link]

	mu      sync.RWMutex
	copies  map[string]Document // guarded by mu
	keys    []string            // guarded by mu: the keys of copies, sorted once loaded
	loaded  bool                // guarded by mu: the first reading of everything is done
	applied uint64              // guarded by mu: every change up to this revision is in copies and told to the hook
	waiters []waiter            // guarded by mu: writers that wait for their revision to be applied
}

// link is how Documents hang on one life of the embedded server.
type link struct {
	backend *backend
	kv      jetstream.KeyValue
	stream  jetstream.Stream
	// down is closed when nothing is applied any more: the backend is closing, or its watch has failed.
	down chan struct{}
}

// waiter is a writer that waits until a revision is applied. There is at most one for each write under way.
type waiter struct {
	revision uint64
	done     chan struct{}
}

// Documents opens a bucket (letters, digits, - and _), which is made when it is new, and reads all of it before it returns.
// The hook, which may be nil, is called for each document found and then for each change, in the store's order, from one
// goroutine, with no lock held; it must not block and must not write. ctx bounds the opening only.
//
// Kinds: KindInvalid (name), KindConflict (open already), KindLimit (too many), KindUnavailable.
func (e *Engine) Documents(ctx context.Context, bucket string, hook func(Change)) (*Documents, error) {
	if err := e.claim(bucket); err != nil {
		return nil, err
	}
	if hook == nil {
		hook = func(Change) {}
	}
	d := &Documents{engine: e, bucket: bucket, hook: hook, copies: map[string]Document{}}
	err := d.attach(ctx, e.current())
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		delete(e.buckets, bucket)
		return nil, err
	}
	e.buckets[bucket] = d
	return d, nil
}

// attach makes or finds the bucket on a backend and reads it. What an earlier backend gave is not told again.
func (d *Documents) attach(ctx context.Context, b *backend) error {
	const op = "engine: open documents"
	stream, err := b.js.CreateOrUpdateStream(ctx, streamConfig(d.bucket))
	if err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "the bucket cannot be made", err)
	}
	if err := d.complete(stream.CachedInfo().State.LastSeq); err != nil {
		return err
	}
	kv, err := b.js.KeyValue(ctx, d.bucket)
	if err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "the bucket cannot be opened", err)
	}
	life, end := context.WithCancel(b.life)
	watch, err := kv.WatchAll(life)
	if err != nil {
		end()
		return kiln.Wrap(kiln.KindUnavailable, op, "the bucket cannot be watched", err)
	}
	l := &link{backend: b, kv: kv, stream: stream, down: make(chan struct{})}
	loaded := make(chan bool, 1) // true when an old mark of a deletion was seen
	b.watches.Go(func() {
		defer end()
		d.apply(life, l, watch, loaded)
	})
	select {
	case marks := <-loaded:
		d.link.Store(l)
		if marks {
			d.sweep(ctx, kv)
		}
		return nil
	case <-l.down:
		return kiln.Errorf(kiln.KindUnavailable, op, "the bucket %q ended while it was read", d.bucket)
	case <-ctx.Done():
		end()
		return kiln.Wrap(kiln.KindUnavailable, op, "the bucket was not read in time", context.Cause(ctx))
	}
}

// complete refuses a store that has lost what it once gave: its next writes would be taken for old ones.
func (d *Documents) complete(last uint64) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if last < d.applied {
		return kiln.Errorf(kiln.KindCorrupt, "engine: open documents", "the store lost writes of %q: it ends at revision %d, and %d was seen; "+
			"restore the data directory from a backup", d.bucket, last, d.applied)
	}
	return nil
}

// claim takes a bucket's name for the life of the engine.
func (e *Engine) claim(bucket string) error {
	const op = "engine: open documents"
	if bucket == "" || strings.ContainsFunc(bucket, func(r rune) bool { return r > 127 || r == '/' || !plainKeyByte(byte(r)) }) {
		return kiln.Errorf(kiln.KindInvalid, op, "%q cannot name a bucket", bucket)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, open := e.buckets[bucket]; open {
		return kiln.Errorf(kiln.KindConflict, op, "the bucket %q is open already", bucket)
	}
	if len(e.buckets) >= maxBuckets {
		return kiln.Errorf(kiln.KindLimit, op, "an engine has at most %d buckets", maxBuckets)
	}
	e.buckets[bucket] = nil
	return nil
}

// streamConfig is what the client library would make of a bucket, but for direct reads: those are answered by any replica,
// and were seen to be stale.
func streamConfig(bucket string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              "KV_" + bucket,
		Subjects:          []string{"$KV." + bucket + ".>"},
		Storage:           jetstream.FileStorage,
		Discard:           jetstream.DiscardNew,
		MaxMsgsPerSubject: 1,
		MaxMsgs:           -1,
		MaxBytes:          -1,
		MaxMsgSize:        -1,
		MaxConsumers:      -1,
		Replicas:          1,
		Duplicates:        2 * time.Minute,
		AllowRollup:       true,
		DenyDelete:        true,
		AllowDirect:       false,
	}
}

// Get gives a document from the local copy.
func (d *Documents) Get(key string) (Document, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	doc, ok := d.copies[key]
	return doc, ok
}

// Each walks the documents whose key begins with the prefix, sorted by key. The keys are those of the moment it begins; a
// document deleted meanwhile is left out, a changed one given as it is then. Writing from the loop is allowed.
func (d *Documents) Each(prefix string) iter.Seq2[string, Document] {
	return func(yield func(string, Document) bool) {
		d.mu.RLock()
		from, _ := slices.BinarySearch(d.keys, prefix)
		to := from
		for to < len(d.keys) && strings.HasPrefix(d.keys[to], prefix) {
			to++
		}
		keys := slices.Clone(d.keys[from:to])
		d.mu.RUnlock()
		for _, key := range keys {
			if doc, ok := d.Get(key); ok && !yield(key, doc) {
				return
			}
		}
	}
}

// Create writes a document that must not exist and gives its revision. Kinds: KindConflict (it exists), KindTooLarge,
// KindInvalid (key), KindUnavailable (the disk is nearly full, or: it may have been written or not).
func (d *Documents) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	const op = "engine: create document"
	if err := checkWrite(op, key, value); err != nil {
		return 0, err
	}
	if err := d.engine.room(op); err != nil {
		return 0, err
	}
	return d.write(ctx, op, func(ctx context.Context, l *link) (uint64, error) { return l.kv.Create(ctx, escapeKey(key), value) })
}

// Update writes a document that must be at a revision and gives its new one. Kinds: KindConflict (it is at another revision
// or does not exist; the local copy has caught up with what won), KindTooLarge, KindInvalid (key), KindUnavailable (it may
// have been written or not).
func (d *Documents) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	const op = "engine: update document"
	if err := checkWrite(op, key, value); err != nil {
		return 0, err
	}
	if revision == 0 { // to the store that would mean: must not exist
		return 0, kiln.Errorf(kiln.KindInvalid, op, "no document is at revision 0")
	}
	if err := d.engine.room(op); err != nil {
		return 0, err
	}
	return d.write(ctx, op, func(ctx context.Context, l *link) (uint64, error) {
		return l.kv.Update(ctx, escapeKey(key), value, revision)
	})
}

// Delete removes a document that must be at a revision. Kinds as Update's.
func (d *Documents) Delete(ctx context.Context, key string, revision uint64) error {
	const op = "engine: delete document"
	if err := checkWrite(op, key, nil); err != nil {
		return err
	}
	if revision == 0 { // to the store that would mean: at any revision
		return kiln.Errorf(kiln.KindInvalid, op, "no document is at revision 0")
	}
	_, err := d.write(ctx, op, func(ctx context.Context, l *link) (uint64, error) {
		if err := l.kv.Delete(ctx, escapeKey(key), jetstream.LastRevision(revision)); err != nil {
			return 0, err
		}
		return l.last(ctx)
	})
	return err
}

// write does one write and waits until it is in the local copy. After a lost race it waits until what won is there, so that
// who reads again reads something new.
func (d *Documents) write(caller context.Context, op string, do func(context.Context, *link) (uint64, error)) (uint64, error) {
	ctx, cancel := context.WithTimeout(caller, writeLimit)
	defer cancel()
	l := d.link.Load()
	defer context.AfterFunc(l.backend.life, cancel)() // nobody answers any more
	revision, err := do(ctx, l)
	if lostRace(err) {
		if last, err := l.last(ctx); err == nil {
			_ = d.await(ctx, op, l, last) // when it is late, who reads again only loses once more
		}
		return 0, kiln.Wrap(kiln.KindConflict, op, "someone else changed it first", err)
	}
	if err == nil {
		err = d.await(ctx, op, l, revision)
	}
	if err != nil {
		if caller.Err() == nil {
			d.engine.doubt(l.backend)
		}
		return 0, kiln.Wrap(kiln.KindUnavailable, op, "the store did not take the write; try again in a moment", err)
	}
	return revision, nil
}

// lostRace reports whether a write came second. One replica answers so with the one error, three with the other.
func lostRace(err error) bool {
	return errors.Is(err, jetstream.ErrKeyRevisionMismatch) || errors.Is(err, jetstream.ErrKeyExists)
}

// last gives the revision of the bucket's newest write.
func (l *link) last(ctx context.Context) (uint64, error) {
	info, err := l.stream.Info(ctx)
	if err != nil {
		return 0, err
	}
	return info.State.LastSeq, nil
}

// await blocks until a revision is applied.
func (d *Documents) await(ctx context.Context, op string, l *link, revision uint64) error {
	d.mu.Lock()
	if d.applied >= revision {
		d.mu.Unlock()
		return nil
	}
	done := make(chan struct{})
	d.waiters = append(d.waiters, waiter{revision, done})
	d.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-l.down:
	case <-ctx.Done():
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiters = slices.DeleteFunc(d.waiters, func(w waiter) bool { return w.done == done })
	return kiln.Wrap(kiln.KindUnavailable, op, "the write is not yet seen here", context.Cause(ctx))
}

// apply carries what the store tells into the local copy until the watch ends.
func (d *Documents) apply(life context.Context, l *link, watch jetstream.KeyWatcher, loaded chan<- bool) {
	defer close(l.down)
	defer watch.Stop()
	old, marks := time.Now().Add(-markerAge), false
	for {
		select {
		case <-life.Done():
			return
		case entry, ok := <-watch.Updates():
			switch {
			case !ok:
				if life.Err() == nil {
					d.engine.logger.Error("engine watch ended", "bucket", d.bucket)
					d.engine.doubt(l.backend)
				}
				return
			case entry == nil: // everything there was has been read
				d.sortKeys()
				loaded <- marks
			default:
				deleted := entry.Operation() != jetstream.KeyValuePut
				marks = marks || deleted && entry.Created().Before(old)
				d.applyOne(entry, deleted)
			}
		}
	}
}

// applyOne carries one change into the local copy, tells the hook and lets the writer go.
func (d *Documents) applyOne(entry jetstream.KeyValueEntry, deleted bool) {
	if d.known(entry.Revision()) {
		return
	}
	key, ok := unescapeKey(entry.Key())
	if !ok {
		d.engine.logger.Error("engine key unreadable", "bucket", d.bucket, "key", entry.Key())
	} else {
		change := Change{Key: key, Document: Document{Value: entry.Value(), Revision: entry.Revision()}, Deleted: deleted}
		d.store(change)
		d.hook(change)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.applied = max(d.applied, entry.Revision())
	d.waiters = slices.DeleteFunc(d.waiters, func(w waiter) bool {
		if w.revision > d.applied {
			return false
		}
		close(w.done)
		return true
	})
}

// known reports whether a revision was applied before: a new backend gives everything once more.
func (d *Documents) known(revision uint64) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.loaded && revision <= d.applied
}

func (d *Documents) store(c Change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, known := d.copies[c.Key]
	switch {
	case c.Deleted && known:
		delete(d.copies, c.Key)
		if i, found := slices.BinarySearch(d.keys, c.Key); found && d.loaded {
			d.keys = slices.Delete(d.keys, i, i+1)
		}
	case c.Deleted:
	default:
		d.copies[c.Key] = c.Document
		if !known && d.loaded {
			i, _ := slices.BinarySearch(d.keys, c.Key)
			d.keys = slices.Insert(d.keys, i, c.Key)
		}
	}
}

// sortKeys makes the sorted keys once everything is read: inserting each in its place would cost the square.
func (d *Documents) sortKeys() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.loaded {
		return // a new backend's reading; the keys were kept sorted
	}
	d.keys = make([]string, 0, len(d.copies))
	for key := range d.copies {
		d.keys = append(d.keys, key)
	}
	slices.Sort(d.keys)
	d.loaded = true
}

// sweep removes old marks of deletions from the store. Failing costs only space.
func (d *Documents) sweep(ctx context.Context, kv jetstream.KeyValue) {
	if err := kv.PurgeDeletes(ctx, jetstream.DeleteMarkersOlderThan(markerAge)); err != nil {
		d.engine.logger.Warn("engine sweep failed", "bucket", d.bucket, "error", err)
	}
}

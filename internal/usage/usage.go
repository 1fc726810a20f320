// Package usage is the store of how often each code is asked for (R51), and tells with every request which fleet serves it.
//
// It decides nothing: that is package fleet's, whose core it keeps in shards, each behind a lock of its own, held for one
// step. It is not the ledger, which keeps every request for good. Called by invoke with every request that named a
// function, by operations to list; server runs it.
//
// The counts are kept in the engine's documents, a shard each, at most one written a second. Every request of a shard has
// an instant of its own, which its record keeps too: so after an end of any kind Open takes the documents and counts what
// the ledger has of later requests, each once, in the order they came. All methods may be called at once.
package usage

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"kiln"
	"kiln/internal/engine"
	"kiln/internal/fleet"
)

// Bounds of the store.
const (
	// shardCount is how many documents the counts are kept in. With codesPerShard of the longest names and most arrivals a
	// document has some 500 KB, half of what the engine takes.
	shardCount = 256
	// codesPerShard bounds the codes of a shard: 131,072 in all, so that 100,000 fit however unevenly they fall.
	codesPerShard = 512
	// WriteInterval is the time between two writes to the engine.
	WriteInterval = time.Second
	// countedMax bounds the requests counted from the ledger at a start; of more only the latest are.
	countedMax = 2_000_000
)

// Config is what the store needs.
type Config struct {
	Node     kiln.NodeID
	Settings fleet.Settings
	// Requests gives the requests on record that came at a time or later, in any order. Called by Open alone.
	Requests func(since time.Time, yield func(fleet.Code, time.Time))
	// Function tells whether a code is registered, and what its owner says about its fleet. Called by Open alone.
	Function func(fleet.Code) (pin fleet.Pin, registered bool)
	// Changed is told of code that another fleet serves from now on. It must not block. Nil when nobody wants to know.
	Changed func(fleet.Change)
	// Logger must be set.
	Logger *slog.Logger
}

// Usage is the store. Make it with Open; Run must run for anything to be kept.
type Usage struct {
	cfg    Config
	docs   *engine.Documents
	began  time.Time // by the clock that never goes back
	base   time.Time // what that instant is called; after every instant called before
	shards [shardCount]shard
	down   bool // the last write failed; Run's alone
}

// shard is the codes whose names have one hash.
type shard struct {
	mu      sync.Mutex
	usage   *fleet.Usage // guarded by mu
	last    int64        // guarded by mu: the latest request's instant, µs since 1970
	unsaved int64        // guarded by mu: the first instant that is not in the document; 0 when all are
}

// Open reads the documents and counts what the ledger has of later requests. ctx bounds the opening only.
// Kinds: KindUnavailable, KindInternal.
func Open(ctx context.Context, e *engine.Engine, cfg Config) (*Usage, error) {
	if cfg.Changed == nil {
		cfg.Changed = func(fleet.Change) {}
	}
	docs, err := e.Documents(ctx, "usage", nil)
	if err != nil {
		return nil, err
	}
	u := &Usage{cfg: cfg, docs: docs, began: time.Now()}
	u.base = u.began
	for i := range u.shards {
		u.shards[i].usage = fleet.NewUsage(cfg.Settings, codesPerShard)
	}
	u.restore()
	return u, nil
}

// now is the time, but never before an instant given out by this process or by the one before it.
func (u *Usage) now() time.Time { return u.base.Add(time.Since(u.began)) }

// shardOf gives the number of a code's shard, the same in every process (FNV-1a).
func shardOf(code fleet.Code) int {
	h := uint32(2166136261)
	for _, s := range [...]string{string(code.Account), "/", code.Function} {
		for i := range len(s) {
			h = (h ^ uint32(s[i])) * 16777619
		}
	}
	return int((h ^ h>>16) % shardCount)
}

// Received counts a request and gives its instant, which its record must keep as resolved, and where its code stands.
func (u *Usage) Received(code fleet.Code, pin fleet.Pin) (at time.Time, s fleet.Standing) {
	sh := &u.shards[shardOf(code)]
	sh.mu.Lock()
	micros := max(u.now().UnixMicro(), sh.last+1)
	sh.last = micros
	if sh.unsaved == 0 {
		sh.unsaved = micros
	}
	at = time.UnixMicro(micros)
	s = sh.usage.Arrived(at, code, pin)
	sh.mu.Unlock()
	if s.Changed {
		u.cfg.Changed(fleet.Change{Code: code, Standing: s})
	}
	return at, s
}

// Forget forgets a function that was deleted: of its name, what comes next is new code.
func (u *Usage) Forget(code fleet.Code) {
	sh := &u.shards[shardOf(code)]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.usage.Forget(code)
	if sh.unsaved == 0 {
		sh.last = max(u.now().UnixMicro(), sh.last+1)
		sh.unsaved = sh.last
	}
}

// Of gives where a code stands.
func (u *Usage) Of(code fleet.Code) fleet.Standing {
	sh := &u.shards[shardOf(code)]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.usage.Look(u.now(), code)
}

// Each calls yield with every code asked for within the window, in no order. It holds no lock meanwhile.
func (u *Usage) Each(yield func(fleet.Code, fleet.Standing)) {
	var page []fleet.Change
	for i := range u.shards {
		sh := &u.shards[i]
		page = page[:0]
		sh.mu.Lock()
		sh.usage.Each(u.now(), func(c fleet.Code, s fleet.Standing) { page = append(page, fleet.Change{Code: c, Standing: s}) })
		sh.mu.Unlock()
		for _, c := range page {
			yield(c.Code, c.Standing)
		}
	}
}

// Settings gives the window and the thresholds.
func (u *Usage) Settings() fleet.Settings { return u.cfg.Settings }

// Run tells of codes that are asked for less and keeps the counts, until ctx ends; what is not kept then the ledger has.
func (u *Usage) Run(ctx context.Context) error {
	ticker := time.NewTicker(WriteInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		u.tick()
		u.note(u.write(ctx))
	}
}

// tick tells of codes that have fallen.
func (u *Usage) tick() {
	for i := range u.shards {
		sh := &u.shards[i]
		sh.mu.Lock()
		changes := sh.usage.Tick(u.now())
		sh.mu.Unlock()
		for _, c := range changes {
			u.cfg.Changed(c)
		}
	}
}

// note tells the log once when the engine refuses, and once when it takes again.
func (u *Usage) note(err error) {
	switch {
	case err != nil && !u.down:
		u.cfg.Logger.Error("usage cannot be written", "error", err)
	case err == nil && u.down:
		u.cfg.Logger.Info("usage is written again")
	}
	u.down = err != nil
}

// document is a shard as it is kept.
type document struct {
	// Through: every request of this shard up to this instant, µs since 1970, is in Codes.
	Through int64 `json:"through"`
	// Complete: every request of any shard up to this instant is in its document.
	Complete int64         `json:"complete"`
	Codes    []fleet.Saved `json:"codes"`
}

// write keeps the shard that has waited the longest, if one has anything new.
func (u *Usage) write(ctx context.Context) error {
	oldest, unsaved := -1, int64(0)
	complete := u.now().UnixMicro()
	for i := range u.shards {
		first, through := u.shards[i].pending(u)
		complete = min(complete, through)
		if first != 0 && (oldest < 0 || first < unsaved) {
			oldest, unsaved = i, first
		}
	}
	if oldest < 0 {
		return nil
	}
	sh := &u.shards[oldest]
	doc := document{Complete: complete}
	doc.Codes, doc.Through = sh.save()
	err := u.put(ctx, oldest, &doc)
	if err != nil {
		sh.mu.Lock()
		defer sh.mu.Unlock()
		sh.unsaved = unsaved
	}
	return err
}

// pending gives the first instant that is not kept, 0 when all are, and the last up to which all are.
func (sh *shard) pending(u *Usage) (first, through int64) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.unsaved != 0 {
		return sh.unsaved, sh.unsaved - 1
	}
	return 0, max(u.now().UnixMicro()-1, sh.last)
}

// save gives all of a shard and counts it as kept.
func (sh *shard) save() (codes []fleet.Saved, through int64) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.unsaved = 0
	return sh.usage.Save(), sh.last
}

func (u *Usage) key(shard int) string { return fmt.Sprintf("%s%02x", u.prefix(), shard) }

// prefix begins the keys of this node's documents. With another number of shards they would mean something else.
func (u *Usage) prefix() string { return fmt.Sprintf("%s/%d/", u.cfg.Node, shardCount) }

func (u *Usage) put(ctx context.Context, shard int, doc *document) error {
	const op = "usage: write"
	value, err := json.Marshal(doc)
	if err != nil {
		return kiln.Wrap(kiln.KindInternal, op, "The counts do not encode.", err)
	}
	key := u.key(shard)
	if old, ok := u.docs.Get(key); ok {
		_, err = u.docs.Update(ctx, key, value, old.Revision)
	} else {
		_, err = u.docs.Create(ctx, key, value)
	}
	return err
}

// request is one that is on record.
type request struct {
	code fleet.Code
	at   time.Time
}

// restore takes the documents and what the ledger has of later requests.
func (u *Usage) restore() {
	window := u.base.Add(-u.cfg.Settings.Window)
	since, whole := window, true
	pins := map[fleet.Code]fleet.Pin{}
	for i := range u.shards {
		value, ok := u.docs.Get(u.key(i))
		if !ok {
			continue
		}
		var doc document
		if err := json.Unmarshal(value.Value, &doc); err != nil {
			u.cfg.Logger.Error("usage unreadable, the ledger's records are counted instead", "key", u.key(i), "error", err)
			whole = false
			continue
		}
		sh := &u.shards[i]
		sh.last = doc.Through
		if complete := time.UnixMicro(doc.Complete); complete.After(since) {
			since = complete
		}
		for _, s := range doc.Codes {
			if pin, ok := u.cfg.Function(s.Code); ok {
				pins[s.Code] = pin
				sh.usage.Restore(s, pin)
			}
		}
	}
	if !whole {
		since = window
	}
	u.count(u.later(since, window), pins)
	latest := int64(0)
	for i := range u.shards {
		latest = max(latest, u.shards[i].last)
	}
	if floor := time.UnixMicro(latest + 1); u.base.Before(floor) {
		u.cfg.Logger.Warn("the clock was set back; usage goes on counting from where it was", "by", floor.Sub(u.base))
		u.base = floor
	}
}

// later gives the requests on record that no document has, in the order they came.
func (u *Usage) later(since, window time.Time) []request {
	var list []request
	u.cfg.Requests(since, func(code fleet.Code, at time.Time) {
		if code.Function == "" || !at.After(window) || at.UnixMicro() <= u.shards[shardOf(code)].last {
			return
		}
		list = append(list, request{code, at})
		if len(list) >= 2*countedMax {
			list = latest(list)
		}
	})
	return latest(list)
}

// latest gives the latest requests of a list, at most countedMax, in order.
func latest(list []request) []request {
	slices.SortStableFunc(list, func(a, b request) int {
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.code.Account, b.code.Account), cmp.Compare(a.code.Function, b.code.Function))
	})
	return slices.Clone(list[max(len(list)-countedMax, 0):])
}

// count counts requests that are on record.
func (u *Usage) count(list []request, pins map[fleet.Code]fleet.Pin) {
	for _, r := range list {
		pin, known := pins[r.code]
		if !known {
			var registered bool
			if pin, registered = u.cfg.Function(r.code); !registered {
				continue
			}
			pins[r.code] = pin
		}
		sh := &u.shards[shardOf(r.code)]
		sh.usage.Arrived(r.at, r.code, pin)
		sh.last = max(sh.last, r.at.UnixMicro())
		if sh.unsaved == 0 {
			sh.unsaved = sh.last
		}
	}
}

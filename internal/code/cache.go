package code

import (
	"bytes"
	"cmp"
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"kiln"
)

const (
	// DefaultCacheBytes bounds all unpacked packages of a node that nobody holds, together with those that are held, in
	// bytes on disk. What is held is kept even beyond it.
	DefaultCacheBytes = 10 << 30
	// DefaultReserveBytes is the free disk that packages beyond the bound leave alone.
	DefaultReserveBytes = 512 << 20
	// FetchLimit bounds one fetch with its unpacking.
	FetchLimit = 5 * time.Minute
	// MaxFetches bounds the packages fetched and unpacked at the same time; others wait their turn.
	MaxFetches = 8
	// inMemoryBytes is how large a zip may be to be unpacked without a file of its own, in bytes.
	inMemoryBytes = 1 << 20
	// completeSuffix ends the name of the file that says that the folder of the same digest is whole.
	completeSuffix = ".complete"
)

// Fetch gets a package's bytes. The cache checks them by digest.
type Fetch func(ctx context.Context, digest kiln.Digest) (io.ReadCloser, error)

// CacheConfig says how a cache behaves.
type CacheConfig struct {
	// MaxBytes bounds all unpacked packages, in bytes on disk: those nobody holds make room, those that are held may take
	// more. DefaultCacheBytes when zero.
	MaxBytes int64
	// ReserveBytes is the free disk that packages beyond MaxBytes leave alone; DefaultReserveBytes when zero. A package
	// that would take of it is refused.
	ReserveBytes int64
	// Free tells how much of the disk under a folder is free, in bytes; nil asks the file system.
	Free func(dir string) (int64, error)
	// Limits bound one package.
	Limits Limits
	// Seal takes the write bits of everything unpacked away: for a node whose driver runs code as the node's own user
	// and without a mount of its own (driver process).
	Seal bool
	// Logger is told about entries that cannot be reused. Must be set.
	Logger *slog.Logger
}

// Cache holds packages unpacked, one folder a digest, each fetched and unpacked once however many ask for it.
//
// Nothing of it is synced: it can be fetched again. An entry survives a restart of the process when its completion file
// is there and was written since the machine booted; after a power failure the files may not be what they were, so
// another boot's entries are thrown away.
type Cache struct {
	dir    string
	fetch  Fetch
	config CacheConfig
	bootID string

	ctx   context.Context // ends with Close
	stop  context.CancelCauseFunc
	wg    sync.WaitGroup
	turns chan struct{} // one token for each fetch under way

	mu    sync.Mutex
	slots map[kiln.Digest]*slot // guarded by mu
	idle  *list.List            // of *slot, ready and held by nobody, most recently used first; guarded by mu
	used  int64                 // bytes of all slots but leaving ones; guarded by mu
	// filling is how many of them are still being written, so that the disk does not show them yet; guarded by mu
	filling int64
}

type slotState uint8

const (
	slotFilling slotState = iota + 1
	slotReady
	slotLeaving
)

// slot is one digest's place. Everything but done is guarded by Cache.mu.
type slot struct {
	digest kiln.Digest
	state  slotState
	// done is closed when filling or leaving has ended.
	done    chan struct{}
	err     error         // of a filling that failed
	bytes   int64         // counted in Cache.used
	holders int           // and waiters
	fetched bool          // nobody has been told yet that a fetch happened
	place   *list.Element // in Cache.idle
}

// Entry is an unpacked package that is held. It stays where it is until Release is called.
type Entry struct {
	// Dir is the folder with the files. Nobody writes to it.
	Dir string
	// Bytes is what it takes on disk.
	Bytes int64
	// Fetched is true for exactly one Acquire after each fetch.
	Fetched bool
	// Release lets go. It may be called again without harm.
	Release func()
}

// OpenCache opens the cache in dir, makes it if it is missing, and removes what is not whole.
// Kinds: KindUnavailable (disk full), KindInternal.
func OpenCache(dir string, fetch Fetch, config CacheConfig) (*Cache, error) {
	const op = "code: open cache"
	config.MaxBytes = cmp.Or(config.MaxBytes, DefaultCacheBytes)
	config.ReserveBytes = cmp.Or(config.ReserveBytes, DefaultReserveBytes)
	if config.Free == nil {
		config.Free = freeDisk
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, diskError(op, err)
	}
	c := &Cache{dir: dir, fetch: fetch, config: config, bootID: bootID(), turns: make(chan struct{}, MaxFetches),
		slots: make(map[kiln.Digest]*slot), idle: list.New()}
	if err := c.recover(); err != nil {
		return nil, diskError(op, err)
	}
	c.ctx, c.stop = context.WithCancelCause(context.Background())
	c.mu.Lock()
	leaving := c.shrink() // the bound may have become smaller
	c.mu.Unlock()
	c.leave(leaving)
	return c, nil
}

// Close ends the fetches under way and waits for them. Entries stay on disk.
func (c *Cache) Close() error {
	c.mu.Lock() // so that no fetch begins once the wait has
	c.stop(kiln.Errorf(kiln.KindUnavailable, "code: close cache", "The node is ending."))
	c.mu.Unlock()
	c.wg.Wait()
	return nil
}

// Over gives by how many bytes what is held is beyond the bound; 0 when it is not.
func (c *Cache) Over() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(0, c.used-c.config.MaxBytes)
}

// Acquire gives the unpacked package and holds it. The first to ask makes it be fetched and unpacked; all who ask
// meanwhile wait for the same work, and one who gives up does not end it for the others. Blocks until then or until ctx
// ends. May be repeated. Kinds: KindNotFound, KindInvalid (not a package), KindCorrupt (not the digest's bytes; nothing
// is kept), KindUnavailable (the cache is full of held entries and the disk nearly so, or ctx ended), KindInternal.
func (c *Cache) Acquire(ctx context.Context, digest kiln.Digest) (Entry, error) {
	const op = "code: acquire package"
	if _, ok := parseDigest(digest); !ok {
		return Entry{}, kiln.Errorf(kiln.KindNotFound, op, "There is no package %q.", digest)
	}
	for {
		if err := context.Cause(c.ctx); err != nil {
			return Entry{}, err
		}
		s, wait := c.hold(digest)
		if wait != nil {
			select {
			case <-wait:
			case <-ctx.Done():
				if s != nil {
					c.release(s)
				}
				return Entry{}, kiln.Wrap(kiln.KindUnavailable, op, "The wait for the package was cut short.", context.Cause(ctx))
			}
		}
		if s != nil {
			return c.entry(s)
		}
	}
}

// hold adds a holder to the digest's slot, beginning its fetch when there is none, and gives what to wait for before it
// can be used. A slot that is leaving cannot be held: then there is only something to wait for; after Close there is neither.
func (c *Cache) hold(digest kiln.Digest) (*slot, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.slots[digest]
	if s == nil {
		if c.ctx.Err() != nil {
			return nil, nil
		}
		s = &slot{digest: digest, state: slotFilling, done: make(chan struct{})}
		c.slots[digest] = s
		c.wg.Go(func() { c.fill(s) })
	}
	switch s.state {
	case slotLeaving:
		return nil, s.done
	case slotFilling:
		s.holders++
		return s, s.done
	}
	s.holders++
	if s.place != nil {
		c.idle.Remove(s.place)
		s.place = nil
	}
	return s, nil
}

// entry makes the handle of a slot that is held and no longer filling.
func (c *Cache) entry(s *slot) (Entry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.err != nil {
		s.holders--
		return Entry{}, s.err
	}
	e := Entry{Dir: c.path(s.digest), Bytes: s.bytes, Fetched: s.fetched,
		Release: sync.OnceFunc(func() { c.release(s) })}
	s.fetched = false
	return e, nil
}

// release lets a slot go. Beyond the bound what nobody holds any more leaves at once.
func (c *Cache) release(s *slot) {
	c.mu.Lock()
	if s.holders--; s.holders == 0 && s.state == slotReady {
		s.place = c.idle.PushFront(s)
	}
	leaving := c.shrink()
	c.mu.Unlock()
	c.leave(leaving)
}

// fill does the work of one slot and tells those who wait.
func (c *Cache) fill(s *slot) {
	ctx, cancel := context.WithTimeout(c.ctx, FetchLimit)
	defer cancel()
	size, err := c.unpackOne(ctx, s)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.filling -= s.bytes
	if err != nil {
		c.used -= s.bytes
		s.bytes, s.err = 0, err
		delete(c.slots, s.digest)
	} else {
		s.bytes, s.state, s.fetched = size, slotReady, true
		if s.holders == 0 {
			s.place = c.idle.PushFront(s)
		}
	}
	close(s.done)
}

// unpackOne fetches a package, checks it and unpacks it into its place. On an error nothing is left.
func (c *Cache) unpackOne(ctx context.Context, s *slot) (size int64, err error) {
	const op = "code: fetch package"
	select {
	case c.turns <- struct{}{}:
		defer func() { <-c.turns }()
	case <-ctx.Done():
		return 0, kiln.Wrap(kiln.KindUnavailable, op, "The fetch was cut short.", context.Cause(ctx))
	}
	work, err := os.MkdirTemp(c.dir, temporary)
	if err != nil {
		return 0, diskError(op, err)
	}
	defer removeTree(work)
	zip, zipSize, done, err := c.download(ctx, s.digest, work)
	if err != nil {
		return 0, diskError(op, err)
	}
	defer done()
	p, err := newPlan(zip, zipSize, c.config.Limits)
	if err != nil {
		return 0, err
	}
	if err := c.reserve(s, p.diskBytes); err != nil {
		return 0, err
	}
	task := filepath.Join(work, "task")
	if err := c.unpackInto(ctx, p, task); err != nil {
		return 0, diskError(op, err)
	}
	if err := c.complete(s.digest, task, p.diskBytes); err != nil {
		return 0, diskError(op, err)
	}
	return p.diskBytes, nil
}

func (c *Cache) unpackInto(ctx context.Context, p *plan, dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return p.unpack(ctx, root, c.config.Seal)
}

// download gets a zip whose digest is right: in memory when it is small, else in a file in work. done closes it.
func (c *Cache) download(ctx context.Context, digest kiln.Digest, work string) (zip io.ReaderAt, size int64, done func(), err error) {
	body, err := c.fetch(ctx, digest)
	if err != nil {
		return nil, 0, nil, readError("code: fetch package", err)
	}
	defer body.Close()
	r := &checkedReader{ctx: ctx, r: body, digest: digest, sum: sha256.New()}
	head, err := io.ReadAll(io.LimitReader(r, inMemoryBytes))
	if err != nil {
		return nil, 0, nil, err
	}
	if len(head) < inMemoryBytes { // and so the end was reached, and the digest compared
		return bytes.NewReader(head), int64(len(head)), func() {}, nil
	}
	f, err := os.OpenFile(filepath.Join(work, "zip"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, 0, nil, err
	}
	limit := int64(kiln.MaxPackageUnpackedBytes) // no zip of use is larger than what it may unpack to
	size, err = io.Copy(f, io.LimitReader(io.MultiReader(bytes.NewReader(head), r), limit+1))
	if err == nil && size > limit {
		err = kiln.Errorf(kiln.KindTooLarge, "code: fetch package", "The package is larger than %d bytes.", limit)
	}
	if err != nil {
		f.Close()
		return nil, 0, nil, err
	}
	return f, size, func() { f.Close() }, nil
}

// reserve counts n bytes for the slot, which is being filled, and removes idle entries to make room. Beyond the bound,
// where all that is left is held, the disk decides.
func (c *Cache) reserve(s *slot, n int64) error {
	const op = "code: make room"
	c.mu.Lock()
	c.used += n
	leaving := c.shrink()
	over := c.used > c.config.MaxBytes
	s.bytes = n
	c.filling += n
	filling := c.filling
	c.mu.Unlock()
	c.leave(leaving)
	if !over {
		return nil
	}
	free, err := c.config.Free(c.dir)
	if err != nil {
		return kiln.Wrap(kiln.KindInternal, op, "The disk under the code cache does not say what is free.", err)
	}
	if free-filling < c.config.ReserveBytes {
		return kiln.Errorf(kiln.KindUnavailable, op, "The node's code cache is full of packages in use, and its disk has no room for more.")
	}
	return nil
}

// shrink takes the least recently used idle entries out until the bound holds or none is left, and gives them to leave.
// Called with mu held.
func (c *Cache) shrink() (leaving []*slot) {
	for c.used > c.config.MaxBytes && c.idle.Len() > 0 {
		s := c.idle.Remove(c.idle.Back()).(*slot)
		s.place, s.state, s.done = nil, slotLeaving, make(chan struct{})
		c.used -= s.bytes
		leaving = append(leaving, s)
	}
	return leaving
}

// leave removes entries that shrink took out.
func (c *Cache) leave(leaving []*slot) {
	for _, s := range leaving {
		c.discard(s.digest)
		c.mu.Lock()
		delete(c.slots, s.digest)
		close(s.done)
		c.mu.Unlock()
	}
}

// completion is what a completion file holds.
type completion struct {
	BootID string `json:"bootId"`
	Bytes  int64  `json:"bytes"`
}

// complete puts a finished folder into its place and then says that it is whole.
func (c *Cache) complete(digest kiln.Digest, from string, size int64) error {
	if err := os.Chmod(from, modeDir); err != nil { // a sealed folder cannot be renamed by its owner
		return err
	}
	if err := os.Rename(from, c.path(digest)); err != nil {
		return err
	}
	if err := os.Chmod(c.path(digest), sealed(modeDir, c.config.Seal)); err != nil {
		c.discard(digest)
		return err
	}
	mark, err := json.Marshal(completion{BootID: c.bootID, Bytes: size})
	if err == nil {
		err = os.WriteFile(c.path(digest)+completeSuffix, mark, 0o600)
	}
	if err != nil {
		c.discard(digest)
	}
	return err
}

// discard removes an entry: first the word that it is whole, then, out of its place, the folder.
func (c *Cache) discard(digest kiln.Digest) {
	gone := filepath.Join(c.dir, temporary+"gone-"+string(digest))
	err := os.Remove(c.path(digest) + completeSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	os.Chmod(c.path(digest), modeDir)
	err = errors.Join(err, os.Rename(c.path(digest), gone), removeTree(gone))
	if err != nil {
		c.config.Logger.Warn("cached package not removed", "digest", digest, "err", err)
	}
}

// recover finds the entries an earlier process left whole and removes everything else.
func (c *Cache) recover() error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	whole := make(map[string]bool)
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), completeSuffix)
		if !ok {
			continue
		}
		if size, ok := c.readCompletion(name); ok {
			whole[name], whole[e.Name()] = true, true
			s := &slot{digest: kiln.Digest(name), state: slotReady, bytes: size}
			s.place = c.idle.PushBack(s)
			c.slots[s.digest] = s
			c.used += size
		}
	}
	for _, e := range entries {
		if whole[e.Name()] {
			continue
		}
		c.config.Logger.Info("unfinished cache entry removed", "name", e.Name())
		if err := removeTree(filepath.Join(c.dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cache) readCompletion(name string) (size int64, ok bool) {
	if _, ok := parseDigest(kiln.Digest(name)); !ok {
		return 0, false
	}
	b, err := os.ReadFile(filepath.Join(c.dir, name+completeSuffix))
	if err != nil {
		return 0, false
	}
	var mark completion
	if err := json.Unmarshal(b, &mark); err != nil || mark.BootID == "" || mark.BootID != c.bootID || mark.Bytes < 0 {
		return 0, false
	}
	info, err := os.Lstat(filepath.Join(c.dir, name))
	return mark.Bytes, err == nil && info.IsDir()
}

func (c *Cache) path(digest kiln.Digest) string { return filepath.Join(c.dir, string(digest)) }

// freeDisk is what the file system of a folder has free for us, in bytes.
func freeDisk(dir string) (int64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, err
	}
	return int64(fs.Bavail) * int64(fs.Bsize), nil
}

// bootID names the machine's present boot. Empty where there is no way to know: then nothing survives a restart.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// Package registry keeps functions, their versions and their aliases, with their policies, reservations and URLs, and the
// capacity providers they may run on, and answers at once which version a name means.
//
// It is not for packages' bytes (package code), for who calls (package identity), for counting executions (invoke), or for AWS's shapes on the wire (the
// frontend translates). It is called by the frontend and the operations API to change functions, by invoke to resolve them.
//
// A function is one head document in the engine, changed by compare-and-swap, so that every change is atomic; a published
// version is a document of its own, written before the head that lists it and never changed. A version no head lists was
// left by a change that did not finish: it is removed at Open.
//
// A Registry is safe for use by many goroutines. What it hands out is shared and must not be written to. Reading takes a
// short lock and does no I/O; Resolve does not allocate. The decoded copies are replaced by the engine's hook alone. One
// lock, mu; nothing is called with it held.
package registry

import (
	"context"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"kiln"
	"kiln/internal/admission"
	"kiln/internal/engine"
	"kiln/internal/fleet"
)

// Bounds of what one account and one function may keep. AWS's where it states one.
const (
	// MaxCodeBytes bounds the packages of an account, each version counted (75 GB as AWS counts it).
	MaxCodeBytes = 75 << 30
	// MaxVersions bounds the published versions of a function, since its head lists them and is one document.
	MaxVersions = 1000
	// MaxAliases bounds the aliases of a function, for the same reason.
	MaxAliases = 500
	// MaxTags bounds the tags of a function.
	MaxTags = 50
	// TagConcurrency is the tag that declares how many executions at once one container of the function runs.
	TagConcurrency = "kiln:concurrency"
	// MaxEnvironmentBytes bounds a function's variables, written as JSON, in bytes.
	MaxEnvironmentBytes = 4 << 10
	// MaxPage bounds the items of one page of a list.
	MaxPage = 50
	// changeTries bounds the tries of one compare-and-swap; with each lost one somebody else's change was made.
	changeTries = 64
)

// Config tells the registry what it needs from others.
type Config struct {
	// Region is what ARNs in messages carry; kiln.DefaultRegion when empty.
	Region string
	// Verify checks that a package is there and whole. It blocks and may be repeated. KindUnavailable and KindInternal are
	// tried again; any other error fails the function with the error's message. Required by Run.
	Verify func(context.Context, kiln.Digest) error
	// Changed, when not nil, is called for each version that nothing means any more, in the order of the changes, from one
	// goroutine. It must not block.
	Changed func(Gone)
	// ConcurrencyLimit is how many executions an account may have at once; admission.DefaultAccountLimit when 0.
	ConcurrencyLimit int
	// ProvidersMax is how many capacity providers there may be, of all accounts.
	ProvidersMax int
	// Reserved, when not nil, is called for each function whose terms change or that is deleted, in the order of the changes,
	// from one goroutine. It must not block.
	Reserved func(Reservation)
	// Promised, when not nil, is called when what Promising walks may have changed, from one goroutine. It must not block.
	Promised func()
	// Chance gives numbers in [0,1) to choose by an alias's weights; the runtime's own generator when nil.
	Chance func() float64
	// Now is the clock that stamps changes; time.Now when nil.
	Now func() time.Time
	// Logger is required.
	Logger *slog.Logger
}

// Gone tells of a version that can be asked for no more: deleted, or replaced as $LATEST.
type Gone struct {
	Version *kiln.Version
	// Unreferenced is true when no version of any function holds its package now.
	Unreferenced bool
}

// Registry holds all functions of all accounts.
type Registry struct {
	cfg  Config
	docs *engine.Documents

	mu         sync.RWMutex
	accounts   map[kiln.AccountID]*account // guarded by mu
	published  map[string]*kiln.Version    // guarded by mu: the version documents, by their key
	references map[kiln.Digest]int         // guarded by mu: how many versions hold a package
	unsettled  map[id]struct{}             // guarded by mu: functions that wait for Run
	urls       map[string]urlPlace         // guarded by mu: by the URL's id
	promising  map[id]struct{}             // guarded by mu: functions with provisioned concurrency, or on a capacity provider
	providers  map[id]*Provider            // guarded by mu
	wake       chan struct{}               // a token for each worker that may have something to do
	reserving  chan struct{}               // holds a token while something is changed that alone holds others off
}

// id names a function.
type id struct {
	account kiln.AccountID
	name    string
}

// account is what one account owns.
type account struct {
	functions map[string]*entry
	names     []string // of functions, when sorted is true
	sorted    bool     // made when a list is asked for: many may be created before
	codeBytes int64
	reserved  int // what is kept of its limit for its functions
}

// entry is one function, decoded. It is never changed, only replaced.
type entry struct {
	head     *Function
	versions map[string]target // by number
	pin      fleet.Pin
}

// target is a version that can be asked for.
type target struct {
	version *kiln.Version
	state   State
}

// Open reads all functions and removes versions that a change left behind. ctx bounds the opening only.
// Kinds: KindUnavailable, KindInternal.
func Open(ctx context.Context, e *engine.Engine, cfg Config) (*Registry, error) {
	if cfg.Region == "" {
		cfg.Region = kiln.DefaultRegion
	}
	if cfg.ConcurrencyLimit == 0 {
		cfg.ConcurrencyLimit = admission.DefaultAccountLimit
	}
	if cfg.Chance == nil {
		cfg.Chance = rand.Float64
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	r := &Registry{
		cfg:        cfg,
		accounts:   map[kiln.AccountID]*account{},
		published:  map[string]*kiln.Version{},
		references: map[kiln.Digest]int{},
		unsettled:  map[id]struct{}{},
		urls:       map[string]urlPlace{},
		promising:  map[id]struct{}{},
		providers:  map[id]*Provider{},
		wake:       make(chan struct{}, settlers),
		reserving:  make(chan struct{}, 1),
	}
	docs, err := e.Documents(ctx, "functions", r.apply)
	if err != nil {
		return nil, err
	}
	r.docs = docs
	return r, r.removeOrphans(ctx)
}

// Resolved is the version a request means.
type Resolved struct {
	Version *kiln.Version
	// Alias is the alias it was asked by, empty when by number, as $LATEST or without qualifier.
	Alias string
	// Pin is what the function's owner says about its fleet.
	Pin fleet.Pin
}

// Resolve gives the version that a name and a qualifier (empty, $LATEST, a number or an alias) mean in an account. It reads
// the local copy alone. Kinds: KindNotFound, KindConflict (it cannot run yet, or never will); messages are AWS's.
func (r *Registry) Resolve(owner kiln.AccountID, name, qualifier string) (Resolved, error) {
	e := r.entry(owner, name)
	if e == nil {
		return Resolved{}, r.notFound("registry: resolve", owner, name, qualifier)
	}
	t, alias, ok := e.target(qualifier, r.cfg.Chance)
	if !ok {
		return Resolved{}, r.unresolved(e, qualifier)
	}
	if t.state != StateActive {
		return Resolved{}, inState("registry: resolve", t.state)
	}
	return Resolved{Version: t.version, Alias: alias, Pin: e.pin}, nil
}

// entry gives a function's decoded copy, nil when there is none.
func (r *Registry) entry(owner kiln.AccountID, name string) *entry {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if a := r.accounts[owner]; a != nil {
		return a.functions[name]
	}
	return nil
}

// target finds what a qualifier means, by chance where an alias has weights.
func (e *entry) target(qualifier string, chance func() float64) (t target, alias string, ok bool) {
	if qualifier == "" && e.head.Latest.Provider != "" {
		qualifier = kiln.LatestPublished
	}
	if qualifier == "" || qualifier == kiln.Latest {
		return target{e.head.Latest, e.head.latestState()}, "", true
	}
	if t, ok := e.versions[qualifier]; ok {
		return t, "", true
	}
	a, ok := e.head.Aliases[qualifier]
	if !ok {
		return target{}, "", false
	}
	number := a.Version
	if len(a.Weights) > 0 {
		number = a.choose(chance())
	}
	if number == kiln.Latest {
		return target{e.head.Latest, e.head.latestState()}, a.Name, true
	}
	t, ok = e.versions[number]
	return t, a.Name, ok
}

// References reports whether any version of any function holds the package, one not yet verified included. A package just
// stored is referenced only once its function is created: who collects garbage must spare young ones.
func (r *Registry) References(digest kiln.Digest) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.references[digest] > 0
}

// Usage is what an account has stored.
type Usage struct {
	Functions int
	CodeBytes int64 // each version counted
}

// Usage gives what an account has stored.
func (r *Registry) Usage(owner kiln.AccountID) Usage {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if a := r.accounts[owner]; a != nil {
		return Usage{Functions: len(a.functions), CodeBytes: a.codeBytes}
	}
	return Usage{}
}

// Keys of documents: "head/ACCOUNT/NAME" and "version/ACCOUNT/NAME/REVISION". A version's number may be taken by someone
// else while it is being published, its revision never.
const (
	headPrefix    = "head/"
	versionPrefix = "version/"
)

func headKey(owner kiln.AccountID, name string) string {
	return headPrefix + string(owner) + "/" + name
}

func versionKey(owner kiln.AccountID, name, revision string) string {
	return versionPrefix + string(owner) + "/" + name + "/" + revision
}

// apply is the engine's hook: it decodes a change once, for all readers.
func (r *Registry) apply(c engine.Change) {
	if rest, ok := strings.CutPrefix(c.Key, headPrefix); ok {
		owner, name, _ := strings.Cut(rest, "/")
		r.applyHead(id{kiln.AccountID(owner), name}, c)
		return
	}
	if rest, ok := strings.CutPrefix(c.Key, providerPrefix); ok {
		owner, name, _ := strings.Cut(rest, "/")
		r.applyProvider(id{kiln.AccountID(owner), name}, c)
		return
	}
	v := new(kiln.Version)
	if !c.Deleted {
		if err := json.Unmarshal(c.Document.Value, v); err != nil {
			r.cfg.Logger.Error("registry document unreadable", "key", c.Key, "error", err)
			return
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.Deleted {
		delete(r.published, c.Key)
		return
	}
	r.published[c.Key] = v
}

// applyHead replaces a function's decoded copy and tells of the versions that are gone with the old one.
func (r *Registry) applyHead(f id, c engine.Change) {
	var head *Function
	if !c.Deleted {
		head = new(Function)
		if err := json.Unmarshal(c.Document.Value, head); err != nil {
			r.cfg.Logger.Error("registry document unreadable", "key", c.Key, "error", err)
			return
		}
	}
	told := r.replace(f, head)
	if told.reserved && r.cfg.Reserved != nil {
		r.cfg.Reserved(told.reservation)
	}
	for _, g := range told.gone {
		if r.cfg.Changed != nil {
			r.cfg.Changed(g)
		}
	}
	if told.promised && r.cfg.Promised != nil {
		r.cfg.Promised()
	}
}

// replaced is what others are to be told of a function's new copy.
type replaced struct {
	gone        []Gone
	reservation Reservation
	reserved    bool // the terms have changed
	promised    bool // the promises may have
}

// replace puts a function's new copy, nil for none, in place of the old one.
func (r *Registry) replace(f id, head *Function) (told replaced) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.accounts[f.account]
	if a == nil {
		a = &account{functions: map[string]*entry{}}
		r.accounts[f.account] = a
	}
	old := a.functions[f.name]
	var e *entry
	if head == nil {
		delete(a.functions, f.name)
		delete(r.unsettled, f)
		a.sorted = false
	} else {
		e = r.decode(head)
		a.functions[f.name] = e
		a.sorted = a.sorted && old != nil
		if head.unsettled() {
			r.unsettled[f] = struct{}{}
			r.wakeOne()
		}
	}
	r.noteURLs(f, old, e)
	told.reservation, told.reserved = a.noteReserved(f, old, e)
	told.promised = r.notePromises(f, e)
	told.gone = r.account(a, old, e)
	return told
}

// decode joins a head and the documents of its versions. mu is held.
func (r *Registry) decode(head *Function) *entry {
	e := &entry{head: head, versions: make(map[string]target, len(head.Versions)), pin: head.pin()}
	for i := range head.Versions {
		p := &head.Versions[i]
		v := r.published[versionKey(head.Account, head.Name, p.Revision)]
		if v == nil { // written before the head, so this is a damaged store
			r.cfg.Logger.Error("registry version missing", "function", head.Name, "version", p.Number)
			continue
		}
		e.versions[v.Number] = target{v, head.stateOf(v.Number, p.State)}
	}
	if p := head.LatestPublished; p != nil {
		e.versions[kiln.LatestPublished] = target{p.Version, head.stateOf(kiln.LatestPublished, p.State)}
	}
	return e
}

// stateOf gives the state of a published version that is in a state but for its scaling.
func (f *Function) stateOf(number string, s State) State {
	if s == StateActive && f.deactivated(number) {
		return StateDeactivated
	}
	return s
}

// unresolved is the refusal of a qualifier that means no version.
func (r *Registry) unresolved(e *entry, qualifier string) error {
	const op = "registry: resolve"
	if qualifier == "" {
		err := kiln.Errorf(kiln.KindInvalid, op, "The function %s is on a capacity provider and has no published version to invoke. Publish one to $LATEST.PUBLISHED, or name a version.",
			kiln.FunctionARN(r.cfg.Region, e.head.Account, e.head.Name, ""))
		err.Reason = "NoPublishedVersionException"
		return err
	}
	return r.notFound(op, e.head.Account, e.head.Name, qualifier)
}

// account keeps the counts of bytes and references up to date and gives what is gone. mu is held.
func (r *Registry) account(a *account, old, now *entry) []Gone {
	kept := map[kiln.VersionID]bool{}
	for v := range now.all() {
		kept[v.ID()] = true
		a.codeBytes += v.PackageBytes
		r.references[v.Package]++
	}
	var gone []Gone
	for v := range old.all() {
		a.codeBytes -= v.PackageBytes
		if r.references[v.Package]--; r.references[v.Package] == 0 {
			delete(r.references, v.Package)
		}
		if !kept[v.ID()] {
			gone = append(gone, Gone{Version: v})
		}
	}
	for i := range gone {
		gone[i].Unreferenced = r.references[gone[i].Version.Package] == 0
	}
	return gone
}

// all walks the versions a function holds. Of no function, none.
func (e *entry) all() func(yield func(*kiln.Version) bool) {
	return func(yield func(*kiln.Version) bool) {
		if e == nil || !yield(e.head.Latest) || e.head.Next != nil && !yield(e.head.Next) {
			return
		}
		for _, t := range e.versions {
			if !yield(t.version) {
				return
			}
		}
	}
}

// removeOrphans deletes versions that no head lists.
func (r *Registry) removeOrphans(ctx context.Context) error {
	for key, doc := range r.docs.Each(versionPrefix) {
		owner, rest, _ := strings.Cut(strings.TrimPrefix(key, versionPrefix), "/")
		name, revision, _ := strings.Cut(rest, "/")
		if e := r.entry(kiln.AccountID(owner), name); e != nil && e.head.lists(revision) {
			continue
		}
		if err := r.docs.Delete(ctx, key, doc.Revision); err != nil {
			return err
		}
		r.cfg.Logger.Info("registry orphan removed", "key", key)
	}
	return nil
}

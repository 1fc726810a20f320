package pool

import (
	"maps"

	"kiln"
	"kiln/internal/manager"
)

// Provisioned is how a version's promise of containers is kept now.
type Provisioned struct {
	Version kiln.VersionID `json:"version"`
	Fleet   string         `json:"fleet"`
	// Requested is the containers promised, Allocated those there are for it or on their way, Available those that are
	// initialised, whether they execute or not, and Idle those of them that do not.
	Requested int `json:"requested"`
	Allocated int `json:"allocated"`
	Available int `json:"available"`
	Idle      int `json:"idle"`
	MemoryMiB int `json:"memoryMiB"` // of each
	// Served counts the requests they served, Spilled those of the version that found none of them idle.
	Served  uint64 `json:"served"`
	Spilled uint64 `json:"spilled"`
	// Failure says why containers are missing; empty while they can be made.
	Failure string `json:"failure,omitempty"`
}

// promised finds the fleet that keeps a version's promise: its requests go there, whatever Route says.
type promised struct {
	account          kiln.AccountID
	function, number string
}

func promisedBy(v *kiln.Version) promised { return promised{v.Account, v.Function, v.Number} }

// Provision promises so many containers of a version, of the fleet that Route names for it and the operator's fleet named,
// unless another keeps a promise of it already. They are at the version's own amount, initialised before any request asks for them and
// kept until the promise is changed; 0 takes it back. They are made meanwhile; Provisioned tells how far that is. Does not
// block. Kinds: KindInvalid, KindNotFound (no such runtime), KindUnavailable (no fleet).
func (p *Pool) Provision(v *kiln.Version, fleet string, count int) error {
	runtime, _, err := p.config.Runtimes(v.Runtime)
	if err != nil {
		return err
	}
	if count < 0 {
		return kiln.Errorf(kiln.KindInvalid, "pool: provision", "%d containers cannot be provisioned; name 0 or more.", count)
	}
	need := Need{Version: v, MemoryMiB: v.MemoryMiB, Fresh: v.StartsFresh(), Fleet: fleet}
	p.mu.Lock()
	defer p.mu.Unlock()
	f, err := p.route(need)
	if err != nil {
		return err
	}
	f.step(manager.Event{Kind: manager.Promised, Count: count, Request: &manager.Request{
		Version: v, MemoryMiB: need.MemoryMiB, Driver: f.driver, Runtime: runtime.Name, Fresh: need.Fresh,
	}})
	if count > 0 && !f.promises(v.ID()) {
		return kiln.Errorf(kiln.KindInvalid, "pool: provision",
			"%d MiB of memory are more than any configured shape of an instance has.", v.MemoryMiB)
	}
	p.pin(promisedBy(v), f, count > 0)
	return nil
}

// promises says whether a fleet has a promise of a version.
func (f *fleet) promises(id kiln.VersionID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.manager.Promise(id)
	return ok
}

// pin has a version's requests served by a fleet, or by the one Route names again. p.mu is held.
func (p *Pool) pin(key promised, f *fleet, on bool) {
	next := map[promised]*fleet{}
	if old := p.pinned.Load(); old != nil {
		maps.Copy(next, *old)
	}
	delete(next, key)
	if on {
		next[key] = f
	}
	if len(next) == 0 {
		p.pinned.Store(nil)
		return
	}
	p.pinned.Store(&next)
}

// unpin has what a fleet was pinned for served by others. p.mu is held.
func (p *Pool) unpin(f *fleet) {
	if old := p.pinned.Load(); old != nil {
		for key, by := range *old {
			if by == f {
				p.pin(key, nil, false)
			}
		}
	}
}

// Provisioned tells how the promise of a version is kept; nothing of it when there is none.
func (p *Pool) Provisioned(id kiln.VersionID) Provisioned {
	for _, f := range p.all() {
		f.mu.Lock()
		v, ok := f.manager.Promise(id)
		f.mu.Unlock()
		if ok {
			return f.provisioned(v)
		}
	}
	return Provisioned{Version: id}
}

// AllProvisioned lists the promises, by fleet, in the order they were made.
func (p *Pool) AllProvisioned() []Provisioned {
	list := []Provisioned{}
	for _, f := range p.all() {
		f.mu.Lock()
		promises := f.manager.Promises()
		f.mu.Unlock()
		for _, v := range promises {
			list = append(list, f.provisioned(v))
		}
	}
	return list
}

func (f *fleet) provisioned(v manager.PromiseView) Provisioned {
	shown := Provisioned{
		Version: v.Version.ID(), Fleet: f.id.Name, Requested: v.Requested, Allocated: v.Allocated, Available: v.Available,
		Idle: v.Idle, MemoryMiB: v.MemoryMiB, Served: v.Served, Spilled: v.Spilled,
	}
	if v.Err != nil {
		shown.Failure = v.Err.Error()
	}
	return shown
}

package pool

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"kiln"
	"kiln/internal/capacity"
	"kiln/internal/manager"
)

// Bounds of what is kept of a fleet.
const (
	// KnobMax is the most instances a knob can be turned to.
	KnobMax = 100_000
	// learnedEvery is the time between two writes of what was learned of days and weeks.
	learnedEvery = 10 * time.Minute
	// learnedWithin bounds what is written at the end, of all fleets together.
	learnedWithin = 10 * time.Second
)

// Store keeps small documents by key over a restart.
type Store interface {
	// Read gives a document; false when there is none. It does not block.
	Read(key string) ([]byte, bool)
	// Write replaces a document, on disk before it returns. It may be repeated. Kinds: KindUnavailable, KindConflict (it was
	// written at the same time).
	Write(ctx context.Context, key string, value []byte) error
	// Delete removes a document for good before it returns, if there is one. It may be repeated. Kinds as Write's.
	Delete(ctx context.Context, key string) error
}

// operated is what the operator turned of a fleet, as it is kept.
type operated struct {
	Turned    []manager.Turned    `json:"turned"`
	Dedicated []manager.Dedicated `json:"dedicated"`
}

func operatedKey(id FleetID) string { return "operated/" + id.String() }
func learnedKey(id FleetID) string  { return "learned/" + id.String() }

// recall adds to a new fleet's settings what is kept of it, and gives what it learned. What cannot be read is left out, and
// logged.
func (p *Pool) recall(config *FleetConfig) *capacity.History {
	if p.config.Store == nil {
		return nil
	}
	id := FleetID{config.Account, config.Name}
	var o operated
	if p.read(operatedKey(id), &o) {
		config.Settings.Turned, config.Settings.Dedicated = o.Turned, o.Dedicated
	}
	var h capacity.History
	if !p.read(learnedKey(id), &h) {
		return nil
	}
	return &h
}

func (p *Pool) read(key string, into any) bool {
	b, ok := p.config.Store.Read(key)
	if !ok {
		return false
	}
	if err := json.Unmarshal(b, into); err != nil {
		p.config.Logger.Error("what was kept of a fleet cannot be read", "key", key, "error", err)
		return false
	}
	return true
}

// write keeps a document.
func (p *Pool) write(ctx context.Context, key string, value any) error {
	if p.config.Store == nil {
		return nil
	}
	b, err := json.Marshal(value)
	if err != nil {
		return kiln.Wrap(kiln.KindInternal, "pool: keep", "What is to be kept of a fleet cannot be written.", err)
	}
	return p.config.Store.Write(ctx, key, b)
}

// keepLearned writes down what the fleets learned, now and then and at the end.
func (p *Pool) keepLearned(ctx context.Context) {
	ticker := time.NewTicker(learnedEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.writeLearned(ctx)
		case <-ctx.Done():
			ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), learnedWithin)
			defer cancel()
			p.writeLearned(ending)
			return
		}
	}
}

// writeLearned writes down what the fleets learned, until ctx ends.
func (p *Pool) writeLearned(ctx context.Context) {
	for _, f := range p.all() {
		if err := p.writeLearnedOf(ctx, f); err != nil && !errors.Is(ctx.Err(), context.Canceled) { // else the end writes it
			p.config.Logger.Warn("what was learned of days and weeks was not kept", "fleet", f.id, "error", err)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

func (p *Pool) writeLearnedOf(ctx context.Context, f *fleet) error {
	f.turning.Lock()
	defer f.turning.Unlock()
	f.mu.Lock()
	h := f.manager.History()
	f.mu.Unlock()
	if len(h.Seasons) == 0 || p.find(f.id) != f { // removed: nothing of it is kept any more
		return nil
	}
	return p.write(ctx, learnedKey(f.id), h)
}

// forget removes what is kept of a fleet that was removed, so that the next of its name does not inherit it.
func (p *Pool) forget(ctx context.Context, id FleetID) error {
	if p.config.Store == nil {
		return nil
	}
	return errors.Join(p.config.Store.Delete(ctx, operatedKey(id)), p.config.Store.Delete(ctx, learnedKey(id)))
}

// Turn turns the knobs of a warming pool, by its id as Pools lists it: change is given those turned before and gives those
// from now on; what it leaves nil is as configured, or by demand. It holds at once and is kept over a restart. It may be
// repeated. Kinds: KindNotFound, KindInvalid (an active pool, bounds that contradict each other), and the store's: then
// nothing has changed.
func (p *Pool) Turn(ctx context.Context, id string, change func(capacity.Knobs) capacity.Knobs) error {
	const op = "pool: turn knobs"
	f, c, err := p.warming(op, id)
	if err != nil {
		return err
	}
	return p.operate(ctx, f, func(o *operated) error {
		i := slices.IndexFunc(o.Turned, func(t manager.Turned) bool { return t.Configuration == c })
		if i < 0 {
			i = len(o.Turned)
			o.Turned = append(o.Turned, manager.Turned{Configuration: c})
		}
		o.Turned[i].Knobs = change(o.Turned[i].Knobs)
		if err := checkKnobs(op, o.Turned[i].Knobs); err != nil {
			return err
		}
		if o.Turned[i].Knobs == (capacity.Knobs{}) {
			o.Turned = slices.Delete(o.Turned, i, i+1)
		}
		return nil
	})
}

func checkKnobs(op string, k capacity.Knobs) error {
	for name, n := range map[string]*int{"minimum": k.Minimum, "maximum": k.Maximum, "target": k.Target} {
		if n != nil && (*n < 0 || *n > KnobMax) {
			return kiln.Errorf(kiln.KindInvalid, op, "The %s is %d; give 0 to %d instances.", name, *n, KnobMax)
		}
	}
	if k.Minimum != nil && k.Maximum != nil && *k.Minimum > *k.Maximum {
		return kiln.Errorf(kiln.KindInvalid, op, "The minimum, %d, is more than the maximum, %d.", *k.Minimum, *k.Maximum)
	}
	return nil
}

// warming finds a warming pool by its id: fleet/warming/configuration.
func (p *Pool) warming(op, id string) (*fleet, kiln.Configuration, error) {
	for _, f := range p.all() {
		rest, ok := strings.CutPrefix(id, f.id.String()+"/")
		if !ok {
			continue
		}
		if name, ok := strings.CutPrefix(rest, string(kiln.PoolWarming)+"/"); ok {
			for _, d := range f.tally().demands {
				if d.Configuration.String() == name {
					return f, d.Configuration, nil
				}
			}
		}
		if strings.HasPrefix(rest, string(kiln.PoolActive)+"/") {
			return nil, kiln.Configuration{}, kiln.Errorf(kiln.KindInvalid, op,
				"An active pool has no minimum, maximum or target: it is what requests took. Name the warming pool.")
		}
	}
	return nil, kiln.Configuration{}, kiln.Errorf(kiln.KindNotFound, op, "There is no pool %s; `kiln ls pools` lists them.", id)
}

// PoolOf gives one pool by its id. KindNotFound.
func (p *Pool) PoolOf(id string) (Counts, error) {
	for _, c := range p.Pools() {
		if c.ID == id {
			return c, nil
		}
	}
	return Counts{}, kiln.Errorf(kiln.KindNotFound, "pool: get", "There is no pool %s; `kiln ls pools` lists them.", id)
}

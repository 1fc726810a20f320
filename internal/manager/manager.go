// Package manager is one fleet's instance manager: it decides which container serves a request, what is booted,
// prepared, bound, kept and let go, in both pools of the fleet.
//
// It is a core: Step takes what happened and gives what is to be done. It reads no clock, starts nothing, logs nothing;
// ids and settings are handed in. Package pool runs it live behind a lock, and the simulator in virtual time; one
// goroutine at a time uses it.
//
// The choice of a place is package placement's, how many warm instances to have package capacity's, how long to keep
// what is idle package retention's. What is decided here is the order of things (assign, fetch, bind), and whether a
// request waits for a busy container or a new one is started for it: see group.go.
package manager

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"kiln"
	"kiln/internal/capacity"
	"kiln/internal/placement"
	"kiln/internal/retention"
)

// groupsMax bounds the versions remembered that neither run nor wait: their mean times are then forgotten.
const groupsMax = 10_000

// Config is what a manager is made of.
type Config struct {
	Fleet    string
	Node     kiln.NodeID
	Settings Settings
	// History is what an earlier run learned of days and weeks; it may be nil.
	History *capacity.History
	// Table is the learned hazard for Settings.Learned; nil for that of each function's own gaps.
	Table *retention.Table
	// Policy, unless nil, decides in place of what Settings say how long containers are kept: the simulator's others.
	Policy Planner
	// NewInstance and NewContainer give ids never used before.
	NewInstance  func() kiln.InstanceID
	NewContainer func() kiln.ContainerID
}

// Manager is one fleet's instance manager. Make it with New.
type Manager struct {
	config    Config
	settings  Settings
	index     *placement.Index
	capacity  *capacity.Warming
	retention retention.Fixed // of instances and of what is prepared in them
	policy    Planner         // of containers
	learns    bool            // it plans by history, minute by minute
	firstLook time.Duration   // how long a container is idle before the policy is asked
	cached    time.Duration   // how long an instance is kept after the last of its containers went

	functions map[functionKey]*function
	known     list[*function] // all of them, the one not called for the longest first

	instances  map[kiln.InstanceID]*instance
	containers map[kiln.ContainerID]*container
	oldest     *instance // all instances, by age
	newest     *instance
	sequence   uint64
	resting    list[*instance] // assigned and executing nothing, the longest so first

	counts map[counted]*Count

	dedicated   []*dedication // in the order they were set
	dedications map[dedicated]*dedication

	owners       map[owner]*ownership
	several      list[*ownership] // of two or more instances, in the order they came to have them
	consolidated int              // instances given up

	groups   map[code]*group
	versions map[version][]*group // the groups of one version, by amount
	codes    []*group             // all groups, in no order
	dormant  list[*group]         // without containers or requests, the longest so first
	waiting  list[*group]         // with waiting requests, in the order they began to wait
	lined    int                  // requests that wait, in all groups
	blocked  int                  // groups that found neither room nor place
	dropped  bool                 // a start or a busy container was lost in this step, or a promise made one: who waits is decided again
	promises []*promise           // in the order they were made
	owing    bool                 // one of them lost a container in this step
	deleting int                  // instances being deleted
	stuck    int                  // instances whose deletion failed, to be tried again

	costs         costs
	timers        timers
	refilled      timer
	consolidating timer
	looking       timer     // to follow the demand
	wake          time.Time // the time the shell was asked to send a Tick
	refusing      bool      // no new requests, for good
	halted        bool      // none until Resumed
	refusal       string    // what those who ask meanwhile are told
	stopped       bool
	refilling     bool // refill is under way
	actions       []Action
	line          []*group        // reused by reconsider
	free          []time.Duration // reused by worth
}

// code is what a container holds: a version at an amount.
type code struct {
	version
	memoryMiB int
}

// version is a kiln.VersionID in its parts, which need not be put together for each request.
type version struct {
	account                    kiln.AccountID
	function, number, revision string
}

// New makes a manager. It boots nothing before the first Step: send a Tick.
func New(config Config) *Manager {
	m := &Manager{
		config:     config,
		index:      placement.New(nil),
		capacity:   capacity.New(config.Settings.Capacity),
		instances:  make(map[kiln.InstanceID]*instance),
		containers: make(map[kiln.ContainerID]*container),
		counts:     make(map[counted]*Count),
		owners:     make(map[owner]*ownership),
		groups:     make(map[code]*group),
		functions:  make(map[functionKey]*function),
		versions:   make(map[version][]*group),
		costs:      newCosts(),
	}
	m.refilled.fire = func(time.Time) {} // refill runs after every tick
	m.looking.fire = m.look
	m.consolidating.fire = m.consolidate
	if config.History != nil {
		m.capacity.Restore(*config.History)
	}
	m.change(config.Settings)
	return m
}

// Step takes one event at a time now and gives what is to be done, in order. The actions are valid until the next call.
func (m *Manager) Step(now time.Time, e Event) []Action {
	clear(m.actions)
	m.actions = m.actions[:0]
	switch e.Kind {
	case Requested:
		m.requested(now, e.Request)
	case Ended:
		m.ended(now, e)
	case Cancelled:
		m.cancelled(now, e.Request)
	case Booted:
		m.booted(now, e)
	case Prepared:
		m.prepared(now, e)
	case Bound:
		m.bound(now, e)
	case Paused:
		m.paused(now, e)
	case Deleted:
		m.deleted(now, e)
	case NotDeleted:
		m.notDeleted(now, e)
	case Detached:
		m.detached(e)
	case Exited, Asked:
		m.lost(now, e)
	case Drain:
		if in := m.instances[e.Instance]; in != nil {
			m.drain(now, in, e.Cause)
		}
	case Forget:
		m.forget(now, e.Version)
	case Recalled:
		m.recall(now, e)
	case Promised:
		m.promised(now, e.Request, e.Count)
	case Expected:
		m.await(now, e)
	case Moved:
		m.moved(now, e.Account, e.Function)
	case Changed:
		m.change(*e.Settings)
		m.capacity.Tick(now)
		m.reconsider(now)
		m.refill(now)
	case Elsewhere:
		m.capacity.Elsewhere(e.Elsewhere)
	case Tick:
		m.tick(now)
	case Refusing:
		m.refusing, m.refusal = true, cmp.Or(e.Cause, serverEnds)
	case Halted:
		m.halt(e.Cause)
	case Resumed:
		m.halted, m.owing = false, true
		for f := range m.known.all() { // nothing was planned for it meanwhile
			if f.timer.index == 0 {
				m.timers.set(&f.timer, now)
			}
		}
		m.refill(now)
	case Stopped:
		m.stop(now)
	default:
		panic(fmt.Sprintf("manager: unknown event %d", e.Kind))
	}
	m.catchUp(now)
	m.ask(now)
	return m.actions
}

// catchUp sees to those for whom something was lost in this step: requests that wait, then promises, then requests that may
// share what was made for a promise.
func (m *Manager) catchUp(now time.Time) {
	for range 2 {
		if m.dropped {
			m.dropped = false
			m.reconsider(now)
		}
		if m.owing {
			m.owing = false
			m.fulfilAll(now)
		}
	}
}

// tick fires what is due.
func (m *Manager) tick(now time.Time) {
	m.wake = time.Time{}
	for t := m.timers.due(now); t != nil; t = m.timers.due(now) {
		t.fire(now)
	}
	if m.looking.index == 0 && !m.stopped {
		m.look(now)
	}
	if m.consolidating.index == 0 && !m.stopped {
		m.consolidate(now)
	}
	m.refill(now)
}

// ask tells the shell when the next Tick is wanted, when that is earlier than it knows.
func (m *Manager) ask(now time.Time) {
	if len(m.timers.heap) == 0 {
		return
	}
	at := m.timers.heap[0].at
	if m.wake.IsZero() || at.Before(m.wake) {
		m.wake = at
		m.do(Action{Kind: Wake, At: at})
	}
}

func (m *Manager) do(a Action) { m.actions = append(m.actions, a) }

// change takes over new settings; what exists keeps what it has.
func (m *Manager) change(s Settings) {
	m.settings = s
	m.index.SetShapes(s.Shapes)
	m.retains(s)
	m.capacity.Change(s.Capacity)
	for _, w := range s.Warming {
		m.capacity.Set(w.Configuration, w.Bounds)
	}
	for _, k := range s.Turned {
		m.capacity.Turn(k.Configuration, k.Knobs)
	}
	m.dedicate(s.Dedicated)
}

// serverEnds is what is told to those who ask while the server ends.
const serverEnds = "The server is ending."

// halt takes no requests and boots nothing until Resumed. Those that wait are refused: nothing would be started for them.
func (m *Manager) halt(why string) {
	m.halted = true
	if !m.refusing {
		m.refusal = why
	}
	m.refuseWaiting()
}

// refuseWaiting refuses all requests that wait.
func (m *Manager) refuseWaiting() {
	for g := range m.waiting.all() {
		for g.first != nil {
			m.refuse(g.first, kiln.Errorf(kiln.KindUnavailable, "manager: acquire", "%s", m.refusal))
		}
	}
}

// stop refuses all that wait and deletes everything.
func (m *Manager) stop(now time.Time) {
	m.refusal = cmp.Or(m.refusal, serverEnds)
	m.refusing, m.stopped = true, true
	m.timers.stop(&m.looking)
	m.timers.stop(&m.consolidating)
	m.refuseWaiting()
	for in := m.oldest; in != nil; in = in.younger {
		m.deleteInstance(now, in, kiln.EventInstanceTerminate, "the server is ending")
	}
}

// forget lets go of a version that will not be asked for again.
func (m *Manager) forget(now time.Time, id kiln.VersionID) {
	v := parse(id)
	if f := m.functions[functionKey{v.account, v.function}]; f != nil && f.last != nil && f.last.key.version == v {
		f.last = nil
	}
	for _, g := range slices.Clone(m.versions[v]) {
		g.forgotten = true
		if p := g.promise; p != nil {
			p.count = 0
			m.fulfil(now, p)
		}
		for c := g.code.First(); c != nil; c = g.code.First() {
			m.deleteContainer(now, c.Holder.(*container), kiln.EventContainerTerminate, "version superseded or deleted")
		}
		m.settle(g)
	}
}

// parse takes a kiln.VersionID apart: account/function/number@revision.
func parse(id kiln.VersionID) version {
	account, rest, _ := strings.Cut(string(id), "/")
	function, rest, _ := strings.Cut(rest, "/")
	number, revision, _ := strings.Cut(rest, "@")
	return version{kiln.AccountID(account), function, number, revision}
}

// tell emits a pool event.
func (m *Manager) tell(now time.Time, kind kiln.EventKind, cause string, in *instance, c *container, request kiln.RequestID) {
	e := kiln.Event{
		Time: kiln.Time{Time: now}, Kind: kind, Cause: cause, RequestID: request,
		Account: in.place.Account, Node: m.config.Node, Instance: in.place.ID,
	}
	if c != nil {
		e.Container = c.place.ID
		if c.group != nil {
			v := c.group.version
			e.Function, e.Version, e.Package = v.Function, v.Number, v.Package
		}
	}
	m.do(Action{Kind: Tell, Event: e})
}

package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"kiln"
	"kiln/internal/capacity"
	"kiln/internal/manager"
	"kiln/internal/trace"
)

// A trial's size: some thousand steps, so that a thousand of them are run in a minute or two.
const (
	trialFunctions = 12
	trialMinutes   = 8
	trialAccounts  = 3
)

// Trial is what a trial of the manager was.
type Trial struct {
	Seed     uint64
	Steps    int
	Requests int
	Outcomes map[string]int // requests by what became of them
	Faults   int            // things that went wrong, by themselves or by the operator
}

// trial is one under way.
type trial struct {
	*system
	seed    uint64
	chance  *rand.Rand
	calls   []*call // waiting or not, all of them
	pools   map[kiln.InstanceID]kiln.Pool
	limit   int // instances, the most there ever was
	reserve int // warm instances that may not be let go
	strikes int
}

// Try runs a made trace against a manager while instances, containers, starts, deletions, the node and the operator do the
// worst, everything as the seed says, and checks after each step what must hold: what the manager knows against itself, and
// what was really done against the plain books of this package. The error says what did not hold, and when.
func Try(ctx context.Context, seed uint64) (_ Trial, err error) {
	defer func() {
		if broken := recover(); broken != nil { // an invariant of the manager's own
			err = fmt.Errorf("seed %d: %v", seed, broken)
		}
	}()
	chance := rand.New(rand.NewPCG(seed, 0x747269616c))
	traced := trace.Make(seed, trialFunctions, trialMinutes)
	for i := range traced.Functions {
		traced.Functions[i].Account = fmt.Sprint("account", i%trialAccounts)
		for j := range traced.Functions[i].Calls {
			if chance.IntN(4) == 0 {
				traced.Functions[i].Calls[j].Count += int32(chance.IntN(30))
			}
		}
	}
	faults := Faults{
		Boot: 0.1, Prepare: 0.05, Bind: 0.05, Init: 0.03, Pause: 0.1, Delete: 0.05, Slow: 0.2, SlowBy: 5 * time.Second, Crash: 0.03,
		LostNode: 5 * time.Minute, LostInstance: time.Minute, Operator: 10 * time.Second,
	}
	t := &trial{seed: seed, chance: chance, pools: make(map[kiln.InstanceID]kiln.Pool)}
	settings := t.settings()
	t.system = newSystem(traced, seed, manager.Config{Settings: settings}, faults)
	for i, f := range t.functions {
		f.version.Concurrency = []int{0, 0, 3}[i%3]
		f.mib = []int{128, 300, 512, 1024}[i%4]
	}
	t.seen = func(c *call) { t.calls = append(t.calls, c) }
	t.heard = t.told
	t.faults.check = t.check
	t.plan()
	if err := t.play(ctx); err != nil {
		return t.report(), fmt.Errorf("seed %d: %w", seed, err)
	}
	if err := t.end(); err != nil {
		return t.report(), fmt.Errorf("seed %d, at the end: %w", seed, err)
	}
	return t.report(), nil
}

// settings draws what an operator might set, small enough that everything runs short.
func (t *trial) settings() manager.Settings {
	s := simSettings(1 + t.chance.IntN(8))
	t.limit = max(t.limit, s.InstancesMax)
	s.WaitMax = time.Duration(1+t.chance.IntN(20)) * time.Second
	s.WaitingMax = 1 + t.chance.IntN(40)
	s.RetentionContainer = time.Duration(1+t.chance.IntN(60)) * time.Second
	s.RetentionInstance = 2 * s.RetentionContainer
	s.PauseAfter = time.Duration(t.chance.IntN(5)) * time.Second
	s.ConsolidationUtilisation, s.ConsolidationAfter = t.chance.Float64(), time.Duration(t.chance.IntN(60))*time.Second
	if s.Learned = t.chance.IntN(2) == 0; s.Learned {
		s.Worth = float64(1 + t.chance.IntN(10_000))
	}
	low := t.chance.IntN(3)
	t.reserve = low
	s.Warming[0].Bounds = capacity.Bounds{Minimum: low, Maximum: low + t.chance.IntN(3)}
	return s
}

// plan puts the operator's deeds on the agenda.
func (t *trial) plan() {
	length := time.Duration(t.trace.Minutes) * time.Minute
	for at := time.Duration(0); ; {
		at += time.Duration(t.chance.ExpFloat64() * float64(t.faults.Operator))
		if at >= length {
			return
		}
		t.events.push(happening{at: at, kind: happensDo, do: t.meddle})
	}
}

// meddle does one thing an operator or a caller may do at any time.
func (t *trial) meddle() {
	t.strikes++
	containers, _ := t.world.manager.ContainerPage(&manager.Mark{}, nil)
	instances, _ := t.world.manager.InstancePage(&manager.Mark{}, nil)
	kind := t.chance.IntN(8)
	switch {
	case kind == 0 && len(containers) > 0:
		t.step(manager.Event{Kind: manager.Asked, Container: containers[t.chance.IntN(len(containers))].ID, Cause: "trial"})
	case kind == 1 && len(instances) > 0:
		t.step(manager.Event{Kind: manager.Asked, Instance: instances[t.chance.IntN(len(instances))].ID, Cause: "trial"})
	case kind == 2 && len(instances) > 0:
		t.step(manager.Event{Kind: manager.Drain, Instance: instances[t.chance.IntN(len(instances))].ID, Cause: "trial"})
	case kind == 3:
		s := t.settings()
		t.step(manager.Event{Kind: manager.Changed, Settings: &s})
	case kind == 4:
		t.step(manager.Event{Kind: manager.Forget, Version: t.functions[t.chance.IntN(len(t.functions))].version.ID()})
	case kind == 5 && len(instances) > 0:
		f := t.functions[t.chance.IntN(len(t.functions))]
		t.step(manager.Event{Kind: manager.Detached, Instance: instances[t.chance.IntN(len(instances))].ID, Package: f.version.Package})
	case kind == 6:
		t.cancel()
	case kind == 7 && len(containers) > 0:
		t.step(manager.Event{Kind: manager.Exited, Container: containers[t.chance.IntN(len(containers))].ID, Cause: "trial"})
	}
}

// cancel lets the caller of a waiting request go.
func (t *trial) cancel() {
	for _, c := range t.calls {
		if c.outcome == outcomePending && c.request.ID != "" {
			c.outcome = outcomeCancelled
			t.meter.answered(t.clock, c)
			t.step(manager.Event{Kind: manager.Cancelled, Request: &c.request})
			return
		}
	}
}

// told keeps a book of the pools from what the manager tells, and looks whether the reserve is left alone.
func (t *trial) told(e *kiln.Event) {
	switch e.Kind {
	case kiln.EventInstanceCreate:
		if t.pools[e.Instance] != "" {
			t.fail("instance %s is made twice", e.Instance)
		}
		t.pools[e.Instance] = kiln.PoolWarming
	case kiln.EventInstanceAssign:
		if t.pools[e.Instance] != kiln.PoolWarming {
			t.fail("instance %s is assigned from pool %q", e.Instance, t.pools[e.Instance])
		}
		t.pools[e.Instance] = kiln.PoolActive
	case kiln.EventInstanceTerminate, kiln.EventInstanceFail:
		delete(t.pools, e.Instance)
		if warm := t.warm(); strings.HasPrefix(e.Cause, "warming pool above") && warm < t.reserve {
			t.fail("instance %s of the warming pool is let go, and %d are left of %d in reserve", e.Instance, warm, t.reserve)
		}
	}
}

func (t *trial) warm() int {
	n := 0
	for _, p := range t.pools {
		if p == kiln.PoolWarming {
			n++
		}
	}
	return n
}

// check is what must hold after every step.
func (t *trial) check() error {
	if err := t.world.manager.Invariants(); err != nil {
		return err
	}
	there := 0
	for _, in := range t.lined {
		if in.gone {
			continue
		}
		if there++; there > t.limit {
			return fmt.Errorf("%d instances, the limit was never over %d", there, t.limit)
		}
		given := 0
		for _, b := range in.boxes {
			given += b.given
			if b.owner != nil && b.owner.version.Account != in.account {
				return fmt.Errorf("instance %s of account %q holds code of %s", in.id, in.account, b.owner.version.Account)
			}
		}
		if given > in.size {
			return fmt.Errorf("instance %s of %d MiB holds %d", in.id, in.size, given)
		}
	}
	return nil
}

// end lets everything end without further faults, and balances the books.
func (t *trial) end() error {
	t.faults = Faults{check: t.check}
	t.run(t.clock + 2*longestTakes)
	pending := 0
	for _, c := range t.calls {
		if c.outcome == outcomePending || c.outcome == outcomeExecuting {
			pending++
		}
	}
	sum := 0
	for _, n := range t.meter.outcomes {
		sum += n
	}
	switch {
	case t.failed != nil:
		return t.failed
	case pending > 0:
		return fmt.Errorf("%d requests never ended", pending)
	case sum != len(t.calls):
		return fmt.Errorf("%d requests came and %d ended, by outcome %v", len(t.calls), sum, t.meter.outcomes)
	}
	t.step(manager.Event{Kind: manager.Stopped})
	t.run(t.clock + 2*time.Hour) // what could not be deleted is tried again
	if left, stuck := t.world.manager.Left(); left+stuck+len(t.instances)+len(t.containers) > 0 {
		return fmt.Errorf("left: %d instances to the manager, %d really, %d containers", left, len(t.instances), len(t.containers))
	}
	return t.failed
}

func (t *trial) report() Trial {
	r := Trial{Seed: t.seed, Steps: t.meter.steps, Requests: len(t.calls), Faults: t.strikes, Outcomes: make(map[string]int)}
	for o, n := range t.meter.outcomes {
		if n > 0 {
			r.Outcomes[outcome(o).String()] = n
		}
	}
	return r
}

package sim

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"kiln"
	"kiln/internal/capacity"
	"kiln/internal/manager"
	"kiln/internal/sim/policy"
	"kiln/internal/trace"
)

// What the boundary takes, as make bench measures it for the container driver (README, "Numbers"). Each is a median; what
// is drawn lies around it, see takes.
const (
	// startBoot and startPrepare are an instance's boot and a container's interpreter starting: crun create to /next.
	startBoot    = 20 * time.Millisecond
	startPrepare = 48 * time.Millisecond
	// startBind is a prepared container made a function's, its package fetched on the way: start.warming-pool.python.
	startBind = 9 * time.Millisecond
	// startPause is a container's being frozen.
	startPause = time.Millisecond
	// startDelete is until nothing is left of a container or an instance.
	startDelete = 15 * time.Millisecond
	// preparedMiB is what a container prepared for nobody takes: prepared.python.pss and prepared.nodejs.pss.
	preparedMiB = 8
)

// What a simulated system is made of.
const (
	simDriver  = "simulated"
	simRuntime = "python3.12"
	// usualTakes is an execution where the trace does not say.
	usualTakes = 200 * time.Millisecond
	// longestTakes is AWS's limit.
	longestTakes = 15 * time.Minute
	leastMiB     = 128
	// keptForEver turns the manager's own retention off, for policies that let go by themselves.
	keptForEver = 10_000 * time.Hour
	// foreseenBefore is how long before a minute the oracle loads what is called in it.
	foreseenBefore = time.Second
	afterMax       = 20 * time.Minute // for what is under way when the trace ends
)

// shapes are the server's default.
func shapes() []kiln.Shape {
	return []kiln.Shape{{MemoryMiB: 2048, CPUs: 2}, {MemoryMiB: 10240, CPUs: 6}}
}

// simSettings are the server's defaults on a node of so many instances.
func simSettings(instances int) manager.Settings {
	return manager.Settings{
		InstancesMax: instances, Shapes: shapes(), AllowanceMiB: 512,
		Warming:            []manager.WarmingTarget{{Configuration: simConfiguration(), Bounds: capacity.Bounds{Minimum: 1, Maximum: 8}}},
		Capacity:           capacity.Config{Maximum: 8},
		RetentionContainer: 10 * time.Minute, RetentionInstance: 20 * time.Minute, PauseAfter: 5 * time.Second,
		ConsolidationUtilisation: 0.5, ConsolidationAfter: 5 * time.Minute,
		WaitMax: 10 * time.Second, WaitingMax: 10_000,
	}
}

func simConfiguration() kiln.Configuration {
	return kiln.Configuration{Driver: simDriver, Runtime: simRuntime, Shape: shapes()[0]}
}

// takes draws how long something takes around its median: within a factor of two, mostly.
func (w *world) takes(median time.Duration) time.Duration {
	spread := 0.75 + 0.25*w.chance.ExpFloat64()
	return time.Duration(min(spread, 4) * float64(median))
}

// function is one function of the trace in the simulated system.
type function struct {
	index      int
	of         *trace.Function
	version    *kiln.Version
	runtime    string
	mib        int // given
	countedMiB int // as idle memory counts it
	requests   int
	colds      int
	idleMiBs   float64
	busy       int    // executions now
	idle       []*box // the longest so first, when a steward looks on
	starting   int    // containers loaded ahead and not there yet
	governs    any    // what the steward knows of it
}

// functions makes the trace's functions: each account's own, and an account of its own where the trace names none.
func functions(t *trace.Trace) []*function {
	all := make([]*function, len(t.Functions))
	for i := range t.Functions {
		f := &t.Functions[i]
		account := f.Account
		if account == "" {
			account = f.Owner()
		}
		mib := max(leastMiB, int(memoryMiB(f)+0.5))
		mib = min(mib, shapes()[len(shapes())-1].MemoryMiB)
		name := "f" + strconv.Itoa(i)
		all[i] = &function{index: i, of: f, runtime: simRuntime, mib: mib, countedMiB: max(1, int(memoryMiB(f)+0.5)), version: &kiln.Version{
			Account: kiln.AccountID(account), Function: name, Number: kiln.Latest, Revision: "1",
			Package: kiln.Digest("package-" + name), MemoryMiB: mib, DiskMiB: 512,
		}}
	}
	return all
}

// system is one run of system mode.
type system struct {
	*world
	trace     *trace.Trace
	functions []*function
	load      *rand.Rand // draws the arrivals and durations: the same for every policy
	byMinute  [][]moment
	// foresee, when set, is shown the calls of a minute a little before it begins.
	foresee func(calls []*call)
}

// newSystem makes a system that nothing was asked of yet.
func newSystem(t *trace.Trace, seed uint64, config manager.Config, faults Faults) *system {
	s := &system{world: newWorld(seed, config, faults), trace: t, functions: functions(t), load: rand.New(rand.NewPCG(seed, 0x6c6f6164))}
	for _, f := range s.functions {
		s.meter.functions[f.version.Function] = f
	}
	s.byMinute = make([][]moment, t.Minutes)
	for i := range t.Functions {
		for _, c := range t.Functions[i].Calls {
			s.byMinute[c.Minute] = append(s.byMinute[c.Minute], moment{c.Count, int32(i)})
		}
	}
	return s
}

// play runs the whole trace and what is under way at its end.
func (s *system) play(ctx context.Context) error {
	length := time.Duration(s.trace.Minutes) * time.Minute
	s.faults.plan(s.world, length)
	s.step(manager.Event{Kind: manager.Tick})
	s.arrivals(0)
	for minute := range s.trace.Minutes {
		if err := context.Cause(ctx); err != nil {
			return kiln.Wrap(kiln.KindUnavailable, "sim: run", "The simulation was broken off.", err)
		}
		s.arrivals(minute + 1)
		s.run(time.Duration(minute+1) * time.Minute)
		s.meter.sample(s.world)
		if s.failed != nil {
			return s.failed
		}
	}
	s.meter.close(s.clock)
	s.run(length + afterMax)
	return s.failed
}

// arrivals puts the calls of a minute on the agenda, the minute before.
func (s *system) arrivals(minute int) {
	if minute == s.trace.Minutes {
		return
	}
	begin := time.Duration(minute) * time.Minute
	var all []*call
	for _, m := range s.byMinute[minute] { // its minute is the count
		f := s.functions[m.function]
		times := f.of.Times
		if len(times) > 0 {
			from, _ := slices.BinarySearch(times, begin)
			times = times[from : from+int(m.minute)]
		}
		calls := make([]call, m.minute)
		for i := range calls {
			at := begin + time.Duration(s.load.Int64N(int64(time.Minute)))
			if len(times) > 0 {
				at = times[i]
			}
			calls[i] = call{of: f, at: at, takes: f.takes(s.load)}
			s.events.push(happening{at: at, kind: happensCall, call: &calls[i]})
			if s.foresee != nil {
				all = append(all, &calls[i])
			}
		}
	}
	if s.foresee != nil {
		s.events.push(happening{at: begin - foreseenBefore, kind: happensDo, do: func() { s.foresee(all) }})
	}
}

// takes draws how long an execution is.
func (f *function) takes(chance *rand.Rand) time.Duration {
	rank := chance.Float64()
	if !f.of.Duration.Known() {
		return time.Duration((0.5 + rank) * float64(usualTakes))
	}
	return min(max(f.of.Duration.At(rank), time.Millisecond), longestTakes)
}

// runSystem gives what a policy costs in system mode.
func (o *Options) runSystem(ctx context.Context, p policy.Policy, base *meter) (*meter, error) {
	config := manager.Config{Settings: simSettings(o.instances())}
	if ours, is := p.(policy.Kiln); is {
		config.Settings.Learned, config.Settings.RetentionContainer, config.Settings.Worth = true, 0, ours.Worth
		if ours.Crossed() {
			return o.runCrossed(ctx, ours, config)
		}
		config.Table = ours.Table(0)
	}
	s := newSystem(o.Trace, o.Seed, config, o.Faults)
	govern(s, p, base)
	if err := s.play(ctx); err != nil {
		return nil, err
	}
	return s.meter, nil
}

// runCrossed runs the whole trace with each table of Kiln's own policy, and counts of each run the functions that its table
// was not shown.
func (o *Options) runCrossed(ctx context.Context, p policy.Kiln, config manager.Config) (*meter, error) {
	var sum *meter
	tables, of := p.Tables()
	for fold, table := range tables {
		config.Table = table
		s := newSystem(o.Trace, o.Seed, config, o.Faults)
		s.meter.counts = func(f *function) bool { return of[f.index] == fold }
		if err := s.play(ctx); err != nil {
			return nil, err
		}
		if s.meter.only(); sum == nil {
			sum = s.meter
		} else {
			sum.add(s.meter)
		}
	}
	n := float64(len(tables)) // each run had the pool and the instances of all
	sum.idleMiBs += sum.poolMiBs/n - sum.poolMiBs
	sum.poolMiBs /= n
	return sum, nil
}

// instances is how many instances the simulated nodes have room for.
func (o *Options) instances() int {
	if o.Instances > 0 {
		return o.Instances
	}
	return 100_000
}

package pool

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kiln"
	"kiln/internal/capacity"
	"kiln/internal/driver/fake"
	"kiln/internal/manager"
	"kiln/internal/node"
)

// store is a package cache that has everything after a pause.
type store struct {
	pause time.Duration
	err   error
	over  atomic.Int64 // bytes beyond the bound

	mu   sync.Mutex
	held map[kiln.Digest]int
	seen map[kiln.Digest]bool
}

// holds counts how often a package is held.
func (s *store) holds(digest kiln.Digest) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[digest]
}

func (s *store) Over() int64 { return s.over.Load() }

func (s *store) Acquire(ctx context.Context, digest kiln.Digest) (node.Package, error) {
	if s.err != nil {
		return node.Package{}, s.err
	}
	s.mu.Lock()
	first := !s.seen[digest]
	s.seen[digest] = true
	s.held[digest]++
	s.mu.Unlock()
	if first {
		time.Sleep(s.pause)
	}
	return node.Package{Dir: "/packages/" + string(digest), Fetched: first, Release: func() {
		s.mu.Lock()
		s.held[digest]--
		s.mu.Unlock()
	}}, nil
}

// seeded is a random source for ids.
type seeded struct {
	mu sync.Mutex
	r  *rand.ChaCha8
}

func (s *seeded) Read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.r.Read(b)
}

// bench is a pool over the fake driver, running.
type bench struct {
	t      testing.TB
	pool   *Pool
	node   *node.Node
	driver *fake.Driver
	store  *store
	end    func() error // ends Run and waits
	stop   func()       // does so, and checks that nothing is left

	mu     sync.Mutex
	events []kiln.Event
	ids    int
}

var shape = kiln.Shape{MemoryMiB: 2048, CPUs: 2}

func fakePython(name string) (kiln.Runtime, bool) {
	return kiln.Runtime{Name: name, Kind: kiln.RuntimeManaged}, true
}

// newBench starts a pool; times are a real machine's: boot 60 ms, start 40 ms, 5 ms to delete.
func newBench(t testing.TB, config fake.Config, change func(*manager.Settings)) *bench {
	return newLoggedBench(t, nil, config, change)
}

func newLoggedBench(t testing.TB, log *slog.Logger, config fake.Config, change func(*manager.Settings), more ...func(*Config)) *bench {
	b := &bench{t: t, store: &store{held: map[kiln.Digest]int{}, seen: map[kiln.Digest]bool{}}}
	if config.BootTime == nil {
		config.BootTime = func(kiln.InstanceSpec) time.Duration { return 60 * time.Millisecond }
	}
	if config.StartTime == nil {
		config.StartTime = func(kiln.ContainerSpec) time.Duration { return 40 * time.Millisecond }
	}
	config.DeleteTime = func() time.Duration { return 5 * time.Millisecond }
	config.Exited = func(e kiln.Exit) { b.pool.Exited(e) }
	b.driver = fake.New(config)
	emit := func(e kiln.Event) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.events = append(b.events, e)
	}
	b.node = node.New(node.Config{
		ID: "n", Region: kiln.DefaultRegion, Driver: b.driver, Cache: b.store, Runtimes: fakePython, Emit: emit,
		Detached: func(id kiln.InstanceID, digest kiln.Digest) { b.pool.Detached(id, digest) },
		Rand:     &seeded{r: rand.NewChaCha8([32]byte{1})},
	})
	settings := manager.Settings{
		InstancesMax: 64, Shapes: []kiln.Shape{shape}, AllowanceMiB: 256, RetentionContainer: 10 * time.Minute,
		RetentionInstance: 15 * time.Minute, WaitMax: 10 * time.Second, WaitingMax: 1000,
		Warming: []manager.WarmingTarget{{
			Configuration: kiln.Configuration{Driver: "fake", Runtime: "python3.11", Shape: shape}, Bounds: capacity.Bounds{Minimum: 2},
		}},
	}
	if change != nil {
		change(&settings)
	}
	pools := Config{
		Node: b.node, Emit: emit, Logger: log,
		Runtimes: func(string) (kiln.Runtime, bool, error) { return kiln.Runtime{Name: "python3.11"}, true, nil },
		Fleets:   []FleetConfig{{Name: kiln.FleetLowVolume, Settings: settings}},
	}
	for _, m := range more {
		m(&pools)
	}
	b.pool = New(pools)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.pool.Run(ctx) }()
	b.end = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	b.stop = sync.OnceFunc(func() {
		if err := b.end(); err != nil {
			t.Error("run:", err)
		}
		b.nothingLeft()
	})
	return b
}

// nothingLeft checks that the driver and the cache hold nothing more.
func (b *bench) nothingLeft() {
	b.t.Helper()
	if i, c, _ := b.driver.Alive(); i+c > 0 {
		b.t.Errorf("%d instances and %d containers are left", i, c)
	}
	for digest, n := range b.store.held {
		if n != 0 {
			b.t.Errorf("package %s is held %d times", digest, n)
		}
	}
}

func (b *bench) version(account, function string) *kiln.Version {
	return &kiln.Version{
		Account: kiln.AccountID(account), Function: function, Number: kiln.Latest, Revision: "1", Runtime: "python3.12",
		Package: kiln.Digest("package of " + function), MemoryMiB: 128, DiskMiB: 512, TimeoutMillis: 60_000,
	}
}

// result is one execution as its caller saw it.
type result struct {
	lease  Lease
	answer kiln.Answer
	err    error
	took   time.Duration
}

// invoke acquires, executes and releases, as package invoke does.
func (b *bench) invoke(v *kiln.Version) result {
	b.mu.Lock()
	b.ids++
	id := kiln.RequestID(fmt.Sprintf("r-%d", b.ids))
	b.mu.Unlock()
	began := time.Now()
	lease, err := b.pool.Acquire(context.Background(), Need{RequestID: id, Version: v, MemoryMiB: v.MemoryMiB})
	r := result{lease: lease, err: err}
	if err == nil && lease.Init.Failure == nil {
		r.answer = b.node.Execute(context.Background(), lease.Container, &kiln.Delivery{
			RequestID: id, Payload: []byte("{}"), Deadline: time.Now().Add(v.Timeout()),
		})
		b.pool.Release(&lease, r.answer.Lost)
	}
	r.took = time.Since(began)
	return r
}

// many invokes n times at once.
func (b *bench) many(v *kiln.Version, n int) []result {
	results := make([]result, n)
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() { results[i] = b.invoke(v) })
	}
	wg.Wait()
	return results
}

func (b *bench) kinds(kind kiln.EventKind) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, e := range b.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// busy makes a handler that takes so long.
func busy(d time.Duration) func(context.Context, *fake.Guest, *kiln.Delivery) ([]byte, *kiln.Failure) {
	return func(ctx context.Context, g *fake.Guest, delivery *kiln.Delivery) ([]byte, *kiln.Failure) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
		return []byte(`"` + string(g.ID) + `"`), nil
	}
}

func containersOf(t *testing.T, results []result) map[kiln.ContainerID]int {
	t.Helper()
	used := make(map[kiln.ContainerID]int)
	for _, r := range results {
		if r.err != nil || r.answer.Failure != nil {
			t.Fatalf("failed: %v %+v", r.err, r.answer.Failure)
		}
		used[r.lease.Container]++
	}
	return used
}

// Before any request warm instances are there; the first one takes one, the next finds its container; what is taken is
// refilled; the order is assign, fetch, attach, bind; at the end nothing is left (R20 R23 R28 R32).
func TestFirstAndSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, fake.Config{}, nil)
		defer b.stop()
		<-b.pool.Ready()
		before := b.pool.Instances()
		if len(before) != 2 || before[0].State != kiln.InstanceWarm || before[0].Account != "" {
			t.Fatalf("warm instances: %+v", before)
		}
		v := b.version("a", "one")
		first, second := b.invoke(v), b.invoke(v)
		if first.lease.Path != kiln.PathWarmingPool || second.lease.Path != kiln.PathContainer {
			t.Errorf("paths %s %s", first.lease.Path, second.lease.Path)
		}
		wasWarm := first.lease.Instance == before[0].ID || first.lease.Instance == before[1].ID
		if first.lease.Container != second.lease.Container || !wasWarm {
			t.Errorf("containers %s %s on %s", first.lease.Container, second.lease.Container, first.lease.Instance)
		}
		time.Sleep(time.Second)
		if warm := b.pool.Pools()[0]; warm.Instances != 2 || warm.Booting != 0 || warm.Target != 2 {
			t.Errorf("warming pool after the refill: %+v", warm)
		}
		var order []kiln.EventKind
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, e := range b.events {
			if e.RequestID == first.lease.RequestID {
				order = append(order, e.Kind)
			}
		}
		want := []kiln.EventKind{kiln.EventInstanceAssign, kiln.EventCodeFetch, kiln.EventCodeAttach, kiln.EventContainerBind}
		if fmt.Sprint(order) != fmt.Sprint(want) {
			t.Errorf("events %v, want %v", order, want)
		}
	})
}

// A hundred first hits at once of 1 ms need few containers, fail none and end within twice what one warm container
// takes for all (R37).
func TestStampede(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, fake.Config{Handle: busy(time.Millisecond)}, nil)
		defer b.stop()
		<-b.pool.Ready()
		results := b.many(b.version("a", "one"), 100)
		used := containersOf(t, results)
		var last time.Duration
		for _, r := range results {
			last = max(last, r.took)
		}
		t.Logf("%d containers, last after %s, %d started", len(used), last, b.kinds(kiln.EventContainerBind))
		if n := b.kinds(kiln.EventContainerBind); n > 16 {
			t.Errorf("%d containers were bound", n)
		}
		if last > 200*time.Millisecond {
			t.Errorf("last answer after %s", last)
		}
	})
}

// Five first hits that sleep get five containers, soon (R43).
func TestSleepers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, fake.Config{Handle: busy(2 * time.Second)}, nil)
		defer b.stop()
		<-b.pool.Ready()
		results := b.many(b.version("a", "one"), 5)
		if used := containersOf(t, results); len(used) != 5 {
			t.Errorf("%d containers", len(used))
		}
		for _, r := range results {
			t.Logf("%s after %s", r.lease.Path, r.took-2*time.Second)
			if r.took > 2500*time.Millisecond {
				t.Errorf("took %s", r.took)
			}
		}
		again := b.many(b.version("a", "one"), 5)
		for _, r := range again {
			if r.lease.Path != kiln.PathContainer {
				t.Errorf("path %s", r.lease.Path)
			}
		}
	})
}

// At the limit of instances a request waits within its bound and is throttled with AWS's reason (R29); an instance of an
// account that asks for nothing is destroyed for another account, never handed on (R34).
func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, fake.Config{Handle: busy(30 * time.Second)}, func(s *manager.Settings) {
			s.InstancesMax, s.Warming, s.WaitMax = 1, nil, 2*time.Second
		})
		defer b.stop()
		done := make(chan result, 1)
		go func() { done <- b.invoke(b.version("a", "one")) }()
		time.Sleep(time.Second)
		r := b.invoke(b.version("b", "two"))
		if kiln.KindOf(r.err) != kiln.KindThrottled || r.took != 2*time.Second {
			t.Fatalf("err %v after %s", r.err, r.took)
		}
		if e := r.err.(*kiln.Error); e.Reason != "ConcurrentInvocationLimitExceeded" {
			t.Errorf("reason %q", e.Reason)
		}
		first := <-done
		other := b.invoke(b.version("b", "two"))
		if other.err != nil || other.lease.Instance == first.lease.Instance || other.lease.Path != kiln.PathInstantiated {
			t.Errorf("after the first ended: %v, %s on %s", other.err, other.lease.Path, other.lease.Instance)
		}
	})
}

// The operator's delete of a busy container fails its execution; the next request gets another on the same instance,
// without a fetch (R24 R44).
func TestDeleteContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, fake.Config{Handle: busy(10 * time.Second)}, nil)
		defer b.stop()
		<-b.pool.Ready()
		v := b.version("a", "one")
		done := make(chan result, 1)
		go func() { done <- b.invoke(v) }()
		time.Sleep(time.Second)
		for _, c := range b.pool.Containers() {
			if c.State == kiln.ContainerBusy {
				if err := b.pool.DeleteContainer(c.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
		first := <-done
		if first.answer.Failure == nil {
			t.Error("the execution of a deleted container did not fail")
		}
		second := b.invoke(v)
		if second.lease.Path != kiln.PathCodeCache || second.lease.Instance != first.lease.Instance || b.kinds(kiln.EventCodeFetch) != 1 {
			t.Errorf("path %s, %d fetches", second.lease.Path, b.kinds(kiln.EventCodeFetch))
		}
		if err := b.pool.DeleteContainer("c-none"); kiln.KindOf(err) != kiln.KindNotFound {
			t.Errorf("unknown container: %v", err)
		}
	})
}

// Idle containers go first, then the spare, then the instance, all by themselves (R41).
func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, fake.Config{}, func(s *manager.Settings) {
			s.Warming, s.RetentionContainer, s.RetentionInstance = nil, time.Minute, 2*time.Minute
		})
		defer b.stop()
		b.invoke(b.version("a", "one"))
		time.Sleep(59 * time.Second)
		if n := len(b.pool.Containers()); n != 2 {
			t.Errorf("%d containers before the retention's end, want one and a spare", n)
		}
		time.Sleep(3 * time.Second)
		if c, i := len(b.pool.Containers()), len(b.pool.Instances()); c != 0 || i != 1 {
			t.Errorf("%d containers and %d instances after the containers' retention", c, i)
		}
		time.Sleep(time.Minute)
		if i := len(b.pool.Instances()); i != 0 {
			t.Errorf("%d instances after the instances' retention", i)
		}
	})
}

// A failing initialisation fails the one request that waited for it; a failing store is tried again and then answered.
func TestFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failure := &kiln.Failure{Outcome: kiln.OutcomeInit, Type: "Runtime.ImportModuleError"}
		b := newBench(t, fake.Config{Bind: func(context.Context, *fake.Guest, kiln.Binding) kiln.InitResult {
			return kiln.InitResult{Duration: time.Millisecond, Failure: failure}
		}}, nil)
		defer b.stop()
		<-b.pool.Ready()
		r := b.invoke(b.version("a", "one"))
		if r.err != nil || r.lease.Init.Failure != failure || r.lease.Path != kiln.PathWarmingPool {
			t.Errorf("init failure: %v %+v", r.err, r.lease)
		}
		for _, r := range b.many(b.version("a", "one"), 5) {
			if r.err != nil || r.lease.Init.Failure == nil {
				t.Errorf("init failure at once: %v %+v", r.err, r.lease)
			}
		}
		b.store.err = kiln.Errorf(kiln.KindUnavailable, "test", "store is down")
		if r := b.invoke(b.version("b", "two")); kiln.KindOf(r.err) != kiln.KindUnavailable {
			t.Errorf("store down: %v", r.err)
		}
	})
}

// Draining refuses what is new, waits for what runs, and the stop leaves nothing.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, fake.Config{Handle: busy(3 * time.Second)}, nil)
		<-b.pool.Ready()
		v := b.version("a", "one")
		done := make(chan result, 1)
		go func() { done <- b.invoke(v) }()
		time.Sleep(time.Second)
		began := time.Now()
		if err := b.pool.Drain(context.Background()); err != nil {
			t.Error(err)
		}
		if r := <-done; r.answer.Failure != nil || time.Since(began) < time.Second {
			t.Errorf("drained after %s: %+v", time.Since(began), r)
		}
		if r := b.invoke(v); kiln.KindOf(r.err) != kiln.KindUnavailable {
			t.Errorf("after draining: %v", r.err)
		}
		b.stop()
	})
}

// A caller that gives up while it waits leaves nothing leased.
func TestAbandon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, fake.Config{}, nil)
		defer b.stop()
		<-b.pool.Ready()
		for wait := range 80 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(wait)*time.Millisecond)
			v := b.version("a", fmt.Sprint("f", wait%8))
			lease, err := b.pool.Acquire(ctx, Need{RequestID: kiln.RequestID(fmt.Sprint("r", wait)), Version: v, MemoryMiB: 128})
			if err == nil {
				b.pool.Release(&lease, false)
			}
			cancel()
		}
		if err := b.pool.Drain(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

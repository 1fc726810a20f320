package invoke

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kiln"
	"kiln/internal/admission"
	"kiln/internal/driver/fake"
	"kiln/internal/engine"
	"kiln/internal/ledger"
	"kiln/internal/manager"
	"kiln/internal/node"
	"kiln/internal/pool"
	"kiln/internal/registry"
)

const owner = kiln.DefaultAccount

var shape = kiln.Shape{MemoryMiB: 2048, CPUs: 2}

// functions is a registry with the functions "small" (128 MiB, 3 s) and "big" (as much as an instance has) and "several"
// (three executions at once in a container), all active. It is made outside of any bubble: what Invoke asks of it is its local copy.
func functions(t *testing.T) *registry.Registry {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	e, err := engine.Open(t.Context(), engine.Config{Dir: t.TempDir(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	r, err := registry.Open(t.Context(), e, registry.Config{Verify: func(context.Context, kiln.Digest) error { return nil }, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	for name, memory := range map[string]int{"small": 128, "big": shape.MemoryMiB, "several": 256} {
		concurrency := 0
		if name == "several" {
			concurrency = 3
		}
		_, err := r.Create(t.Context(), registry.CreateInput{Version: kiln.Version{Account: owner, Function: name, Package: kiln.Digest(strings.Repeat("a", 64)),
			PackageBytes: 100, Runtime: "python3.11", Handler: "a.b", MemoryMiB: memory, TimeoutMillis: 3000, Concurrency: concurrency}})
		if err != nil {
			t.Fatal(err)
		}
		for {
			if _, err = r.Resolve(owner, name, ""); kiln.KindOf(err) != kiln.KindConflict {
				break
			}
			select {
			case <-time.After(time.Millisecond):
			case <-t.Context().Done():
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	return r
}

// packages is a package cache that has everything.
type packages struct{}

func (packages) Acquire(_ context.Context, digest kiln.Digest) (node.Package, error) {
	return node.Package{Dir: "/packages/" + string(digest), Release: func() {}}, nil
}

func (packages) Over() int64 { return 0 }

// house is an Invoker over the fake driver, put together as server does, in a bubble.
type house struct {
	*Invoker
	t      *testing.T
	driver *fake.Driver
	ledger *ledger.Ledger
	// deaf, when true, keeps the pool from being told of a container's end.
	deaf atomic.Bool
	ids  atomic.Int64
}

// in runs a test in a bubble with a house whose guests do as config says. At its end every request has one record, and
// nothing is left.
func in(t *testing.T, config fake.Config, change func(*manager.Settings, *Config), test func(*house)) {
	functions := functions(t)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := &house{t: t}
		quiet := slog.New(slog.DiscardHandler)
		var err error
		if h.ledger, err = ledger.Open(dir, ledger.Config{Logger: quiet}); err != nil {
			t.Fatal(err)
		}
		var p *pool.Pool
		config.StartTime = func(kiln.ContainerSpec) time.Duration { return 40 * time.Millisecond }
		config.Output = func(id kiln.ContainerID, b []byte) { h.Output(id, b) }
		config.Exited = func(e kiln.Exit) {
			if !h.deaf.Load() {
				p.Exited(e)
			}
		}
		h.driver = fake.New(config)
		emit := func(e kiln.Event) {
			h.ledger.AppendEvent(e)
			switch e.Kind {
			case kiln.EventContainerCreate:
				h.Created(e.Container)
			case kiln.EventContainerTerminate, kiln.EventContainerFail:
				h.Ended(e.Container)
			}
		}
		python := kiln.Runtime{Name: "python3.11", Kind: kiln.RuntimeManaged}
		n := node.New(node.Config{ID: "n", Region: kiln.DefaultRegion, Driver: h.driver, Cache: packages{}, Rand: rand.Reader, Emit: emit,
			Runtimes: func(string) (kiln.Runtime, bool) { return python, true }})
		settings := manager.Settings{InstancesMax: 8, Shapes: []kiln.Shape{shape}, AllowanceMiB: 256, RetentionContainer: 10 * time.Minute,
			RetentionInstance: 15 * time.Minute, WaitMax: 10 * time.Second, WaitingMax: 1000}
		cfg := Config{Registry: functions, Node: n, Ledger: h.ledger, AccountLimit: 100, Region: kiln.DefaultRegion, Logger: quiet}
		if change != nil {
			change(&settings, &cfg)
		}
		p = pool.New(pool.Config{Node: n, Emit: emit, Logger: quiet, Fleets: []pool.FleetConfig{{Name: kiln.FleetLowVolume, Settings: settings}},
			Runtimes: func(string) (kiln.Runtime, bool, error) { return python, true, nil }})
		cfg.Pool = p
		h.Invoker = New(cfg)
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		for _, run := range []func(context.Context) error{p.Run, h.ledger.Run} {
			running.Go(func() {
				if err := run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		test(h)
		h.everyRequestHasOneRecord()
		h.logIsBalanced("small")
		h.logIsBalanced("big")
		cancel()
		running.Wait()
		if i, c, _ := h.driver.Alive(); i+c > 0 {
			t.Errorf("%d instances and %d containers are left", i, c)
		}
	})
}

// ask makes a request; invoke executes it.
func (h *house) ask(function string) *Request {
	return &Request{ID: kiln.RequestID(fmt.Sprintf("r-%03d", h.ids.Add(1))), Caller: owner, Account: owner, Function: function,
		Trigger: kiln.TriggerInvoke, Payload: []byte(`{"a":1}`), Received: time.Now()}
}

func (h *house) invoke(req *Request) (Result, error) {
	var res Result
	err := h.Invoke(context.Background(), req, &res)
	return res, err
}

// must executes a request that is admitted.
func (h *house) must(req *Request) Result {
	h.t.Helper()
	res, err := h.invoke(req)
	if err != nil {
		h.t.Fatal(err)
	}
	return res
}

// record is what was kept of a request.
func (h *house) record(id kiln.RequestID) kiln.Record {
	h.t.Helper()
	r, err := h.ledger.Execution(context.Background(), id)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// log gives the log lines of a request, or all of them.
func (h *house) log(function string, id kiln.RequestID) []string {
	var texts []string
	for _, line := range h.ledger.Log(owner, function).Tail(ledger.Tail{RequestID: id}) {
		texts = append(texts, line.Text)
	}
	return texts
}

func (h *house) everyRequestHasOneRecord() {
	h.t.Helper()
	items, _ := h.ledger.Executions(context.Background(), ledger.Filter{Limit: ledger.MaxLimit})
	seen := map[kiln.RequestID]bool{}
	for _, r := range items {
		if seen[r.RequestID] {
			h.t.Errorf("%s has two records", r.RequestID)
		}
		seen[r.RequestID] = true
	}
	if len(items) != int(h.ids.Load()) {
		h.t.Errorf("%d records of %d requests", len(items), h.ids.Load())
	}
}

// logIsBalanced checks that each request's lines begin with its START, end with its END and REPORT, and that between the
// two stand no others of its container.
func (h *house) logIsBalanced(function string) {
	h.t.Helper()
	open := map[kiln.ContainerID]kiln.RequestID{}
	ended := map[kiln.RequestID]int{}
	for _, line := range h.ledger.Log(owner, function).Tail(ledger.Tail{}) {
		kind, _, _ := strings.Cut(line.Text, " ")
		is := func(word string) bool {
			return strings.HasPrefix(line.Text, word+" RequestId: "+string(line.RequestID))
		}
		switch running := open[line.Container]; {
		case kind == "START" && is("START"):
			if running != "" {
				h.t.Errorf("%s starts while %s runs in %s", line.RequestID, running, line.Container)
			}
			open[line.Container] = line.RequestID
		case kind == "REPORT" && is("REPORT"):
			ended[line.RequestID]++
		case line.RequestID != running:
			h.t.Errorf("%q is of %s, while %s runs in %s", line.Text, line.RequestID, running, line.Container)
		case kind == "END" && is("END"):
			delete(open, line.Container)
		}
	}
	if len(open) > 0 {
		h.t.Errorf("without END: %v", open)
	}
	for id, n := range ended {
		if n != 1 {
			h.t.Errorf("%s is reported %d times", id, n)
		}
	}
}

// pause passes virtual time.
func pause(d time.Duration) { time.Sleep(d) }

func failed(outcome kiln.Outcome, kind, message string) *kiln.Failure {
	return &kiln.Failure{Outcome: outcome, Type: kind, Payload: fmt.Appendf(nil, `{"errorMessage":%q,"errorType":%q}`, message, kind)}
}

// What the code prints stands between START and END, the tail has it whole, and the record tells of the execution.
// R1 R3 R18
func TestInvokeAnswersAndRecords(t *testing.T) {
	in(t, fake.Config{Handle: func(_ context.Context, g *fake.Guest, e *kiln.Delivery) ([]byte, *kiln.Failure) {
		g.Print("one\n\ntwo")
		pause(20 * time.Millisecond)
		g.Print(" ends\nlast")
		return e.Payload, nil
	}}, nil, func(h *house) {
		for round, path := range []kiln.Path{kiln.PathInstantiated, kiln.PathContainer} {
			req := h.ask("small")
			req.Tail = true
			res := h.must(req)
			rec := h.record(req.ID)
			if string(res.Payload) != `{"a":1}` || res.Failed || rec.Outcome != kiln.OutcomeSuccess || rec.Path != path || rec.DurationMs != kiln.Millis(20*time.Millisecond) {
				t.Errorf("round %d: %s, %+v", round, res.Payload, rec)
			}
			lines := strings.Split(string(res.LogTail), "\n")
			want := []string{"START RequestId: " + string(req.ID) + " Version: $LATEST", "one", "", "two ends", "last", "END RequestId: " + string(req.ID)}
			if len(lines) != 8 || strings.Join(lines[:6], "\n") != strings.Join(want, "\n") || !strings.HasPrefix(lines[6], "REPORT RequestId: "+string(req.ID)) {
				t.Errorf("round %d: the tail is %q", round, res.LogTail)
			}
		}
		req := h.ask("small")
		if res := h.must(req); res.LogTail != nil {
			t.Errorf("a tail nobody asked for: %q", res.LogTail)
		}
		req = h.ask("small")
		req.Payload = nil
		if res := h.must(req); string(res.Payload) != "{}" {
			t.Errorf("no event came back as %s", res.Payload)
		}
	})
}

// The tail is at most 4 KiB of what was written last, and always has the end.
// R18
func TestTailIsBounded(t *testing.T) {
	in(t, fake.Config{Handle: func(_ context.Context, g *fake.Guest, e *kiln.Delivery) ([]byte, *kiln.Failure) {
		for i := range 1000 {
			g.Print(fmt.Sprintf("line %d\n", i))
		}
		g.Print(strings.Repeat("x", 3*maxPartialBytes))
		g.Print("\nlast\n")
		return nil, nil
	}}, nil, func(h *house) {
		req := h.ask("small")
		req.Tail = true
		tail := string(h.must(req).LogTail)
		if len(tail) > TailBytes || len(tail) < TailBytes-1024 || !strings.Contains(tail, "\nlast\nEND RequestId: ") || !strings.Contains(tail, "\nREPORT RequestId: ") {
			t.Errorf("%d bytes of tail: %.100s … %s", len(tail), tail, tail[max(len(tail)-300, 0):])
		}
		if lines := h.log("small", req.ID); len(lines) < 1000+5 || lines[1] != "line 0" || lines[1000] != "line 999" {
			t.Errorf("%d lines in the log", len(lines))
		}
	})
}

// An event that its container certainly never saw goes to another one, and its log begins once; when no container takes
// it the request fails, is recorded, and leaves no line.
func TestUndeliveredEventIsRetried(t *testing.T) {
	var first sync.Map
	in(t, fake.Config{Handle: func(_ context.Context, g *fake.Guest, e *kiln.Delivery) ([]byte, *kiln.Failure) {
		first.Store(g.ID, true)
		pause(time.Second)
		return e.Payload, nil
	}}, nil, func(h *house) {
		killAll := func() (n int) { // and the pool is not told: it believes them idle
			h.deaf.Store(true)
			defer h.deaf.Store(false)
			first.Range(func(id, _ any) bool {
				if h.driver.Kill(id.(kiln.ContainerID), "exit status 9", false) {
					n++
				}
				return true
			})
			return n
		}
		was := h.must(h.ask("small")).Record.Container
		if n := killAll(); n != 1 {
			t.Fatalf("%d containers were killed", n)
		}
		req := h.ask("small")
		res := h.must(req)
		if res.Failed || res.Record.Container == was || res.Record.Outcome != kiln.OutcomeSuccess {
			t.Errorf("after a silent end: %+v", res.Record)
		}
		if lines := h.log("small", req.ID); len(lines) != 3 || !strings.HasPrefix(lines[0], "START") {
			t.Errorf("its log: %q", lines)
		}
		var wg sync.WaitGroup
		for range tries {
			req := h.ask("small")
			wg.Go(func() {
				if _, err := h.invoke(req); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := killAll(); n != tries {
			t.Fatalf("%d containers were killed", n)
		}
		req = h.ask("small")
		_, err := h.invoke(req)
		if kiln.KindOf(err) != kiln.KindInternal {
			t.Errorf("when no container takes it: %v", err)
		}
		if rec := h.record(req.ID); rec.Outcome != kiln.OutcomeFailed || rec.ErrorMessage == "" {
			t.Errorf("its record: %+v", rec)
		}
		if lines := h.log("small", req.ID); len(lines) != 0 {
			t.Errorf("its log: %q", lines)
		}
	})
}

// A failed initialisation is the request's that waited for it: its output, its failure, and its record.
func TestInitFailure(t *testing.T) {
	var fail atomic.Bool
	fail.Store(true)
	in(t, fake.Config{Bind: func(_ context.Context, g *fake.Guest, _ kiln.Binding) kiln.InitResult {
		g.Print("importing\nTraceback")
		if fail.Load() {
			return kiln.InitResult{Duration: time.Second, Failure: failed(kiln.OutcomeInit, "Runtime.ExitError", "Runtime exited with error: exit status 1")}
		}
		return kiln.InitResult{Duration: time.Second}
	}}, nil, func(h *house) {
		req := h.ask("small")
		req.Tail = true
		res := h.must(req)
		rec := h.record(req.ID)
		if !res.Failed || rec.Outcome != kiln.OutcomeInit || rec.ErrorType != "Runtime.ExitError" || rec.InitMs != kiln.Millis(time.Second) {
			t.Errorf("%s, %+v", res.Payload, rec)
		}
		if !strings.Contains(string(res.Payload), "RequestId: "+string(req.ID)+" Error: Runtime exited with error") {
			t.Errorf("the answer does not name the request: %s", res.Payload)
		}
		lines := strings.Split(string(res.LogTail), "\n")
		if len(lines) != 7 || !strings.HasPrefix(lines[0], "START") || lines[1] != "importing" || lines[2] != "Traceback" || !strings.HasPrefix(lines[4], "END") {
			t.Errorf("the tail: %q", lines)
		}
		fail.Store(false)
		req = h.ask("small")
		if res := h.must(req); res.Failed || res.Record.Container == rec.Container {
			t.Errorf("the next one: %+v", res.Record)
		}
		if lines := h.log("small", req.ID); len(lines) != 5 || lines[1] != "importing" || lines[2] != "Traceback" {
			t.Errorf("its log: %q", lines)
		}
	})
}

// A crash, the memory's end and the timeout are reported as what they are, what was printed is kept, and the next request
// gets another container.
// R16 R44
func TestExecutionsThatEndBadly(t *testing.T) {
	in(t, fake.Config{Handle: func(ctx context.Context, g *fake.Guest, e *kiln.Delivery) ([]byte, *kiln.Failure) {
		g.Print("half a line")
		switch string(e.Payload) {
		case `"crash"`:
			g.Exit("exit status 3", false)
		case `"memory"`:
			g.Exit("signal: killed", true)
		case `"timeout"`:
			<-ctx.Done()
		case `"error"`:
			return nil, failed(kiln.OutcomeError, "ValueError", "no")
		}
		return e.Payload, nil
	}}, nil, func(h *house) {
		for _, row := range []struct {
			event   string
			outcome kiln.Outcome
			kind    string
			says    string // the platform's line in the log
			fresh   bool   // the next request gets another container
		}{
			{`"crash"`, kiln.OutcomeCrash, "Runtime.ExitError", "Runtime exited with error: exit status 3", true},
			{`"memory"`, kiln.OutcomeMemory, "Runtime.OutOfMemory", "Runtime exited with error: signal: killed", true},
			{`"timeout"`, kiln.OutcomeTimeout, "Sandbox.Timedout", "Task timed out after 3.00 seconds", true},
			{`"error"`, kiln.OutcomeError, "ValueError", "", false},
		} {
			req := h.ask("small")
			req.Payload = []byte(row.event)
			res := h.must(req)
			rec := h.record(req.ID)
			if !res.Failed || rec.Outcome != row.outcome || rec.ErrorType != row.kind {
				t.Errorf("%s: %s, %+v", row.event, res.Payload, rec)
			}
			if row.outcome == kiln.OutcomeTimeout && rec.DurationMs != kiln.Millis(3*time.Second) {
				t.Errorf("%s took %v ms", row.event, rec.DurationMs)
			}
			lines := h.log("small", req.ID)
			if len(lines) < 4 || lines[1] != "half a line" || row.says != "" && !strings.Contains(lines[2], row.says) {
				t.Errorf("%s: its log: %q", row.event, lines)
			}
			next := h.must(h.ask("small"))
			if next.Failed || (next.Record.Container != rec.Container) != row.fresh {
				t.Errorf("after %s: %+v", row.event, next.Record)
			}
		}
	})
}

// Requests that wait for the one container there can be get it one after the other, and each keeps its own lines, also
// those without an end.
// R37 R43
func TestHandOverKeepsLinesApart(t *testing.T) {
	const requests = 50
	in(t, fake.Config{Handle: func(_ context.Context, g *fake.Guest, e *kiln.Delivery) ([]byte, *kiln.Failure) {
		g.Print("begin " + string(e.RequestID) + "\n")
		pause(10 * time.Millisecond)
		g.Print("end " + string(e.RequestID)) // the next one is handed the container at once
		return e.Payload, nil
	}}, func(s *manager.Settings, _ *Config) { s.InstancesMax = 1 }, func(h *house) {
		var wg sync.WaitGroup
		var all []*Request
		for range requests {
			req := h.ask("big")
			req.Tail = true
			all = append(all, req)
			wg.Go(func() {
				res, err := h.invoke(req)
				if err != nil || strings.Count(string(res.LogTail), "\n") != 5 {
					t.Errorf("%s: %v, tail %q", req.ID, err, res.LogTail)
				}
			})
		}
		wg.Wait()
		containers := map[kiln.ContainerID]bool{}
		for _, req := range all {
			containers[h.record(req.ID).Container] = true
			lines := h.log("big", req.ID)
			if len(lines) != 5 || lines[1] != "begin "+string(req.ID) || lines[2] != "end "+string(req.ID) {
				t.Errorf("%s: its log: %q", req.ID, lines)
			}
		}
		if len(containers) != 1 {
			t.Errorf("%d containers served them", len(containers))
		}
		if n := len(h.log("big", "")); n != 5*requests {
			t.Errorf("%d lines, want %d", n, 5*requests)
		}
	})
}

// The amount a request states, in its header or its client context, is what its container has; an amount that is none is
// refused without a record.
// R4 R5
func TestAmountAskedFor(t *testing.T) {
	in(t, fake.Config{}, nil, func(h *house) {
		for _, row := range []struct {
			header        int
			clientContext string
			want          int // 0: refused
		}{
			{0, "", 128}, {512, "", 512}, {0, `{"custom":{"kiln:memory":"768"}}`, 768}, {0, `{"custom":{"kiln:memory":768}}`, 768},
			{0, `{"custom":{"other":"1"}}`, 128}, {512, `{"custom":{"kiln:memory":"768"}}`, 512},
			{1, "", 0}, {0, `{"custom":{"kiln:memory":"0"}}`, 0}, {0, `{"custom":{"kiln:memory":"much"}}`, 0},
			{0, `{"custom":{"kiln:memory":"99999999"}}`, 0}, {0, `{"custom":{"kiln:memory":`, 0},
		} {
			req := h.ask("small")
			req.MemoryMiB, req.ClientContext = row.header, []byte(row.clientContext)
			_, err := h.invoke(req)
			if row.want == 0 {
				h.ids.Add(-1)
				if kiln.KindOf(err) != kiln.KindInvalid {
					t.Errorf("%d %s: %v", row.header, row.clientContext, err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("%d %s: %v", row.header, row.clientContext, err)
			}
			if rec := h.record(req.ID); rec.Memory.AskedMiB != row.want || rec.Memory.AllocatedMiB != row.want {
				t.Errorf("%d %s: %+v", row.header, row.clientContext, rec.Memory)
			}
		}
	})
}

// A request beyond its account's limit is throttled at once, one beyond the machine's capacity after its wait; both are
// recorded with the reason.
// R29 R36
func TestThrottlingIsRecorded(t *testing.T) {
	in(t, fake.Config{Handle: func(_ context.Context, _ *fake.Guest, e *kiln.Delivery) ([]byte, *kiln.Failure) {
		pause(2 * time.Second)
		return e.Payload, nil
	}}, func(s *manager.Settings, c *Config) {
		c.AccountLimit, s.InstancesMax, s.WaitMax = 2, 1, time.Second
	}, func(h *house) {
		running := h.ask("big")
		var wg sync.WaitGroup
		wg.Go(func() { h.must(running) })
		pause(time.Second)
		waiting := h.ask("big")
		wg.Go(func() {
			if _, err := h.invoke(waiting); kiln.KindOf(err) != kiln.KindThrottled {
				t.Errorf("beyond the capacity: %v", err)
			}
		})
		synctest.Wait()
		over := h.ask("small")
		_, err := h.invoke(over)
		e, ok := errors.AsType[*kiln.Error](err)
		if !ok || e.Kind != kiln.KindThrottled || e.Reason != admission.ReasonAccount {
			t.Errorf("beyond the limit: %v", err)
		}
		wg.Wait()
		for _, req := range []*Request{waiting, over} {
			rec := h.record(req.ID)
			if rec.Outcome != kiln.OutcomeThrottled || rec.ErrorMessage == "" || !rec.Times.CodeStart.IsZero() || rec.Times.Answered.IsZero() {
				t.Errorf("%s: %+v", req.ID, rec)
			}
		}
		if rec := h.record(waiting.ID); rec.Times.Answered.Sub(rec.Times.Received.Time) != time.Second {
			t.Errorf("it waited %v", rec.Times.Answered.Sub(rec.Times.Received.Time))
		}
		if rec := h.record(over.ID); rec.ErrorType != admission.ReasonAccount {
			t.Errorf("its reason: %q", rec.ErrorType)
		}
		if rec := h.record(running.ID); rec.Outcome != kiln.OutcomeSuccess {
			t.Errorf("the one that ran: %+v", rec)
		}
	})
}

package drivertest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"kiln"
	"kiln/internal/node"
)

// life: an event runs in a container that was prepared before its code was known; the container keeps its state from one
// to the next; both deletes may be repeated.
func life(b *bench) {
	i := b.instance()
	c := b.container(i, "provided", nil)
	b.bind(c, binding(b.compiled(i, "one"), "h", map[string]string{"GREETING": "it's\n\"$HOME\""}))
	for n := 1; n <= 3; n++ {
		got := b.info(c)
		if got.Count != n || got.Constant != "one" || got.Env["GREETING"] != "it's\n\"$HOME\"" || got.Env["AWS_LAMBDA_RUNTIME_API"] == "" {
			b.Errorf("execution %d: %+v", n, got)
		}
	}
	large := `"` + strings.Repeat("x", 2<<20) + `"`
	if a := b.execute(c, large, patience); string(a.Payload) != large || a.Start.IsZero() || a.End.Before(a.Start) {
		b.Errorf("large event: %d bytes, %+v", len(a.Payload), a.Failure)
	}
	for range 2 {
		if err := b.Driver.DeleteContainer(b.Context(), c); err != nil {
			b.Error(err)
		}
	}
	if a := b.execute(c, "{}", patience); !a.Lost || !a.Undelivered {
		b.Errorf("executed after its deletion: %+v", a)
	}
	c = b.ready(i, b.compiled(i, "two"))
	for range 2 {
		if err := b.Driver.DeleteInstance(b.Context(), i); err != nil {
			b.Error(err)
		}
	}
	if a := b.execute(c, "{}", patience); !a.Lost || !a.Undelivered {
		b.Errorf("executed after its instance's deletion: %+v", a)
	}
}

// unknown: calls that name nothing say so, deletes of nothing are no error.
func unknown(b *bench) {
	if err := b.Driver.DeleteInstance(b.Context(), "i-0"); err != nil {
		b.Error(err)
	}
	if err := b.Driver.DeleteContainer(b.Context(), "c-0"); err != nil {
		b.Error(err)
	}
	if err := b.Driver.AttachPackage(b.Context(), "i-0", "d", b.TempDir()); kiln.KindOf(err) != kiln.KindNotFound {
		b.Errorf("attach: %v", err)
	}
	r, _ := b.runtime("provided")
	if _, err := b.Driver.CreateContainer(b.Context(), kiln.ContainerSpec{ID: "c-0", Instance: "i-0", Runtime: r}); kiln.KindOf(err) != kiln.KindNotFound {
		b.Errorf("create container: %v", err)
	}
	if _, err := b.Driver.BindContainer(b.Context(), "c-0", binding(b.TempDir(), "h", nil)); kiln.KindOf(err) != kiln.KindNotFound {
		b.Errorf("bind: %v", err)
	}
	if a := b.execute("c-0", "{}", patience); !a.Lost || !a.Undelivered || a.Failure == nil {
		b.Errorf("execute: %+v", a)
	}
}

// lateCode: two containers of one instance, both prepared before either package was there, run different code.
func lateCode(b *bench) {
	i := b.instance()
	first, second := b.container(i, "provided", nil), b.container(i, "provided", nil)
	b.bind(first, binding(b.compiled(i, "one"), "h", nil))
	b.bind(second, binding(b.compiled(i, "two"), "h", nil))
	if x, y := b.info(first), b.info(second); x.Constant != "one" || y.Constant != "two" {
		b.Errorf("constants %q and %q", x.Constant, y.Constant)
	}
}

// output: what the code wrote before its answer has reached the sink when Execute returns, whole and in order, in pieces
// of bounded size, and nothing comes after the container is deleted.
func output(b *bench) {
	i := b.instance()
	dir := b.compiled(i, "one")
	c, other := b.ready(i, dir), b.ready(i, dir)
	b.execute(c, `{"do":"print","arg":"small"}`, patience)
	written := func(id kiln.ContainerID) []byte {
		b.mu.Lock()
		defer b.mu.Unlock()
		return bytes.Clone(b.written[id])
	}
	if got := string(written(c)); got != "small\nsmall\n" {
		b.Errorf("wrote %q", got)
	}
	const size = 4 << 20
	b.execute(c, fmt.Sprintf(`{"do":"print","arg":"end","n":%d}`, size), patience)
	got := written(c)
	if !bytes.HasSuffix(got, []byte("x\nend\nend\n")) || len(got) < size || bytes.Count(got, []byte("x")) < size/100*99 {
		b.Errorf("wrote %d bytes ending in %q", len(got), got[max(0, len(got)-20):])
	}
	if len(written(other)) != 0 {
		b.Error("output of one container reached another's")
	}
	if b.largest > 64<<10 {
		b.Errorf("a piece of %d bytes", b.largest)
	}
	if err := b.Driver.DeleteContainer(b.Context(), c); err != nil {
		b.Error(err)
	}
	if after := written(c); len(after) != len(got) {
		b.Errorf("%d bytes more at its deletion", len(after)-len(got))
	}
}

// functionError: an error the code reports is its answer, and the container goes on.
func functionError(b *bench) {
	i := b.instance()
	c := b.ready(i, b.compiled(i, "one"))
	a := b.execute(c, `{"do":"error","arg":"no luck"}`, patience)
	if a.Failure == nil || a.Failure.Outcome != kiln.OutcomeError || a.Failure.Type != "Custom" || a.Lost ||
		string(a.Payload) != `{"errorType":"Custom","errorMessage":"no luck"}` {
		b.Errorf("%+v %s", a, a.Payload)
	}
	if got := b.info(c); got.Count != 2 {
		b.Errorf("afterwards: %+v", got)
	}
}

// crash: a process that ends is told once, ends its execution and no other's.
func crash(b *bench) {
	i := b.instance()
	dir := b.compiled(i, "one")
	neighbour := b.ready(i, dir)
	for event, status := range map[string]string{`{"do":"exit","n":3}`: "exit status 3", `{"do":"panic","arg":"x"}`: "exit status 2", `{"do":"exit"}`: "exit status 0"} {
		c := b.ready(i, dir)
		a := b.execute(c, event, patience)
		b.wantLost(a, kiln.OutcomeCrash, "Runtime.ExitError")
		b.eventually("Exited", func() bool { return len(b.exits[c]) > 0 })
		if a := b.execute(c, "{}", patience); !a.Lost || !a.Undelivered {
			b.Errorf("executed after its end: %+v", a)
		}
		if err := b.Driver.DeleteContainer(b.Context(), c); err != nil {
			b.Error(err)
		}
		b.mu.Lock()
		if e := b.exits[c]; len(e) != 1 || e[0].Status != status || e[0].Instance != i || e[0].Memory {
			b.Errorf("%s: exits %+v", event, e)
		}
		b.mu.Unlock()
	}
	if got := b.info(neighbour); got.Count != 1 {
		b.Errorf("neighbour: %+v", got)
	}
}

// timeout: the deadline ends the execution in time, and the deletion everything the code started.
func timeout(b *bench) {
	i := b.instance()
	c := b.ready(i, b.compiled(i, "one"))
	begin := time.Now()
	a := b.execute(c, `{"do":"spawn","n":60000}`, time.Second)
	b.wantLost(a, kiln.OutcomeTimeout, "Sandbox.Timedout")
	if took := time.Since(begin); took > 5*time.Second {
		b.Errorf("took %s", took)
	}
	if !strings.Contains(string(a.Payload), "Task timed out after 1.00 seconds") {
		b.Errorf("payload %s", a.Payload)
	}
	if err := b.Driver.DeleteContainer(b.Context(), c); err != nil {
		b.Error(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.exits) != 0 {
		b.Errorf("its deletion was told as an exit: %+v", b.exits)
	}
}

// many: fifty containers are made, bound, used and deleted at once, each with its own code.
func many(b *bench) {
	i := b.instance()
	dirs := []string{b.compiled(i, "0"), b.compiled(i, "1"), b.compiled(i, "2")}
	var wg sync.WaitGroup
	for n := range 50 {
		wg.Go(func() {
			c := b.container(i, "provided", nil)
			b.bind(c, binding(dirs[n%3], "h", nil))
			for range 3 {
				if got := b.info(c); got.Constant != strconv.Itoa(n%3) {
					b.Errorf("container %d: %+v", n, got)
				}
			}
			if n%2 == 0 {
				if err := b.Driver.DeleteContainer(b.Context(), c); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// deleteWhileExecuting: a deletion, of the container or of its instance, ends the execution at once.
func deleteWhileExecuting(b *bench) {
	for _, whole := range []bool{false, true} {
		i := b.instance()
		c := b.ready(i, b.compiled(i, "one"))
		done := make(chan kiln.Answer, 1)
		var wg sync.WaitGroup
		wg.Go(func() {
			b.execute(c, `{"do":"print","arg":"begun"}`, patience)
			done <- b.execute(c, `{"do":"sleep","n":50000}`, patience)
		})
		b.eventually("output", func() bool { return len(b.written[c]) > 0 })
		err := b.Driver.DeleteContainer(b.Context(), c)
		if whole {
			err = b.Driver.DeleteInstance(b.Context(), i)
		}
		if err != nil {
			b.Error(err)
		}
		select {
		case a := <-done:
			if !a.Lost || a.Failure == nil {
				b.Errorf("%+v", a)
			}
		case <-time.After(patience / 2):
			b.Error("Execute outlived its container")
		}
		wg.Wait()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.exits) != 0 {
		b.Errorf("a deletion was told as an exit: %+v", b.exits)
	}
}

// initFails: code that cannot start is a result, not an error.
func initFails(b *bench) {
	i := b.instance()
	for _, g := range []struct {
		binding kiln.Binding
		kind    string
	}{
		{binding(b.compiled(i, "one"), "h", map[string]string{"GUEST_INIT": "exit"}), "Runtime.ExitError"},
		{binding(b.code(i, map[string]string{"constant": "no program"}), "h", nil), "Runtime.InvalidEntrypoint"},
	} {
		c := b.container(i, "provided", nil)
		r, err := b.Driver.BindContainer(b.Context(), c, g.binding)
		if err != nil || r.Failure == nil || r.Failure.Type != g.kind || r.Failure.Outcome != kiln.OutcomeInit {
			b.Errorf("want %s: %+v, %v", g.kind, r.Failure, err)
		}
		if a := b.execute(c, "{}", patience); !a.Lost || !a.Undelivered {
			b.Errorf("executed without its code: %+v", a)
		}
		if err := b.Driver.DeleteContainer(b.Context(), c); err != nil {
			b.Error(err)
		}
	}
}

// fresh: a container made for one binding has its variables and its code.
func fresh(b *bench) {
	i := b.instance()
	g := binding(b.compiled(i, "one"), "h", map[string]string{"LD_SOMETHING": "early"})
	c := b.container(i, "provided", &g)
	b.bind(c, g)
	if got := b.info(c); got.Constant != "one" || got.Env["LD_SOMETHING"] != "early" {
		b.Errorf("%+v", got)
	}
}

// limits: the guest reads the limits it was given and is ended over its memory, or the driver says that it has none.
func limits(b *bench) {
	caps := b.Driver.Capabilities()
	i := b.instance()
	c := b.ready(i, b.compiled(i, "one"))
	got := b.info(c)
	if !caps.Limits {
		if len(caps.Notes) == 0 {
			b.Error("no limits, and no note that says so")
		}
		return
	}
	if got.Memory != strconv.Itoa(128<<20) {
		b.Errorf("memory limit %q", got.Memory)
	}
	if q, _, _ := strings.Cut(got.Quota, " "); q != "50000" {
		b.Errorf("processor limit %q", got.Quota)
	}
	neighbour := b.ready(i, b.compiled(i, "two"))
	b.wantLost(b.execute(c, `{"do":"alloc","n":256}`, patience), kiln.OutcomeMemory, "Runtime.OutOfMemory")
	b.eventually("Exited", func() bool { return len(b.exits[c]) == 1 && b.exits[c][0].Memory })
	if got := b.info(neighbour); got.Constant != "two" {
		b.Errorf("neighbour: %+v", got)
	}
}

// resize: a bound container's limits change while its process lives, or the driver is no Resizer.
func resize(b *bench) {
	r, ok := b.Driver.(node.Resizer)
	if can := b.Driver.Capabilities().Resize; can != ok {
		b.Fatalf("Capabilities.Resize is %v, node.Resizer %v", can, ok)
	}
	if !ok {
		return
	}
	i := b.instance()
	c := b.ready(i, b.compiled(i, "one"))
	b.info(c)
	if err := r.Resize(b.Context(), c, kiln.Amounts{MemoryMiB: 256, MilliCPUs: 1000, DiskMiB: 512, Processes: 64}); err != nil {
		b.Fatal(err)
	}
	if got := b.info(c); got.Count != 2 || got.Memory != strconv.Itoa(256<<20) {
		b.Errorf("%+v", got)
	}
}

// rested is how long a paused container is watched for signs of life: several periods of a processor limit.
const rested = 500 * time.Millisecond

// pause: what runs in the background of an idle container stands still while it is paused and goes on afterwards; a paused
// container is not taken for a broken one, executes once it is resumed, and is deleted without a trace, alone or with its
// instance; or the driver says that it cannot.
func pause(b *bench) {
	p, ok := b.Driver.(node.Pauser)
	can := b.Driver.Capabilities().Pause
	if can && !ok {
		b.Fatal("Capabilities.Pause without node.Pauser")
	}
	i := b.instance()
	dir := b.compiled(i, "one")
	c := b.ready(i, dir)
	if !can {
		if ok && p.Pause(b.Context(), c) == nil {
			b.Error("paused without Capabilities.Pause")
		}
		return
	}
	b.execute(c, `{"do":"tick"}`, patience)
	for range 2 { // what was resumed can be paused again
		standStill(b, p, i, c)
	}
	if got := b.info(c); got.Count != 2 || got.Constant != "one" {
		b.Errorf("resumed: %+v", got)
	}
	if err := p.Pause(b.Context(), "c-0"); kiln.KindOf(err) != kiln.KindNotFound {
		b.Errorf("pause unknown: %v", err)
	}
	if err := p.Resume(b.Context(), "c-0"); kiln.KindOf(err) != kiln.KindNotFound {
		b.Errorf("resume unknown: %v", err)
	}
	for _, id := range []kiln.ContainerID{c, b.ready(i, dir)} { // the second goes with its instance
		if err := p.Pause(b.Context(), id); err != nil {
			b.Fatal(err)
		}
	}
	if err := b.Driver.DeleteContainer(b.Context(), c); err != nil {
		b.Error(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.exits) != 0 {
		b.Errorf("a pause was told as an exit: %+v", b.exits)
	}
}

// standStill pauses a container that writes ticks in the background, twice, and resumes it, twice, and wants none between.
func standStill(b *bench, p node.Pauser, i kiln.InstanceID, c kiln.ContainerID) {
	b.Helper()
	count := func() int { return bytes.Count(b.written[c], []byte("tick\n")) }
	ticks := func() int {
		b.mu.Lock()
		defer b.mu.Unlock()
		return count()
	}
	for range 2 {
		if err := p.Pause(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
	begin, still := time.Now(), -1
	for still != ticks() { // it may rest only in the next period of its processor limit
		if still = ticks(); time.Since(begin) > patience {
			b.Fatalf("still running after %s", patience)
		}
		<-time.After(rested)
	}
	if check, ok := b.Driver.(node.Checker); ok {
		if sick := check.Check(b.Context(), i); len(sick) > 0 {
			b.Errorf("a paused container is taken for a broken one: %+v", sick)
		}
	}
	if <-time.After(rested); ticks() != still {
		b.Error("it ran while it was paused")
	}
	for range 2 {
		if err := p.Resume(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
	b.eventually("a tick", func() bool { return count() > still })
}

// detach: a package no container uses can be taken out, so that its folder can go, and brought back; another in use is not
// touched by that, nor are unknown names a failure; or the driver is no Detacher.
func detach(b *bench) {
	d, ok := b.Driver.(node.Detacher)
	if !ok {
		return
	}
	i := b.instance()
	one, two := b.compiled(i, "one"), b.compiled(i, "two")
	used, gone := b.ready(i, one), b.ready(i, two)
	b.info(gone)
	if err := b.Driver.DeleteContainer(b.Context(), gone); err != nil {
		b.Fatal(err)
	}
	for range 2 {
		if err := d.DetachPackage(b.Context(), i, digest(two)); err != nil {
			b.Fatal(err)
		}
	}
	if err := errors.Join(d.DetachPackage(b.Context(), i, "none"), d.DetachPackage(b.Context(), "i-0", digest(one))); err != nil {
		b.Error(err)
	}
	if err := os.WriteFile(filepath.Join(two, "constant"), []byte("three"), 0o644); err != nil {
		b.Fatal(err)
	}
	if got := b.info(used); got.Constant != "one" {
		b.Errorf("in use: %+v", got)
	}
	if err := b.Driver.AttachPackage(b.Context(), i, digest(two), two); err != nil {
		b.Fatal(err)
	}
	if got := b.info(b.ready(i, two)); got.Constant != "three" {
		b.Errorf("attached again: %+v", got)
	}
}

// isolation: containers see nothing of each other's files and bear their own names, or the driver says that they do not.
func isolation(b *bench) {
	caps := b.Driver.Capabilities()
	if !caps.Isolated {
		if len(caps.Notes) == 0 {
			b.Error("no isolation, and no note that says so")
		}
		return
	}
	i := b.instance()
	dir := b.compiled(i, "one")
	first, second := b.ready(i, dir), b.ready(i, dir)
	b.execute(first, `{"do":"write","arg":"secret"}`, patience)
	x, y := b.info(first), b.info(second)
	if x.Marker != "secret" || y.Marker != "" {
		b.Errorf("markers %q and %q", x.Marker, y.Marker)
	}
	if x.Host != string(first) || y.Host != string(second) || x.Machine == "" || x.Machine != y.Machine {
		b.Errorf("names %q %q, %q %q", x.Host, y.Host, x.Machine, y.Machine)
	}
}

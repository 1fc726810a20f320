//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"kiln/internal/client"
)

// How much is done between two looks at the server; the size with -full.
const (
	growthExecutions      = 20_000
	growthExecutionsQuick = 4_000
	growthExecutionsFull  = 200_000
	growthLives           = 150
	growthLivesQuick      = 30
	growthLivesFull       = 2_000
	growthSettle          = 10 * time.Second // bounds the wait for what is being let go
)

// usage is what a server holds.
type usage struct {
	resident                                    float64 // MB
	descriptors, mounts, cgroups, goroutines, n float64
}

// measureGrowth looks at the server, has it do much, and looks again: nothing may be held that was not held before. What
// is kept on purpose (records, events, logs) is bounded to little, so that its bounds are reached before the first look.
func measureGrowth(ctx context.Context, b *bench) (err error) {
	s, err := launch(map[string]string{"ledger.records": "16", "ledger.events": "16"})
	if err != nil {
		return err
	}
	defer s.stop(&err)
	c, err := b.newCaller(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.end()) }()
	as, err := s.newAccount(ctx)
	if err != nil {
		return err
	}
	f, err := guest("raw", "growth", wideMemory)
	if err != nil {
		return err
	}
	if err := deploy(ctx, as, f); err != nil {
		return err
	}
	executions, lives := scale(b, growthExecutions, growthExecutionsQuick), scale(b, growthLives, growthLivesQuick)
	if b.full {
		executions, lives = growthExecutionsFull, growthLivesFull
	}
	if err := s.exercise(ctx, c, as, executions/4, lives/4); err != nil {
		return err
	}
	if err := pause(ctx, settleTime); err != nil {
		return err
	}
	before, err := s.usage(ctx)
	if err != nil {
		return err
	}
	if err := s.exercise(ctx, c, as, executions, lives); err != nil {
		return err
	}
	after, err := s.settled(ctx, before)
	if err != nil {
		return err
	}
	add := func(what, unit string, value, against, bound float64) {
		b.add(Result{Name: "growth." + what, Value: value, Unit: unit, Rival: "before", Against: against, Ratio: value / max(against, 1e-9), Bound: bound})
	}
	b.say("growth: %d executions, %d container lives", executions, lives)
	// Connections and helpers come and go; what leaks grows with the work done, far beyond a tenth.
	add("resident", "MB", after.resident, before.resident, 1.15)
	add("descriptors", "files", after.descriptors, before.descriptors, 1.1)
	add("goroutines", "goroutines", after.goroutines, before.goroutines, 1.1)
	add("mounts", "mounts", after.mounts, before.mounts, 1)
	add("cgroups", "cgroups", after.cgroups, before.cgroups, 1)
	return nil
}

// exercise runs warm executions, then container lives: an execution and the operator's end of its container.
func (s *server) exercise(ctx context.Context, c caller, as *client.Client, executions, lives int) error {
	j := invocation(as, "growth", event120())
	j.Clients, j.Requests = 4, executions
	if _, err := c.do(j); err != nil {
		return err
	}
	j.Clients, j.Requests, j.Samples = 1, 1, true
	lived := map[string]bool{}
	for range lives {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		t, err := c.do(j)
		if err != nil {
			return err
		}
		if id := t.Samples[0].Container; lived[id] {
			return fmt.Errorf("container %s was ended and executes again", id)
		}
		lived[t.Samples[0].Container] = true
		if err := s.end(ctx, "containers", t.Samples[0].Container); err != nil {
			return err
		}
	}
	// One container stays, as before.
	_, err := c.do(j)
	return err
}

// settled looks at the server until it holds no more than before, at most for a while.
func (s *server) settled(ctx context.Context, before usage) (usage, error) {
	var now usage
	err := eventually(ctx, growthSettle, func() (err error) {
		if now, err = s.usage(ctx); err != nil {
			return err
		}
		if now.mounts > before.mounts || now.cgroups > before.cgroups || now.descriptors > before.descriptors || now.goroutines > before.goroutines {
			return errors.New("it holds more than before")
		}
		return nil
	})
	if now.n > 0 && ctx.Err() == nil {
		err = nil // the numbers tell it
	}
	return now, err
}

func (s *server) usage(ctx context.Context) (usage, error) {
	if err := pause(ctx, 200*time.Millisecond); err != nil {
		return usage{}, err
	}
	metrics, err := s.metrics(ctx)
	if err != nil {
		return usage{}, err
	}
	containers, err := list[place](ctx, s, "containers", url.Values{}, 0)
	if err != nil {
		return usage{}, err
	}
	proc := fmt.Sprintf("/proc/%d/", s.Pid())
	return usage{
		resident: megabytes(proc+"status", "VmRSS"), descriptors: float64(entries(proc + "fd")), goroutines: metrics["go_goroutines"],
		mounts: float64(strings.Count(read(proc+"mountinfo"), "\n") + 1), cgroups: float64(cgroupsOf(containers)), n: float64(len(containers)),
	}, nil
}

// cgroupsOf counts the cgroups of the server: all below the one of its own that its containers' cgroups are in.
func cgroupsOf(containers []place) int {
	top := ""
	for _, c := range containers {
		for line := range strings.Lines(read(fmt.Sprintf("/proc/%d/cgroup", c.PID))) {
			for part := range strings.SplitSeq(line, "/") {
				if top == "" && strings.HasPrefix(part, "kiln-") {
					top = part
				}
			}
		}
	}
	n := 0
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && top != "" && strings.Contains(path+"/", "/"+top+"/") {
			n++
		}
		return nil
	})
	return n
}

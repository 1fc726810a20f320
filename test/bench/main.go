//go:build linux

// Command bench measures what Kiln promises: each number as a ratio to a floor or a rival measured in the same run, in
// separate processes (floor, client, server, functions), as medians of interleaved rounds. It prints tables for the
// README and writes results.json: a list of {name, value, unit, against, ratio, bound, held}.
//
// It shows nothing about correctness (that is test/rows and test/conformance) and looks at the server from outside: by
// its two APIs, its /metrics, its records and what the kernel shows. Called by scripts/bench.sh, which make bench runs.
// It needs root, crun, and python3 and node under /usr/bin. The floor, the client, the burners and the rival are this
// binary again, in a role (see roles.go); each ends when its standard input does.
//
//	go run ./test/bench [-run REGEXP] [-quick] [-full] [-hold] [-results FILE]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// measurement is one thing that is measured; limit bounds its time in a default run.
type measurement struct {
	name    string
	measure func(context.Context, *bench) error
	limit   time.Duration
}

// measurements are in the order they run: what needs a quiet machine first.
var measurements = []measurement{
	{"warm", measureWarm, 4 * time.Minute},
	{"start", measureStart, time.Minute},
	{"burst", measureBurst, time.Minute},
	{"placement", measurePlacement, 30 * time.Second},
	{"idle", measureIdle, 2 * time.Minute},
	{"prepared", measurePrepared, time.Minute},
	{"register", measureRegister, time.Minute},
	{"growth", measureGrowth, time.Minute},
}

// Budgets of whole runs. A full one takes the growth of issue size and the idle minute.
const (
	defaultBudget = 8 * time.Minute
	quickBudget   = 2 * time.Minute
	fullBudget    = 40 * time.Minute
)

// bench is one run.
type bench struct {
	quick, full bool
	self        string // this binary, for the roles
	out         io.Writer
	results     []Result
}

// rounds is how many rounds a measurement makes; never less than five.
func (b *bench) rounds(normal int) int {
	if b.quick {
		return 5
	}
	return normal
}

// scale shortens a time or a count in a quick run.
func scale[T ~int | ~int64](b *bench, normal, quick T) T {
	if b.quick {
		return quick
	}
	return normal
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}

func main() {
	if role := os.Getenv(roleVariable); role != "" {
		if err := play(role); err != nil {
			fmt.Fprintf(os.Stderr, "bench, as %s: %v\n", role, err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	b := &bench{out: os.Stdout}
	only := flag.String("run", "", "measure only what matches this `regexp`")
	results := flag.String("results", "", "write the results as JSON to this `file`")
	hold := flag.Bool("hold", false, "fail when a bound is not held")
	flag.BoolVar(&b.quick, "quick", false, "fewer and shorter rounds, within two minutes")
	flag.BoolVar(&b.full, "full", false, "growth over 200,000 executions and 2,000 container lives, idle over a minute")
	flag.Parse()
	matches, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	budget := defaultBudget
	switch {
	case b.full:
		budget = fullBudget
	case b.quick:
		budget = quickBudget
	}
	ctx, cancel := context.WithTimeoutCause(ctx, budget, fmt.Errorf("the run's budget of %s is spent", budget))
	defer cancel()
	machine := describeMachine()
	fmt.Fprintln(b.out, machine)
	failed := b.all(ctx, matches)
	printTables(b.out, b.results)
	if *results != "" {
		failed = errors.Join(failed, writeResults(*results, b.results))
	}
	if missed := notHeld(b.results); len(missed) > 0 {
		fmt.Fprintf(b.out, "\nBounds not held: %s.\n", strings.Join(missed, ", "))
		if *hold {
			failed = errors.Join(failed, errors.New("bounds are not held"))
		}
	}
	return failed
}

// all measures one thing after the other. What fails is told, and the rest is measured all the same.
func (b *bench) all(ctx context.Context, matches *regexp.Regexp) error {
	var failed error
	for _, m := range measurements {
		if !matches.MatchString(m.name) {
			continue
		}
		limit := m.limit
		if b.full {
			limit *= 15
		}
		begin := time.Now()
		err := within(ctx, limit, func(ctx context.Context) error { return m.measure(ctx, b) })
		b.say("%s took %s", m.name, time.Since(begin).Round(100*time.Millisecond))
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", m.name, err))
		}
	}
	return failed
}

func within(ctx context.Context, limit time.Duration, do func(context.Context) error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("not measured: %w", context.Cause(ctx))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took longer than %s", limit))
	defer cancel()
	err := do(ctx)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
	}
	return err
}

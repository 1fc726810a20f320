//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"kiln/internal/client"
)

// callers is how many clients, and containers, a throughput has.
const callers = 16

// wideShapes gives each of sixteen containers of wideMemory a whole CPU, so that no processor limit is measured.
const (
	wideShapes = `[{"memory":4096,"cpus":16}]`
	wideMemory = 256 // MiB
)

// warmGuest is one function of the warm measurements with its bounds, as ratios to the floor.
type warmGuest struct {
	name, kind      string
	p50, throughput float64 // with idle CPUs
	busyP50         float64 // with CPUs kept from idling
}

var warmGuests = []warmGuest{
	{"raw", "raw", 1.8, 0.27, 5},
	{"aws-lambda-go", "awsgo", 2.8, 0.13, 6.5},
	{"python", "python", 2.5, 0.32, 5.5},
	{"node", "node", 2.6, 0.28, 5.5},
}

// event120 is an event of 120 bytes.
func event120() string {
	const begin, end = `{"name":"kiln","text":"`, `"}`
	return begin + strings.Repeat("x", 120-len(begin)-len(end)) + end
}

// series is what the rounds of one target gave.
type series struct {
	p50, p99, throughput                []float64 // ns, ns, 1/s
	ratioP50, ratioP99, ratioThroughput []float64 // to the floor of the same round
}

// measureWarm measures warm executions of 120 bytes against the floor, once with CPUs that may idle and once with CPUs
// kept from it, then the stages of an execution and what one costs the server.
func measureWarm(ctx context.Context, b *bench) (err error) {
	s, err := launch(map[string]string{"instances.shapes": wideShapes})
	if err != nil {
		return err
	}
	defer s.stop(&err)
	var address string
	floor, err := b.start(ctx, roleFloor, &address, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, floor.end()) }()
	c, err := b.newCaller(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.end()) }()
	as, err := s.newAccount(ctx)
	if err != nil {
		return err
	}
	if err := warmUp(ctx, s, c, as); err != nil {
		return err
	}
	jobs := []job{{URL: address, Body: event120()}}
	for _, g := range warmGuests {
		jobs = append(jobs, invocation(as, g.name, event120()))
	}
	slice := scale(b, time.Second, 250*time.Millisecond)
	all, err := warmRounds(ctx, c, jobs, b.rounds(7), slice)
	if err != nil {
		return err
	}
	b.addWarm("warm.", all, false)
	if err := measureStages(ctx, b, s, c, as); err != nil {
		return err
	}
	all, err = busyRounds(ctx, b, c, jobs, b.rounds(7), slice)
	if err != nil {
		return err
	}
	b.addWarm("warm-busy.", all, true)
	return nil
}

// warmUp deploys the guests and makes sixteen containers of each.
func warmUp(ctx context.Context, s *server, c caller, as *client.Client) error {
	for _, g := range warmGuests {
		f, err := guest(g.kind, g.name, wideMemory)
		if err != nil {
			return err
		}
		if err := deploy(ctx, as, f); err != nil {
			return err
		}
		// Long events at once need a container each; once may not be enough, because a request may wait for a busy one.
		err = eventually(ctx, 20*time.Second, func() error {
			hold := invocation(as, g.name, `"sleep 300;"`)
			hold.Clients, hold.Requests = callers, callers
			if _, err := c.do(hold); err != nil {
				return err
			}
			found, err := list[place](ctx, s, "containers", url.Values{"function": {g.name}}, 0)
			if err == nil && len(found) < callers {
				err = fmt.Errorf("%s has %d containers of %d", g.name, len(found), callers)
			}
			return err
		})
		if err != nil {
			return err
		}
		j := invocation(as, g.name, event120())
		j.Clients, j.For = callers, 300*time.Millisecond
		if _, err := c.do(j); err != nil {
			return err
		}
	}
	return nil
}

// roundsLimit bounds the rounds of one phase on a machine that is never quiet; warmRoundsLeast are made all the same.
const (
	roundsLimit     = 80 * time.Second
	warmRoundsLeast = 5
)

// warmRounds measures each job in turn, the floor first, round by round.
func warmRounds(ctx context.Context, c caller, jobs []job, rounds int, slice time.Duration) ([]series, error) {
	all := make([]series, len(jobs))
	begin := time.Now()
	for n := 0; n < rounds && (n < warmRoundsLeast || time.Since(begin) < roundsLimit); n++ {
		if err := warmRound(c, jobs, slice, all, func() error { return quiet(ctx) }); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// busyRounds does the same with the CPUs kept from idling.
func busyRounds(ctx context.Context, b *bench, c caller, jobs []job, rounds int, slice time.Duration) ([]series, error) {
	all := make([]series, len(jobs))
	begin := time.Now()
	for n := 0; n < rounds && (n < warmRoundsLeast || time.Since(begin) < roundsLimit); n++ {
		if err := quiet(ctx); err != nil {
			return nil, err
		}
		stop, err := b.burn(ctx)
		if err != nil {
			return nil, err
		}
		err = warmRound(c, jobs, slice, all, func() error { return nil })
		if err := errors.Join(err, stop()); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// warmRound measures each job once and adds what it finds. gate is called before each.
func warmRound(c caller, jobs []job, slice time.Duration, all []series, gate func() error) error {
	var floor, floorMany tally
	for i, j := range jobs {
		if err := gate(); err != nil {
			return err
		}
		j.Clients, j.For = 1, slice
		one, err := c.do(j)
		if err != nil {
			return fmt.Errorf("%s: %w", j.URL, err)
		}
		j.Clients = callers
		many, err := c.do(j)
		if err != nil {
			return fmt.Errorf("%s: %w", j.URL, err)
		}
		if i == 0 {
			floor, floorMany = one, many
		}
		all[i].p50, all[i].ratioP50 = append(all[i].p50, one.P50), append(all[i].ratioP50, one.P50/floor.P50)
		all[i].p99, all[i].ratioP99 = append(all[i].p99, one.P99), append(all[i].ratioP99, one.P99/floor.P99)
		all[i].throughput = append(all[i].throughput, many.perSecond())
		all[i].ratioThroughput = append(all[i].ratioThroughput, many.perSecond()/floorMany.perSecond())
	}
	return nil
}

func (b *bench) addWarm(prefix string, all []series, busy bool) {
	floor := all[0]
	for i, g := range warmGuests {
		one := all[i+1]
		p50, throughput := g.p50, g.throughput
		if busy {
			p50, throughput = g.busyP50, 0
		}
		b.add(Result{Name: prefix + g.name + ".p50", Value: median(one.p50) / 1e3, Unit: "µs", Rival: "floor",
			Against: median(floor.p50) / 1e3, Ratio: median(one.ratioP50), Bound: p50})
		b.add(Result{Name: prefix + g.name + ".p99", Value: median(one.p99) / 1e3, Unit: "µs", Rival: "floor",
			Against: median(floor.p99) / 1e3, Ratio: median(one.ratioP99)})
		b.add(Result{Name: prefix + g.name + ".throughput16", Value: median(one.throughput), Unit: "/s", Rival: "floor",
			Against: median(floor.throughput), Ratio: median(one.ratioThroughput), Bound: throughput, AtLeast: true})
	}
}

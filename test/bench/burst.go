//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"kiln/internal/client"
)

// The burst: burstHits first requests at once of one function that takes a millisecond.
const (
	burstHits       = 100
	burstContainers = 16  // the most it may use
	burstBound      = 2   // its last answer, as a ratio to one warm container's time for all
	burstOthers     = 6   // first hits of other accounts meanwhile
	otherBound      = 1.5 // their p95, as a ratio to its quiet value
)

// burstRound is one burst and the other starts around it, in milliseconds.
type burstRound struct {
	answered, containers int
	last, alone          float64
	quiet, meanwhile     []float64
}

// measureBurst measures a hundred first hits at once, and whether other accounts' starts suffer from them: first hits of
// accounts of their own, one after the other, each from the warming pool, without and with the burst.
func measureBurst(ctx context.Context, b *bench) (err error) {
	s, err := launch(map[string]string{"instances.max": "64", "warming.instances": strconv.Itoa(burstOthers + 2)})
	if err != nil {
		return err
	}
	defer s.stop(&err)
	var clients [2]caller
	for i := range clients {
		if clients[i], err = b.newCaller(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, clients[i].end()) }()
	}
	answered, containers := burstHits, 0
	var last, alone, ratio, undisturbed, meanwhile []float64
	for range b.rounds(8) {
		r, err := s.burstRound(ctx, clients)
		if err != nil {
			return err
		}
		answered, containers = min(answered, r.answered), max(containers, r.containers)
		last, alone, ratio = append(last, r.last), append(alone, r.alone), append(ratio, r.last/r.alone)
		undisturbed, meanwhile = append(undisturbed, r.quiet...), append(meanwhile, r.meanwhile...)
	}
	b.add(Result{Name: "burst.answered", Value: float64(answered), Unit: "of 100 (worst round)", Bound: burstHits, AtLeast: true})
	b.add(Result{Name: "burst.containers", Value: float64(containers), Unit: "containers (worst round)", Bound: burstContainers})
	b.add(Result{Name: "burst.last", Value: median(last), Unit: "ms", Rival: "one warm container", Against: median(alone), Ratio: median(ratio), Bound: burstBound})
	calm, hurt := quantile(undisturbed, 0.95), quantile(meanwhile, 0.95)
	b.add(Result{Name: "burst.other.p95", Value: hurt, Unit: "ms", Rival: "quiet", Against: calm, Ratio: hurt / calm, Bound: otherBound})
	b.add(Result{Name: "burst.other.p50", Value: median(meanwhile), Unit: "ms", Rival: "quiet", Against: median(undisturbed), Ratio: median(meanwhile) / median(undisturbed)})
	return nil
}

func (s *server) burstRound(ctx context.Context, clients [2]caller) (r burstRound, err error) {
	never := make(chan struct{})
	if r.quiet, err = s.others(ctx, clients[1], never, nil); err != nil {
		return r, err
	}
	as, err := s.newAccount(ctx)
	if err != nil {
		return r, err
	}
	f, err := guest("python", "burst", startMemory)
	if err != nil {
		return r, err
	}
	if err := deploy(ctx, as, f); err != nil {
		return r, err
	}
	j := invocation(as, f.name, `"sleep 1;"`)
	var wg sync.WaitGroup
	over, ready := make(chan struct{}), make(chan struct{})
	var burst tally
	var failed error
	wg.Go(func() {
		defer close(over)
		select {
		case <-ready:
		case <-ctx.Done():
			return
		}
		hits := j
		hits.Clients, hits.Requests, hits.Samples = burstHits, burstHits, true
		burst, failed = clients[0].try(hits)
	})
	r.meanwhile, err = s.others(ctx, clients[1], over, func() { close(ready) })
	wg.Wait()
	if err := errors.Join(err, failed); err != nil {
		return r, err
	}
	if burst.Requests == 0 {
		return r, burst.check()
	}
	r.answered, r.last = burst.Requests, milliseconds(burst.Elapsed)
	used := map[string]bool{}
	for _, one := range burst.Samples {
		used[one.Container] = true
	}
	r.containers = len(used)
	if err := quiet(ctx); err != nil {
		return r, err
	}
	j.Clients, j.Requests = 1, burstHits
	t, err := clients[0].do(j)
	r.alone = milliseconds(t.Elapsed)
	return r, errors.Join(err, s.endAccount(ctx, as))
}

// others makes first hits of accounts of their own, one after the other, until all are made or over is closed. begun is
// called when everything is in place, before the first.
func (s *server) others(ctx context.Context, c caller, over <-chan struct{}, begun func()) ([]float64, error) {
	var hits []firstHit
	for range burstOthers {
		hit, err := s.firstHit(ctx)
		if err != nil {
			return nil, err
		}
		hits = append(hits, hit)
	}
	if err := s.awaitWarm(ctx, "python", burstOthers+2); err != nil {
		return nil, err
	}
	if err := quiet(ctx); err != nil {
		return nil, err
	}
	if begun != nil {
		begun()
	}
	var took []float64
	var used []*client.Client
	for _, hit := range hits {
		select {
		case <-over:
			hits = nil
		default:
		}
		if hits == nil {
			break
		}
		t, err := c.do(hit.job)
		if err != nil {
			return nil, fmt.Errorf("another account's first hit: %w", err)
		}
		ms, err := t.Samples[0].clock()
		if err != nil {
			return nil, err
		}
		took, used = append(took, ms), append(used, hit.as)
	}
	var failed error
	for _, as := range used {
		failed = errors.Join(failed, s.endAccount(ctx, as))
	}
	return took, errors.Join(failed, pause(ctx, 50*time.Millisecond))
}

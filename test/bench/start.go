//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"kiln/internal/client"
)

// pathWarming is the acquisition path that is measured here.
const pathWarming = "warming-pool"

// startBound is the most a start may take, as a ratio to crun's.
const startBound = 0.15

// startMemory is AWS's default for a function, in MiB.
const startMemory = 128

// measureStart measures a start from the warming pool, Python, a package of about 1 KB fetched on the way, against
// starting that interpreter by crun. Each start is the first request of a new account. Two clocks tell it: the code's own
// (the handler gives the time it began, the client knows when it sent), which the bound is held to, and the record's.
func measureStart(ctx context.Context, b *bench) (err error) {
	s, err := launch(map[string]string{"instances.max": "64"})
	if err != nil {
		return err
	}
	defer s.stop(&err)
	c, err := b.newCaller(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.end()) }()
	if err := s.awaitWarm(ctx, "python", 1); err != nil {
		return err
	}
	interpreter, err := s.interpreter(ctx, "python")
	if err != nil {
		return err
	}
	r, err := b.newRival(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.end()) }()
	var clock, told, crun, ratio, ratioTold, answered []float64
	for n := range b.rounds(25) + 1 {
		if err := quiet(ctx); err != nil {
			return err
		}
		took, err := r.once(interpreter)
		if err != nil {
			return err
		}
		one, err := s.startOnce(ctx, c)
		if err != nil {
			return err
		}
		if n == 0 {
			continue // everything is read from the disk for the first time
		}
		clock, told, crun, answered = append(clock, one.clock), append(told, one.record), append(crun, float64(took)/1e6), append(answered, one.answered)
		ratio, ratioTold = append(ratio, one.clock/(float64(took)/1e6)), append(ratioTold, one.record/(float64(took)/1e6))
	}
	name := "crun create to /next"
	b.add(Result{Name: "start.warming-pool.python", Value: median(clock), Unit: "ms", Rival: name, Against: median(crun), Ratio: median(ratio), Bound: startBound})
	b.add(Result{Name: "start.warming-pool.python.p95", Value: quantile(clock, 0.95), Unit: "ms", Rival: name, Against: median(crun), Ratio: quantile(ratio, 0.95)})
	b.add(Result{Name: "start.warming-pool.python.record", Value: median(told), Unit: "ms", Rival: name, Against: median(crun), Ratio: median(ratioTold)})
	b.add(Result{Name: "start.warming-pool.python.answer", Value: median(answered), Unit: "ms"})
	return nil
}

// started is one start in milliseconds.
type started struct {
	clock    float64 // the client sent → the handler runs, by the code's own clock
	record   float64 // received → the event handed to the code, by the record
	answered float64 // the client sent → the client has the answer
}

// firstHit is a new account's first function, ready to be hit.
type firstHit struct {
	as  *client.Client
	job job
}

// firstHit makes an account with a function whose package nobody has seen.
func (s *server) firstHit(ctx context.Context) (firstHit, error) {
	as, err := s.newAccount(ctx)
	if err != nil {
		return firstHit{}, err
	}
	f, err := guest("python", "first", startMemory)
	if err != nil {
		return firstHit{}, err
	}
	if err := deploy(ctx, as, f); err != nil {
		return firstHit{}, err
	}
	j := invocation(as, f.name, `"time"`)
	j.Clients, j.Requests, j.Samples = 1, 1, true
	return firstHit{as, j}, nil
}

// startOnce takes an instance from the warming pool and gives it back.
func (s *server) startOnce(ctx context.Context, c caller) (started, error) {
	hit, err := s.firstHit(ctx)
	if err != nil {
		return started{}, err
	}
	if err := s.awaitWarm(ctx, "python", 1); err != nil {
		return started{}, err
	}
	t, err := c.do(hit.job)
	if err != nil {
		return started{}, err
	}
	one := t.Samples[0]
	if one.Path != pathWarming {
		return started{}, fmt.Errorf("a new account's first request came by %s, not by the warming pool", one.Path)
	}
	clock, err := one.clock()
	if err != nil {
		return started{}, err
	}
	r, err := s.record(ctx, one.ID)
	if err != nil {
		return started{}, err
	}
	return started{clock: clock, record: float64(r.Times.CodeStart.Sub(r.Times.Received)) / 1e6, answered: float64(one.Answered-one.Sent) / 1e6},
		s.endAccount(ctx, hit.as)
}

// clock gives the milliseconds from the client's sending to the handler's first line.
func (one sample) clock() (float64, error) {
	at, err := strconv.ParseInt(one.Body, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the handler did not tell its time: %w", err)
	}
	return float64(at-one.Sent) / 1e6, nil
}

// endAccount ends the instances of an account.
func (s *server) endAccount(ctx context.Context, as *client.Client) error {
	found, err := list[place](ctx, s, "instances", url.Values{"account": {string(as.Key().Account)}}, 0)
	for _, i := range found {
		err = errors.Join(err, s.end(ctx, "instances", i.ID))
	}
	return err
}

// interpreter gives the path of the program that prepared containers of a language run.
func (s *server) interpreter(ctx context.Context, language string) (string, error) {
	prepared, err := s.prepared(ctx, language)
	if err != nil {
		return "", err
	}
	if len(prepared) == 0 {
		return "", fmt.Errorf("no container of %s is prepared", language)
	}
	return os.Readlink(fmt.Sprintf("/proc/%d/exe", prepared[0].PID))
}

// prepared lists the prepared containers of a language.
func (s *server) prepared(ctx context.Context, language string) ([]place, error) {
	instances, err := list[place](ctx, s, "instances", nil, 0)
	if err != nil {
		return nil, err
	}
	of := map[string]bool{}
	for _, i := range instances {
		of[i.ID] = hasRuntime(i, language)
	}
	containers, err := list[place](ctx, s, "containers", url.Values{"state": {"prepared"}}, 0)
	if err != nil {
		return nil, err
	}
	var found []place
	for _, c := range containers {
		if of[c.Instance] && c.PID > 0 && !strings.HasPrefix(c.State, "preparing") {
			found = append(found, c)
		}
	}
	return found, nil
}

// milliseconds gives a number of nanoseconds as milliseconds.
func milliseconds(d time.Duration) float64 { return float64(d) / 1e6 }

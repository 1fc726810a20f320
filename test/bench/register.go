//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"kiln/internal/client"
)

const (
	writers       = 16
	registerBound = 0.25 // registrations a second, as a ratio to the disk's own fsyncs a second
	syncBytes     = 4096 // appended before each fsync of the floor
)

// measureRegister measures how many functions sixteen writers register in a second, each acknowledged and so synced,
// against what the disk under the data directory syncs in a second when one writer appends and nothing else happens.
// Each function brings a package of its own; the second row lets all have the same.
func measureRegister(ctx context.Context, b *bench) (err error) {
	s, err := launch(nil)
	if err != nil {
		return err
	}
	defer s.stop(&err)
	as, err := s.newAccount(ctx)
	if err != nil {
		return err
	}
	slice := scale(b, 1500*time.Millisecond, 500*time.Millisecond)
	var named atomic.Int64
	var disk, own, shared, ratioOwn, ratioShared []float64
	for range b.rounds(5) {
		if err := quiet(ctx); err != nil {
			return err
		}
		floor, err := syncRate(filepath.Dir(s.Data), slice)
		if err != nil {
			return err
		}
		distinct, err := registerRate(ctx, as, slice, &named, false)
		if err != nil {
			return err
		}
		same, err := registerRate(ctx, as, slice, &named, true)
		if err != nil {
			return err
		}
		disk, own, shared = append(disk, floor), append(own, distinct), append(shared, same)
		ratioOwn, ratioShared = append(ratioOwn, distinct/floor), append(ratioShared, same/floor)
	}
	b.add(Result{Name: "register.16", Value: median(own), Unit: "/s", Rival: "fsync", Against: median(disk), Ratio: median(ratioOwn),
		Bound: registerBound, AtLeast: true})
	b.add(Result{Name: "register.16.same-package", Value: median(shared), Unit: "/s", Rival: "fsync", Against: median(disk),
		Ratio: median(ratioShared), AtLeast: true})
	return nil
}

// syncRate gives how many times a second a small append to a file is synced.
func syncRate(dir string, during time.Duration) (rate float64, err error) {
	f, err := os.CreateTemp(dir, "fsync-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	block := make([]byte, syncBytes)
	begin, n := time.Now(), 0
	for time.Since(begin) < during {
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		n++
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}

// registerRate gives how many functions a second are registered. named gives each a name of its own.
func registerRate(ctx context.Context, as *client.Client, during time.Duration, named *atomic.Int64, same bool) (float64, error) {
	f, err := guest("python", "", startMemory)
	if err != nil {
		return 0, err
	}
	first, err := f.input()
	if err != nil {
		return 0, err
	}
	api := as.Lambda()
	var wg sync.WaitGroup
	var done atomic.Int64
	failed := make([]error, writers)
	begin := time.Now()
	for w := range writers {
		wg.Go(func() {
			for time.Since(begin) < during && failed[w] == nil {
				in := *first
				if !same {
					fresh, err := f.input()
					if err != nil {
						failed[w] = err
						return
					}
					in = *fresh
				}
				in.FunctionName = aws.String(fmt.Sprintf("registered-%d", named.Add(1)))
				if _, err := api.CreateFunction(ctx, &in); err != nil {
					failed[w] = fmt.Errorf("create %s: %w", *in.FunctionName, err)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(done.Load()) / time.Since(begin).Seconds(), errors.Join(failed...)
}

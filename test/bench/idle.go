//go:build linux

package main

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// Bounds of what Kiln costs while nobody asks for anything.
const (
	idleResidentMB  = 64  // the server, without guests
	idleCPUPercent  = 0.5 // of one core, the pools warm
	preparedCount   = 10
	preparedPython  = 8  // MB, mean proportional set size
	preparedNode    = 12 // MB
	settleTime      = 3 * time.Second
	idleTime        = 20 * time.Second // with -full a minute
	idleTimeQuick   = 6 * time.Second
	idleTimeFull    = time.Minute
	preparedWithin  = 40 * time.Second
	preparedSettled = time.Second
)

// measureIdle measures the memory of a server without guests and the processor time of one with its pools warm.
func measureIdle(ctx context.Context, b *bench) error {
	if err := idleMemory(ctx, b); err != nil {
		return err
	}
	return idleCPU(ctx, b)
}

func idleMemory(ctx context.Context, b *bench) (err error) {
	s, err := launch(map[string]string{"warming.instances": "0"})
	if err != nil {
		return err
	}
	defer s.stop(&err)
	if err := pause(ctx, settleTime); err != nil {
		return err
	}
	status := fmt.Sprintf("/proc/%d/status", s.Pid())
	b.add(Result{Name: "idle.resident", Value: megabytes(status, "VmRSS"), Unit: "MB", Bound: idleResidentMB})
	return nil
}

func idleCPU(ctx context.Context, b *bench) (err error) {
	s, err := launch(nil)
	if err != nil {
		return err
	}
	defer s.stop(&err)
	if err := pause(ctx, settleTime); err != nil {
		return err
	}
	during := scale(b, idleTime, idleTimeQuick)
	if b.full {
		during = idleTimeFull
	}
	containers, err := list[place](ctx, s, "containers", nil, 0)
	if err != nil {
		return err
	}
	guests := func() (total time.Duration) {
		for _, c := range containers {
			total += cpuTime(c.PID)
		}
		return total
	}
	begin, own, theirs := time.Now(), cpuTime(s.Pid()), guests()
	if err := pause(ctx, during); err != nil {
		return err
	}
	elapsed := time.Since(begin)
	percent := func(d time.Duration) float64 { return 100 * float64(d) / float64(elapsed) }
	b.add(Result{Name: "idle.cpu", Value: percent(cpuTime(s.Pid()) - own), Unit: "% of a core", Bound: idleCPUPercent})
	b.add(Result{Name: "idle.cpu.prepared", Value: percent(guests() - theirs), Unit: "% of a core"})
	return nil
}

// measurePrepared measures the memory of prepared containers: the mean proportional set size of ten of each language,
// with all of them alive.
func measurePrepared(ctx context.Context, b *bench) (err error) {
	s, err := launch(map[string]string{"warming.instances": strconv.Itoa(preparedCount), "instances.max": "200"})
	if err != nil {
		return err
	}
	defer s.stop(&err)
	bounds := map[string]float64{"python": preparedPython, "nodejs": preparedNode, "provided": 0}
	for _, language := range []string{"python", "nodejs", "provided"} {
		var found []place
		err := eventually(ctx, preparedWithin, func() (err error) {
			found, err = s.prepared(ctx, language)
			if err == nil && len(found) < preparedCount {
				err = fmt.Errorf("%d of %d containers of %s are prepared", len(found), preparedCount, language)
			}
			return err
		})
		if err != nil {
			return err
		}
		if err := pause(ctx, preparedSettled); err != nil {
			return err
		}
		sum := 0.0
		for _, c := range found[:preparedCount] {
			pss := megabytes(fmt.Sprintf("/proc/%d/smaps_rollup", c.PID), "Pss")
			if pss == 0 {
				return fmt.Errorf("the memory of process %d cannot be read", c.PID)
			}
			sum += pss
		}
		b.add(Result{Name: "prepared." + language + ".pss", Value: sum / preparedCount, Unit: "MB", Bound: bounds[language]})
	}
	return nil
}

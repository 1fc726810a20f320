//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// describeMachine gives one line about this machine, for whoever compares numbers.
func describeMachine() string {
	load, _, _ := strings.Cut(read("/proc/loadavg"), " ")
	crun := "no crun"
	if out, err := exec.Command("crun", "--version").Output(); err == nil {
		crun, _, _ = strings.Cut(string(out), "\n")
	}
	groups := "cgroup v1"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		groups = "cgroup v2"
	}
	return fmt.Sprintf("Machine: %d CPUs (%s), %s memory, Linux %s, %s, %s, %s; load %s before the run.",
		runtime.NumCPU(), field("/proc/cpuinfo", "model name"), gib(field("/proc/meminfo", "MemTotal")), read("/proc/sys/kernel/osrelease"),
		groups, crun, runtime.Version(), load)
}

func gib(kb string) string {
	n, _ := strconv.ParseFloat(strings.TrimSuffix(kb, " kB"), 64)
	return fmt.Sprintf("%.0f GiB", n/(1<<20))
}

// read gives a small file without the space around it; nothing when it cannot be read.
func read(path string) string {
	b, _ := os.ReadFile(path)
	return strings.TrimSpace(string(b))
}

// field gives the value of the first line "name: value" of a file.
func field(path, name string) string {
	for line := range strings.Lines(read(path)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Gates before a round: others use this machine too.
const (
	quietShare  = 0.8                    // of the CPUs' time is idle
	quietWindow = 150 * time.Millisecond // over this
	quietWithin = 2 * time.Second        // or the round begins all the same
)

// quiet waits, for a while, until the machine is idle enough for a round.
func quiet(ctx context.Context) error {
	end := time.Now().Add(quietWithin)
	for time.Now().Before(end) {
		idle, total := cpuTimes()
		if err := pause(ctx, quietWindow); err != nil {
			return err
		}
		idleNow, totalNow := cpuTimes()
		if totalNow > total && (idleNow-idle)/(totalNow-total) >= quietShare {
			return nil
		}
	}
	return nil
}

// cpuTimes gives the idle and the whole time of all CPUs, in ticks.
func cpuTimes() (idle, total float64) {
	line, _, _ := strings.Cut(read("/proc/stat"), "\n")
	for i, text := range strings.Fields(line) {
		n, _ := strconv.ParseFloat(text, 64)
		if i == 0 || i > 8 {
			continue
		}
		total += n
		if i == 4 || i == 5 { // idle, waiting for the disk
			idle += n
		}
	}
	return idle, total
}

// cpuTime gives the processor time a process has used. The kernel counts it in hundredths of a second (USER_HZ); its own
// threads' run times are finer and are taken where they are there.
func cpuTime(pid int) time.Duration {
	var total time.Duration
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, task := range tasks {
		ns, _, _ := strings.Cut(read(task), " ")
		n, _ := strconv.ParseInt(ns, 10, 64)
		total += time.Duration(n)
	}
	if total > 0 {
		return total
	}
	f := strings.Fields(afterName(read(fmt.Sprintf("/proc/%d/stat", pid))))
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// afterName gives a process's stat from its state on, free of the name in brackets.
func afterName(stat string) string { return stat[strings.LastIndexByte(stat, ')')+1:] }

// megabytes reads one "Name:  N kB" of a file below /proc and gives it in MB (1024² bytes).
func megabytes(path, name string) float64 {
	n, _ := strconv.ParseFloat(strings.TrimSuffix(field(path, name), " kB"), 64)
	return n / 1024
}

// entries counts what is in a folder.
func entries(dir string) int {
	list, _ := os.ReadDir(dir)
	return len(list)
}

// hasRuntime reports whether an instance holds a runtime of this language ("python", "nodejs", "provided").
func hasRuntime(i place, language string) bool {
	for _, r := range i.Runtimes {
		if strings.HasPrefix(r, language) {
			return true
		}
	}
	return false
}

package process

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"kiln"
)

var past = time.Unix(1, 0) // never written

// awaitExit blocks until the process has ended and leaves it to be waited for.
func awaitExit(pid int) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}

// killSession kills the process, its group and every process of its session, and names those it found alive besides the
// process itself: they end soon, not at once.
func killSession(pid int) (alive []int) {
	_ = unix.Kill(-pid, unix.SIGKILL)
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if other, err := strconv.Atoi(e.Name()); err == nil && other != pid && session(other) == pid && !zombie(other) {
			_ = unix.Kill(other, unix.SIGKILL)
			alive = append(alive, other)
		}
	}
	return alive
}

// zombie reports whether the process has ended and only waits for its parent to notice, which is not ours to mend.
func zombie(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return true
	}
	_, state, _ := bytes.Cut(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" "))
	return len(state) > 0 && (state[0] == 'Z' || state[0] == 'X')
}

func session(pid int) int {
	sid, err := unix.Getsid(pid)
	if err != nil {
		return 0
	}
	return sid
}

// usage reads what the first process has used: its own peak memory and the processor time of its live threads.
func usage(pid int) (u kiln.Usage) {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return u
	}
	if _, rest, ok := bytes.Cut(status, []byte("VmHWM:")); ok {
		if fields := bytes.Fields(rest[:min(len(rest), 64)]); len(fields) > 0 {
			kib, _ := strconv.ParseInt(string(fields[0]), 10, 64)
			u.MemoryPeakBytes = kib << 10
		}
	}
	schedstat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/schedstat")
	if fields := bytes.Fields(schedstat); err == nil && len(fields) > 0 {
		u.CPUNanos, _ = strconv.ParseInt(string(fields[0]), 10, 64)
	}
	return u
}

//go:build linux

package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"kiln"
)

// BecomeSubreaper makes this process the parent of what its children leave behind, so that it can watch and reap it.
func BecomeSubreaper() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, "sandbox: become subreaper", "cannot become the parent of orphans", err)
	}
	return nil
}

// Process names a process. It is meant for one that os/exec did not start: a child inherited as subreaper. It is named by a file descriptor, so
// that its number cannot come to mean another. Nothing here waits for processes in general, which would steal the
// children of os/exec.
type Process struct {
	Pid  int
	file *os.File
}

// OpenProcess names the process pid. The caller closes it.
func OpenProcess(pid int) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, kiln.Wrap(kiln.KindInternal, "sandbox: open process", "the process is gone", err)
	}
	return &Process{Pid: pid, file: os.NewFile(uintptr(fd), fmt.Sprintf("pidfd %d", pid))}, nil
}

// Wait blocks until the process has ended, reaps it if it is a child, and gives its status as os/exec words it. It holds
// no thread meanwhile. Call it once.
func (p *Process) Wait() string {
	raw, err := p.file.SyscallConn()
	if err != nil {
		return "unknown"
	}
	status := "unknown"
	err = raw.Read(func(fd uintptr) bool {
		s, ended := reap(int(fd))
		if ended {
			status = s
		}
		return ended
	})
	if err != nil {
		return "unknown"
	}
	return status
}

// Kill ends the process.
func (p *Process) Kill() error { return unix.PidfdSendSignal(int(p.file.Fd()), unix.SIGKILL, nil, 0) }

// Expendable makes the process, and all it will start, go before others when the whole machine is out of memory; score is
// from 0 to 1000. Set by one who has CAP_SYS_RESOURCE it is also the least the process can set for itself.
func (p *Process) Expendable(score int) error {
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", p.Pid), []byte(strconv.Itoa(score)), 0); err != nil {
		return kiln.Wrap(kiln.KindInternal, "sandbox: set expendable", "cannot set the score of a process", err)
	}
	return nil
}

// Close lets the name go.
func (p *Process) Close() { _ = p.file.Close() }

// childInfo is the part of the kernel's siginfo_t that waitid fills, on all 64-bit machines.
type childInfo struct {
	Signo, Errno, Code, _ int32
	Pid                   int32
	UID                   uint32
	Status                int32
	_                     [128 - 7*4]byte
}

// reap asks for the end of the process a pidfd names, without blocking.
func reap(pidfd int) (status string, ended bool) {
	var info childInfo
	for {
		_, _, errno := unix.Syscall6(unix.SYS_WAITID, unix.P_PIDFD, uintptr(pidfd), uintptr(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOHANG, 0, 0)
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.ECHILD: // not ours to reap: the poll alone tells the end
			return "unknown", polled(pidfd)
		case errno == unix.EAGAIN: // what a nonblocking pidfd says while it runs
			return "", false
		case errno != 0:
			return "unknown", true
		case info.Pid == 0:
			return "", false
		}
		return describe(info), true
	}
}

// describe words an end as os.ProcessState does. Codes: waitid(2), CLD_EXITED 1, CLD_KILLED 2, CLD_DUMPED 3.
func describe(info childInfo) string {
	switch info.Code {
	case 1:
		return "exit status " + strconv.Itoa(int(info.Status))
	case 3:
		return "signal: " + syscall.Signal(info.Status).String() + " (core dumped)"
	default:
		return "signal: " + syscall.Signal(info.Status).String()
	}
}

// polled reports whether the process a pidfd names has ended.
func polled(pidfd int) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1
}

// KillStrays ends every other process whose command line names mark, and reaps those that are children of this one:
// launchers that were cut off in the middle and what they had forked. It says how many there were.
func KillStrays(mark string) int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	count := 0
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		line, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err != nil || !bytes.Contains(line, []byte(mark)) {
			continue
		}
		if killAndReap(pid, mark) {
			count++
		}
	}
	return count
}

// killAndReap ends a process if it still is the one whose command line names mark.
func killAndReap(pid int, mark string) bool {
	p, err := OpenProcess(pid)
	if err != nil {
		return false
	}
	defer p.Close()
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !bytes.Contains(line, []byte(mark)) {
		return false
	}
	if err := p.Kill(); err != nil {
		return !errors.Is(err, unix.ESRCH)
	}
	p.Wait()
	return true
}

//go:build linux

package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of using something up.
const (
	exhaustLimit = 20 * time.Second
	exhaustMost  = 100_000
)

// exhaust takes all there is of something, keeps it, and says how much it was and what stopped it.
func (c *canary) exhaust(kind string) string {
	until := time.Now().Add(exhaustLimit)
	one := map[string]func(n int) error{
		"descriptors": func(int) error {
			fd, err := unix.Open("/dev/null", unix.O_RDONLY, 0)
			return c.fd(fd, err)
		},
		"inodes": func(n int) error {
			fd, err := unix.Open(fmt.Sprintf("/tmp/inode-%d", n), unix.O_CREAT|unix.O_WRONLY, 0o600)
			if err == nil {
				_ = unix.Close(fd) // only made
			}
			return err
		},
		"disk":      c.disk,
		"memory":    c.memory,
		"processes": c.process,
		"inotify": func(int) error {
			fd, err := unix.InotifyInit1(0)
			if err == nil {
				c.fds = append(c.fds, fd)
			}
			return err
		},
		"epoll":       func(int) error { fd, err := unix.EpollCreate1(0); return c.fd(fd, err) },
		"connections": c.connection,
		"shm":         shm,
		"locks":       c.lock,
	}[kind]
	if one == nil {
		return "unknown kind " + kind
	}
	for n := 0; ; n++ {
		if n == exhaustMost {
			return fmt.Sprintf("%d, then it gave up", n)
		}
		if err := one(n); err != nil {
			return fmt.Sprintf("%d, then %s; %s", n, word(err), tcpMemory())
		}
		if time.Now().After(until) {
			return fmt.Sprintf("%d, then its time was up", n)
		}
	}
}

// spare is how many descriptors are left for the next event.
const spare = 8

func (c *canary) fd(fd int, err error) error {
	if err != nil {
		for range min(spare, len(c.fds)) {
			_ = unix.Close(c.fds[len(c.fds)-1])
			c.fds = c.fds[:len(c.fds)-1]
		}
		return err
	}
	c.fds = append(c.fds, fd)
	return nil
}

func (c *canary) disk(n int) error {
	if n == 0 {
		f, err := os.Create("/tmp/disk")
		if err != nil {
			return err
		}
		c.files = append(c.files, f)
	}
	_, err := c.files[len(c.files)-1].Write(make([]byte, 1<<20))
	return err
}

// memory takes three quarters of its limit.
func (c *canary) memory(n int) error {
	if n == 24 {
		return unix.ENOMEM
	}
	c.kept = append(c.kept, fill(16<<20))
	return nil
}

// process makes children that wait for their end.
func (c *canary) process(int) error {
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	if pid == 0 {
		for {
			syscall.RawSyscall(unix.SYS_PAUSE, 0, 0, 0)
		}
	}
	c.children = append(c.children, int(pid))
	return nil
}

// connection fills the buffers of a loopback connection that nobody reads.
func (c *canary) connection(int) error {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		c.release()
		return err
	}
	defer l.Close()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err := c.fd(fd, err); err != nil {
		return err
	}
	for _, option := range []int{unix.SO_SNDBUF, unix.SO_RCVBUF} {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 64<<20) // the system bounds it
	}
	err = unix.Connect(fd, &unix.SockaddrInet4{Port: l.Addr().(*net.TCPAddr).Port, Addr: [4]byte{127, 0, 0, 1}})
	if err != nil && err != unix.EINPROGRESS {
		return err
	}
	s, err := l.Accept()
	if err != nil {
		return c.fd(-1, err)
	}
	f, err := s.(*net.TCPConn).File()
	_ = s.Close() // f is its double
	if err != nil {
		return c.fd(-1, err)
	}
	c.files = append(c.files, f)
	chunk := make([]byte, 256<<10)
	for range 64 {
		if _, err := unix.Write(fd, chunk); err != nil {
			break
		}
	}
	return nil
}

func shm(n int) error {
	_, err := unix.SysvShmGet(1000+n, 4096, unix.IPC_CREAT|0o600)
	return err
}

// lock puts a lock of its own on every second byte of a file.
func (c *canary) lock(n int) error {
	if n == 0 {
		f, err := os.Create("/tmp/locks")
		if err != nil {
			return err
		}
		c.files = append(c.files, f)
	}
	return unix.FcntlFlock(c.files[len(c.files)-1].Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: int64(2 * n), Len: 1})
}

// release gives everything back.
func (c *canary) release() {
	for _, fd := range c.fds {
		_ = unix.Close(fd)
	}
	for _, f := range c.files {
		_ = f.Close()
	}
	for _, pid := range c.children {
		_ = unix.Kill(pid, unix.SIGKILL)
		_ = ended(pid) // killed
	}
	for _, pattern := range []string{"/tmp/inode-*", "/tmp/disk", "/tmp/locks"} {
		found, _ := filepath.Glob(pattern) // the pattern is a good one
		for _, name := range found {
			_ = os.Remove(name)
		}
	}
	c.fds, c.files, c.children, c.kept = nil, nil, nil, nil
}

// tcpMemory is what the machine says of the memory in buffers of TCP, in pages.
func tcpMemory() string {
	b, _ := os.ReadFile("/proc/net/sockstat")
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "TCP:"); ok {
			return "TCP" + strings.TrimSpace(rest[strings.Index(rest, " mem"):])
		}
	}
	return ""
}

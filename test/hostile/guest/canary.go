//go:build linux

package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Where the canary is kept.
const (
	canaryFile   = "/tmp/canary"
	canaryTCP    = "127.0.0.1:7777"
	canarySocket = "@canary"
	canaryKey    = 0x4b494c4e // of its shared memory
)

// canary is what the neighbour has to lose, and what the attacker holds while it exhausts something.
type canary struct {
	secret   []byte // in memory
	visits   atomic.Int64
	own      int64 // visits made by itself
	signals  chan os.Signal
	pid      int
	children []int
	kept     [][]byte
	files    []*os.File
	fds      []int
}

func newCanary() *canary {
	c := &canary{signals: make(chan os.Signal, 64), pid: os.Getpid()}
	signal.Notify(c.signals)
	return c
}

// plant hides the secret everywhere a container can keep one.
func (c *canary) plant(secret string) string {
	c.secret = []byte(secret)
	for _, path := range []string{canaryFile, "/dev/shm/canary"} {
		if err := os.WriteFile(path, c.secret, 0o666); err != nil {
			return err.Error()
		}
	}
	for network, address := range map[string]string{"tcp4": canaryTCP, "unix": canarySocket} {
		l, err := net.Listen(network, address)
		if err != nil {
			return err.Error()
		}
		go c.serve(l)
	}
	segment, err := unix.SysvShmGet(canaryKey, 4096, unix.IPC_CREAT|0o666)
	if err == nil {
		var at []byte
		if at, err = unix.SysvShmAttach(segment, 0, 0); err == nil {
			copy(at, secret)
		}
	}
	if err != nil {
		return err.Error()
	}
	child := exec.Command("/bin/sh", "-c", "read x", "canary-"+secret)
	if _, err := child.StdinPipe(); err != nil {
		return err.Error()
	}
	if err := child.Start(); err != nil {
		return err.Error()
	}
	return "planted"
}

func (c *canary) serve(l net.Listener) {
	for {
		s, err := l.Accept()
		if err != nil {
			return
		}
		c.visits.Add(1)
		_, _ = s.Write(c.secret)
		_ = s.Close()
	}
}

// hold says which execution it is, for all to hear, and stays while the attacker works.
func (c *canary) hold(id string) any {
	fmt.Println("holding " + id)
	<-time.After(8 * time.Second)
	return map[string]string{"id": id, "report": c.check()}
}

// check says what is wrong with the canary, or that it is fine: it is all there, nobody came, no signal arrived, and
// everything a function needs is still to be had.
func (c *canary) check() string {
	var wrong []string
	for _, path := range []string{canaryFile, "/dev/shm/canary"} {
		if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, c.secret) {
			wrong = append(wrong, fmt.Sprintf("%s holds %q (%v)", path, b, err))
		}
	}
	if os.Getpid() != c.pid || os.Getenv("SECRET") != string(c.secret) {
		wrong = append(wrong, "another process or environment")
	}
	for network, address := range map[string]string{"tcp4": canaryTCP, "unix": canarySocket} {
		c.own++
		if got := visit(network, address); got != string(c.secret) {
			wrong = append(wrong, fmt.Sprintf("its listener at %s says %q", address, got))
		}
	}
	if n := c.visits.Load(); n != c.own {
		wrong = append(wrong, fmt.Sprintf("%d visits, %d of its own", n, c.own))
	}
	for {
		select {
		case s := <-c.signals:
			if s != syscall.SIGURG && s != syscall.SIGCHLD { // Go's own, and its children's
				wrong = append(wrong, "it got "+s.String())
			}
			continue
		default:
		}
		break
	}
	wrong = append(wrong, needs()...)
	if len(wrong) == 0 {
		return "fine"
	}
	return strings.Join(wrong, "; ")
}

// needs tries what functions do, and says what does not work.
func needs() []string {
	var wrong []string
	note := func(what string, err error) {
		if err != nil {
			wrong = append(wrong, what+": "+err.Error())
		}
	}
	var open []*os.File
	for range 200 {
		f, err := os.Open("/etc/passwd")
		note("open a file", err)
		open = append(open, f)
	}
	for _, f := range open {
		_ = f.Close() // only read from
	}
	note("write 8 MiB", os.WriteFile("/tmp/needs", make([]byte, 8<<20), 0o600))
	note("remove them", os.Remove("/tmp/needs"))
	if b := fill(32 << 20); len(b) == 0 {
		note("32 MiB", syscall.ENOMEM)
	}
	for range 5 {
		note("start a process", exec.Command("/bin/true").Run())
	}
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err == nil {
		_, err = unix.InotifyAddWatch(watch, "/tmp", unix.IN_CREATE)
		_ = unix.Close(watch)
	}
	note("watch a folder", err)
	note("a loopback connection", loopback())
	return slices.Compact(wrong)
}

// loopback sends a megabyte to itself.
func loopback() error {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	go func() {
		s, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = s.Write(make([]byte, 1<<20)) // the reader counts
		_ = s.Close()
	}()
	s, err := net.DialTimeout("tcp4", l.Addr().String(), 5*time.Second)
	if err != nil {
		return err
	}
	defer s.Close()
	_ = s.SetDeadline(time.Now().Add(5 * time.Second))
	var got bytes.Buffer
	if n, err := got.ReadFrom(s); err != nil || n != 1<<20 {
		return fmt.Errorf("%d bytes arrived: %v", n, err)
	}
	return nil
}

// visit reads what a listener says.
func visit(network, address string) string {
	s, err := net.DialTimeout(network, address, time.Second)
	if err != nil {
		return err.Error()
	}
	defer s.Close()
	_ = s.SetDeadline(time.Now().Add(2 * time.Second))
	b := make([]byte, 256)
	n, err := s.Read(b)
	if err != nil {
		return err.Error()
	}
	return string(b[:n])
}

//go:build linux

package sandbox

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// onThread runs f on a thread of its own that ends with it, so that f may move the thread into other namespaces. It
// blocks until f has returned.
//
// Never on the process's first thread: Go cannot end that one, it would stay in the foreign namespace, keep it alive,
// and show it to everyone who looks at /proc/PID.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			done <- onThread(f) // elsewhere, while this goroutine occupies the first thread
			runtime.UnlockOSThread()
			return
		}
		done <- f() // never unlocked
	}()
	return <-done
}

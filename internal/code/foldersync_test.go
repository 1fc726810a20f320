package code

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// Many writers share few syncs, each one that began after they asked, and all hear of its error.
func TestFolderSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var begun atomic.Int64
		proceed := make(chan error)
		f := newFolderSync(func() error {
			begun.Add(1)
			return <-proceed
		})
		var wg sync.WaitGroup
		var failed atomic.Int64
		ask := func(n int) {
			for range n {
				wg.Go(func() {
					if f.wait() != nil {
						failed.Add(1)
					}
				})
			}
			synctest.Wait()
		}
		ask(1) // is under way
		ask(16)
		if n := begun.Load(); n != 1 {
			t.Errorf("%d syncs at once", n)
		}
		proceed <- nil
		synctest.Wait()
		if n := begun.Load(); n != 2 {
			t.Errorf("%d syncs for who came later", n)
		}
		ask(3) // too late for the second
		proceed <- errors.New("the disk is gone")
		proceed <- nil
		wg.Wait()
		if n := begun.Load(); n != 3 || failed.Load() != 16 {
			t.Errorf("%d syncs, %d writers heard of the failed one", n, failed.Load())
		}
	})
}

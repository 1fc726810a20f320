//go:build linux

package stage

import (
	"errors"
	"os"
	"path/filepath"
	"sync"

	"kiln"
	"kiln/internal/sandbox"
)

// Cache is an instance's code cache: packages, each mounted read-only in a folder named by its digest. Safe concurrently.
type Cache struct {
	dir string

	mu       sync.Mutex
	closed   bool                        // guarded by mu; nothing more is let in
	code     map[kiln.Digest]*attachment // guarded by mu
	mounting sync.WaitGroup              // mounts being made and taken away; none begins once closed is set
}

// attachment is a package in the code cache, or on its way there.
type attachment struct {
	done chan struct{} // closed when it is mounted, or failed to be
	err  error         // valid after done
}

// NewCache makes an empty cache in a folder of the stage, which exists.
func NewCache(dir string) *Cache { return &Cache{dir: dir, code: map[kiln.Digest]*attachment{}} }

// Attach gives the folder of a package in the cache, mounting dir on first use. A failed mount is told to all who waited for
// it, and not remembered. Kinds: KindInvalid (no digest), KindNotFound (the instance ends), KindInternal.
func (c *Cache) Attach(digest kiln.Digest, dir string) (string, error) {
	const op = "stage: attach package"
	if !filepath.IsLocal(string(digest)) || filepath.Base(string(digest)) != string(digest) {
		return "", kiln.Errorf(kiln.KindInvalid, op, "%q is no digest", digest)
	}
	target := filepath.Join(c.dir, string(digest))
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return "", kiln.Errorf(kiln.KindNotFound, op, "the instance is gone")
	}
	if a := c.code[digest]; a != nil {
		c.mu.Unlock()
		<-a.done
		return target, a.err
	}
	a := &attachment{done: make(chan struct{})}
	c.code[digest] = a
	c.mounting.Add(1)
	c.mu.Unlock()
	defer c.mounting.Done()
	if err := os.Mkdir(target, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		a.err = kiln.Wrap(kiln.KindInternal, op, "cannot make a folder in the code cache", err)
	} else {
		a.err = sandbox.BindReadOnly(dir, target)
	}
	if a.err != nil {
		c.mu.Lock()
		delete(c.code, digest)
		c.mu.Unlock()
	}
	close(a.done)
	return target, a.err
}

// Detach unmounts a package. What is not attached, and a closed cache, is no error. Kinds: KindInternal.
func (c *Cache) Detach(digest kiln.Digest) error {
	c.mu.Lock()
	a := c.code[digest]
	if a == nil || c.closed { // the end of the instance takes it away
		c.mu.Unlock()
		return nil
	}
	c.mounting.Add(1)
	c.mu.Unlock()
	defer c.mounting.Done()
	<-a.done
	target := filepath.Join(c.dir, string(digest))
	if err := sandbox.UnmountBelow(target); err != nil {
		return err
	}
	c.mu.Lock()
	delete(c.code, digest)
	c.mu.Unlock()
	_ = os.Remove(target) // empty; at the latest it goes with the instance
	return nil
}

// Close lets nothing more in and waits for what is under way. The mounts stay, for the end of the instance to take away.
func (c *Cache) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.mounting.Wait()
}

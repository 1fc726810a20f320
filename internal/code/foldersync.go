package code

import "sync"

// folderSync makes names in one folder durable, for many writers with one sync of the folder: whoever comes while one is
// under way shares the next, which begins after their names are there.
type folderSync struct {
	sync func() error  // syncs the folder; blocks for the disk
	turn chan struct{} // holds a token while a sync is under way

	mu   sync.Mutex
	next *shared // the sync that has not begun; nil when nobody waits for one; guarded by mu
}

// shared is one sync that several wait for.
type shared struct {
	done chan struct{}
	err  error // once done is closed
}

func newFolderSync(sync func() error) *folderSync {
	return &folderSync{sync: sync, turn: make(chan struct{}, 1)}
}

// wait returns when a sync that began after wait was called has ended. Blocks for the disk. Errors are the system's.
func (f *folderSync) wait() error {
	f.mu.Lock()
	s := f.next
	first := s == nil
	if first {
		s = &shared{done: make(chan struct{})}
		f.next = s
	}
	f.mu.Unlock()
	if !first {
		<-s.done
		return s.err
	}
	f.turn <- struct{}{}
	f.mu.Lock()
	f.next = nil // who comes from now on may have come too late for this one
	f.mu.Unlock()
	s.err = f.sync()
	<-f.turn
	close(s.done)
	return s.err
}

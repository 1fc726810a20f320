package kilntest

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// The harness sees what a dead server leaves behind: a check that could not fail would be worse than none. A kill leaves
// processes and cgroups of the warm instances; a server started again on the same data directory, and ended in order,
// leaves nothing. // R102
func TestWhatAKillLeavesIsSeen(t *testing.T) {
	NeedContainer(t)
	s, err := Launch(Options{Settings: map[string]string{"warming.instances": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(s.folder) })
	seen := s.traces()
	if err := syscall.Kill(s.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-s.exited
	left := lookAround(s.before, seen)
	for _, kind := range []string{"process", "cgroup"} {
		if !slices.ContainsFunc(left, func(err error) bool { return strings.Contains(err.Error(), "left behind: "+kind) }) {
			t.Errorf("after a kill no %s is seen: %v", kind, left)
		}
	}
	again, err := Launch(Options{Data: s.Data})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Stop(); err != nil {
		t.Errorf("%v\n%s", err, again.Log())
	}
	for _, err := range leftBehind(s.before, seen) {
		t.Errorf("after a restart: %v", err)
	}
}

package rows

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"kiln/test/kilntest"
)

// An instance or a container that is there and runs nothing leaves its pool within the interval and is replaced, and no
// request is given to it. What is broken is broken from outside, by signals and by the kernel's own freezer. R46
func TestUnhealthyLeavesItsPool(t *testing.T) {
	kilntest.NeedContainer(t)
	s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"health.interval": "200ms"}})
	operator := s.Operator(t)
	for name, breakIt := range map[string]func(kilntest.Instance, kilntest.Container){
		"prepared process stopped": func(_ kilntest.Instance, c kilntest.Container) { signal(t, c.Pid, syscall.SIGSTOP) },
		"prepared process killed":  func(_ kilntest.Instance, c kilntest.Container) { signal(t, c.Pid, syscall.SIGKILL) },
		"instance frozen":          func(i kilntest.Instance, _ kilntest.Container) { freeze(t, i.ID) },
	} {
		t.Run(name, func(t *testing.T) {
			var sick kilntest.Instance
			var inside kilntest.Container
			kilntest.Eventually(t, 10*time.Second, func() error {
				for _, i := range operator.Instances("pool=warming", "state=warm") {
					for _, c := range operator.Containers("instance=" + i.ID) {
						if i.Holds("python") && c.State == "prepared" && c.Pid > 0 {
							sick, inside = i, c
							return nil
						}
					}
				}
				return fmt.Errorf("no warm python instance")
			})
			breakIt(sick, inside)
			kilntest.Eventually(t, 5*time.Second, func() error {
				all := operator.Instances("pool=warming", "state=warm")
				if slices.ContainsFunc(all, func(i kilntest.Instance) bool { return i.ID == sick.ID }) {
					return fmt.Errorf("%s is still in the pool", sick.ID)
				}
				if !slices.ContainsFunc(all, func(i kilntest.Instance) bool { return i.Holds("python") }) {
					return fmt.Errorf("%s is not replaced", sick.ID)
				}
				return nil
			})
			a := s.NewAccount(t)
			a.Deploy(kilntest.Probe(t, "python", "healthy"))
			if answer := a.Invoke(kilntest.Invocation{Function: "healthy"}).OK(); answer.Instance() == sick.ID {
				t.Errorf("a request was given to %s", sick.ID)
			}
		})
	}
	t.Run("idle container stopped", func(t *testing.T) {
		a := s.NewAccount(t)
		a.Deploy(kilntest.Probe(t, "python", "stopped"))
		first := a.Invoke(kilntest.Invocation{Function: "stopped"})
		for _, c := range a.Containers() {
			if c.ID == first.Container() {
				signal(t, c.Pid, syscall.SIGSTOP)
			}
		}
		kilntest.Eventually(t, 5*time.Second, func() error {
			if slices.ContainsFunc(a.Containers(), func(c kilntest.Container) bool { return c.ID == first.Container() }) {
				return fmt.Errorf("%s is still there", first.Container())
			}
			return nil
		})
		if second := a.Invoke(kilntest.Invocation{Function: "stopped"}).OK(); second.Facts().Hostname == first.Facts().Hostname {
			t.Error("a request was given to the stopped container")
		}
	})
}

func signal(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
}

// freeze stops everything in an instance's cgroup, on either version of cgroups.
func freeze(t *testing.T, instance string) {
	t.Helper()
	for pattern, word := range map[string]string{
		"/sys/fs/cgroup/freezer/*/" + instance + "/freezer.state": "FROZEN",
		"/sys/fs/cgroup/*/" + instance + "/cgroup.freeze":         "1",
	} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if err := os.WriteFile(f, []byte(word), 0); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("no freezer of %s", instance)
}

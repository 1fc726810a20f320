package chaos

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln/test/kilntest"
)

// launcher is a crun of the test's own, first in the server's PATH, that does as a file says before it is the real one.
type launcher struct {
	t   *testing.T
	dir string
}

func newLauncher(t *testing.T) launcher {
	t.Helper()
	real, err := exec.LookPath("crun")
	if err != nil {
		kilntest.Skip(t, "there is no crun on this machine")
	}
	l := launcher{t, t.TempDir()}
	// A script that the kernel runs names itself by its own path: crun is told who it is by exec -a of bash.
	script := fmt.Sprintf("#!/bin/bash\nread -r way < %[1]s/way\ncase $way in\nfails) echo 'the launcher is broken' >&2; exit 1;;\nhangs) exec sleep 300;;\nslow) sleep 1;;\nesac\nexec -a crun %[2]s \"$@\"\n", l.dir, real)
	if err := os.WriteFile(filepath.Join(l.dir, "crun"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	l.is("well")
	return l
}

// is says what the launcher does from now on: "well", "slow", "hangs", "fails".
func (l launcher) is(way string) {
	l.t.Helper()
	next := filepath.Join(l.dir, "next")
	if err := os.WriteFile(next, []byte(way+"\n"), 0o644); err != nil {
		l.t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(l.dir, "way")); err != nil {
		l.t.Fatal(err)
	}
}

// missing takes the launcher away, or puts it back.
func (l launcher) missing(gone bool) {
	l.t.Helper()
	from, to := filepath.Join(l.dir, "crun"), filepath.Join(l.dir, "elsewhere")
	if !gone {
		from, to = to, from
	}
	if err := os.Rename(from, to); err != nil {
		l.t.Fatal(err)
	}
}

func (l launcher) start(settings map[string]string) *kilntest.Server {
	l.t.Helper()
	all := map[string]string{"warming.instances": "1", "instances.shapes": `[{"memory":1024,"cpus":2}]`, "wait.max": "3s"}
	maps.Copy(all, settings)
	return kilntest.Start(l.t, kilntest.Options{Settings: all, Environment: []string{"PATH=" + l.dir + ":" + os.Getenv("PATH")}})
}

// The OCI runtime is slow, breaks, or is gone while the server runs: what has a container goes on; what needs a new one is
// refused clearly and in time; and as soon as the OCI runtime is well again everything is, by itself, with the pools full.
func TestLauncherFails(t *testing.T) {
	kilntest.NeedContainer(t)
	l := newLauncher(t)
	s := l.start(nil)
	operator := s.Operator(t)
	ways := []struct {
		name        string
		begin, over func()
	}{
		{"fails", func() { l.is("fails") }, func() { l.is("well") }},
		{"is missing", func() { l.missing(true) }, func() { l.missing(false) }},
		{"hangs", func() { l.is("hangs") }, func() { l.is("well") }},
	}
	for i, way := range ways[:launcherWays] {
		t.Run(way.name, func(t *testing.T) {
			a := s.NewAccount(t)
			name := a.Probe("python", fmt.Sprintf("function-%d", i))
			a.Invoke(kilntest.Invocation{Function: name}).Facts()
			n := startNeighbour(t, s)
			way.begin()
			answers := make(chan *kilntest.Answer, 12)
			for range cap(answers) {
				go func() {
					answer, err := a.TryInvoke(kilntest.Invocation{Function: name, Payload: `{"sleepMs":4000}`})
					if err != nil {
						t.Error(err)
					}
					answers <- answer
				}()
			}
			good := 0
			for range cap(answers) {
				answer := <-answers
				if answer == nil {
					continue
				}
				if answer.Failure() == nil {
					good++
				} else if answer.Status != http.StatusTooManyRequests && answer.Status != http.StatusServiceUnavailable && answer.Status != http.StatusInternalServerError ||
					strings.Contains(string(answer.Body), "crun") {
					t.Errorf("a request that needs a container: %d %s", answer.Status, answer.Body)
				}
				if took := answer.Got.Sub(answer.Sent); took > 40*time.Second {
					t.Errorf("it took %s to answer %d %s", took, answer.Status, answer.Body)
				}
			}
			if good == 0 || good == cap(answers) {
				t.Errorf("of %d requests %d went well", cap(answers), good)
			}
			n.unhurt()
			way.over()
			recovers(t, s, operator)
		})
	}
}

// recovers demands a request that needs a new instance, and a full warming pool, within a minute.
func recovers(t *testing.T, s *kilntest.Server, operator *kilntest.Account) {
	t.Helper()
	b := s.NewAccount(t)
	b.Probe("python", "later")
	kilntest.Eventually(t, time.Minute, func() error {
		answer, err := b.TryInvoke(kilntest.Invocation{Function: "later"})
		if err != nil {
			return err
		}
		return answer.Failure()
	})
	kilntest.Eventually(t, time.Minute, func() error {
		for _, language := range []string{"python", "node", "provided"} {
			if !slices.ContainsFunc(operator.Instances(), func(i kilntest.Instance) bool { return i.Pool == "warming" && i.State == "warm" && i.Holds(language) }) {
				return fmt.Errorf("no warm instance holds %s", language)
			}
		}
		return nil
	})
	strays(t, s)
}

// A slow OCI runtime makes starts slow and nothing else: warm executions keep their pace.
func TestLauncherIsSlow(t *testing.T) {
	kilntest.NeedContainer(t)
	l := newLauncher(t)
	s := l.start(map[string]string{"wait.max": "30s"})
	n := startNeighbour(t, s)
	a := s.NewAccount(t)
	name := a.Probe("python", "slow")
	l.is("slow")
	answers := make(chan error, 6)
	for range cap(answers) {
		go func() {
			answer, err := a.TryInvoke(kilntest.Invocation{Function: name, Payload: `{"sleepMs":500}`})
			if err == nil {
				err = answer.Failure()
			}
			answers <- err
		}()
	}
	for range cap(answers) {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	l.is("well")
	n.unhurt()
	if n.worst > 2*time.Second {
		t.Errorf("beside slow starts a warm execution of 20 ms took %s", n.worst)
	}
}

// A server whose OCI runtime is broken when it starts says what is wrong, and is ready by itself when that is mended.
func TestLauncherIsBrokenAtStart(t *testing.T) {
	kilntest.NeedContainer(t)
	l := newLauncher(t)
	l.is("fails")
	mended := time.AfterFunc(3*time.Second, func() { l.is("well") })
	defer mended.Stop()
	s := l.start(nil)
	if took := s.Ready.Sub(s.Started); took < 2*time.Second {
		t.Errorf("it said it was ready after %s, with a broken OCI runtime", took)
	}
	if log := s.Log(); !strings.Contains(log, "crun") {
		t.Errorf("the log does not name the OCI runtime: %s", log)
	}
	a := s.NewAccount(t)
	a.Invoke(kilntest.Invocation{Function: a.Probe("python", "first")}).Facts()
}

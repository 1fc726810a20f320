package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"kiln/test/kilntest"
)

// flushedWithin bounds what of the records a kill may cost.
const flushedWithin = 100 * time.Millisecond

// startToKill starts a server that keeps its address through kills.
func startToKill(t *testing.T) *kilntest.Server {
	t.Helper()
	kilntest.NeedContainer(t)
	return kilntest.Start(t, kilntest.Options{Listen: address(t), Settings: map[string]string{
		"instances.shapes": `[{"memory":1024,"cpus":2}]`, "warming.instances": "1", "instances.max": "16"}})
}

// load is what goes on while a server is killed: functions are invoked and registered. Calls that the kill cut off may
// fail; an answer that came is held to what it says.
type load struct {
	t       *testing.T
	account *kilntest.Account
	cancel  context.CancelFunc
	done    sync.WaitGroup

	mu       sync.Mutex
	answered map[string]time.Time // guarded by mu; request id → when its answer was there
	created  []string             // guarded by mu; functions whose registration was acknowledged
	cut      int                  // guarded by mu; calls without an answer
}

func startLoad(t *testing.T, a *kilntest.Account) *load {
	t.Helper()
	for _, language := range []string{"python", "node", "go"} {
		a.Probe(language, "busy-"+language)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{t: t, account: a, cancel: cancel, answered: map[string]time.Time{}, created: []string{"busy-python", "busy-node", "busy-go"}}
	t.Cleanup(func() { cancel(); l.done.Wait() })
	for _, name := range l.created {
		for n := range 2 {
			l.done.Go(func() { l.invoke(ctx, name, n*40) })
		}
	}
	l.done.Go(func() { l.create(ctx) })
	return l
}

func (l *load) invoke(ctx context.Context, name string, sleepMs int) {
	for ctx.Err() == nil {
		answer, err := l.account.TryInvoke(kilntest.Invocation{Function: name, Payload: fmt.Sprintf(`{"sleepMs":%d}`, sleepMs)})
		switch {
		case err != nil:
			l.lost()
		case answer.Failure() != nil && answer.Status != http.StatusTooManyRequests:
			l.t.Errorf("%s: %v", name, answer.Failure())
			return
		default:
			l.mu.Lock()
			l.answered[answer.RequestID()] = answer.Got
			l.mu.Unlock()
		}
	}
}

func (l *load) create(ctx context.Context) {
	client := l.account.Lambda(func(o *lambda.Options) { o.RetryMaxAttempts = 1 })
	for n := 0; ctx.Err() == nil; n++ {
		f := kilntest.Function{Name: fmt.Sprintf("made-%d", n), Runtime: kilntest.PythonRuntime, Handler: "f.handler",
			Files: map[string][]byte{"f.py": fmt.Appendf(nil, "def handler(event, context):\n    return %d\n", n)}}
		if _, err := client.CreateFunction(ctx, f.Input(l.t)); err != nil {
			l.lost()
			continue
		}
		l.mu.Lock()
		l.created = append(l.created, f.Name)
		l.mu.Unlock()
		after(100 * time.Millisecond)
	}
}

// lost notes a call without an answer, and lets the server start again in peace.
func (l *load) lost() {
	l.mu.Lock()
	l.cut++
	l.mu.Unlock()
	after(10 * time.Millisecond)
}

// kept demands, after a kill, every function acknowledged before it and every record whose answer was there long enough
// before it.
func (l *load) kept(killed, started time.Time) {
	l.t.Helper()
	l.mu.Lock()
	created := slices.Clone(l.created)
	var due []string
	for id, at := range l.answered {
		switch {
		case at.Before(killed.Add(-flushedWithin)):
			due = append(due, id)
		case at.Before(started): // too late for the one, and no concern of the next kill's
			delete(l.answered, id)
		}
	}
	l.mu.Unlock()
	client := l.account.Lambda()
	there := map[string]bool{}
	pages := lambda.NewListFunctionsPaginator(client, &lambda.ListFunctionsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		if err != nil {
			l.t.Fatal(err)
		}
		for _, f := range page.Functions {
			there[aws.ToString(f.FunctionName)] = true
		}
	}
	for _, name := range created {
		if !there[name] {
			l.t.Errorf("%s was acknowledged and is not there", name)
		}
	}
	last := created[len(created)-1]
	l.account.WaitActive(last)
	if got := l.account.Invoke(kilntest.Invocation{Function: last}).OK(); strings.HasPrefix(last, "made-") && "made-"+string(got.Body) != last {
		l.t.Errorf("%s answered %s", last, got.Body)
	}
	kept := map[string]bool{}
	for _, e := range l.account.Executions() {
		kept[e.RequestID] = true
	}
	for _, id := range due {
		if !kept[id] {
			l.t.Errorf("the record of %s is lost; its answer was there %s before the kill", id, killed.Sub(l.answeredAt(id)))
		}
	}
	l.t.Logf("%d functions and %d records are there; %d calls were cut off", len(created), len(due), l.cutOff())
}

func (l *load) answeredAt(id string) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answered[id]
}

func (l *load) cutOff() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cut
}

// strays demands that every cgroup of the server is of an instance and a container that it knows.
func strays(t *testing.T, s *kilntest.Server) {
	t.Helper()
	operator := s.Operator(t)
	kilntest.Eventually(t, 20*time.Second, func() error {
		known := map[string]bool{}
		for _, i := range operator.Instances() {
			known[i.ID] = true
		}
		for _, c := range operator.Containers() {
			known[c.ID] = true
		}
		for _, path := range s.Kernel(t).Cgroups {
			if name := path[strings.LastIndexByte(path, '/')+1:]; !known[name] {
				return fmt.Errorf("cgroup %s is nobody's", path)
			}
		}
		return nil
	})
}

// Killed at random under load, again and again, the server serves again each time: every function acknowledged is there
// and runs, every record whose answer was there 100 ms before is, and when it says it is ready nothing is left of what the
// dead one had, process, namespace, mount, cgroup, link, loop device or file. // R101 R102
func TestKilledUnderLoad(t *testing.T) {
	s := startToKill(t)
	random := dice(t)
	a := s.NewAccount(t)
	a.Deploy(kilntest.Function{Name: "parent", Runtime: kilntest.PythonRuntime, Handler: "misdeeds.handler", MemoryMiB: 128, TimeoutSeconds: 20,
		Files: map[string][]byte{"misdeeds.py": kilntest.Guest(t, "misdeeds.py")}})
	quiet := s.Kernel(t)
	l := startLoad(t, a)
	for range kills {
		a.TryInvoke(kilntest.Invocation{Function: "parent", Payload: `{"do":"stay"}`})
		after(time.Duration(100+random.IntN(1200)) * time.Millisecond)
		killed := time.Now()
		before := s.Kill(t)
		s.Restart(t)
		left := before.Still(s.Kernel(t))
		for _, what := range left[:min(len(left), 10)] {
			t.Errorf("left behind, of %v: %s", before.Counts(), what)
		}
		l.kept(killed, s.Started)
		if t.Failed() {
			return
		}
	}
	l.cancel()
	l.done.Wait()
	s.Operator(t).EndInstances(a.ID)
	strays(t, s)
	compareQuiet(t, s, quiet)
}

// compareQuiet demands that the server has come to rest with no more than it had at rest before.
func compareQuiet(t *testing.T, s *kilntest.Server, quiet kilntest.Kernel) {
	t.Helper()
	kilntest.Eventually(t, 30*time.Second, func() error {
		before, now := quiet.Counts(), s.Kernel(t).Counts()
		for kind, n := range now {
			// Connections of this test come and go among the descriptors.
			if n > before[kind] && (kind != "descriptors" || n > before[kind]+32) {
				return fmt.Errorf("at rest there are %v and there were %v: more %s", now, before, kind)
			}
		}
		return nil
	})
}

// Killed twice in a row, and killed at random while it starts and cleans up after the one before, it still leaves nothing
// to the next, which serves. // R102
func TestKilledWhileItCleansUp(t *testing.T) {
	s := startToKill(t)
	random := dice(t)
	a := s.NewAccount(t)
	name := a.Probe("python", "there")
	quiet := s.Kernel(t)
	for range 2 {
		var running sync.WaitGroup
		for range 4 {
			running.Go(func() { _, _ = a.TryInvoke(kilntest.Invocation{Function: name, Payload: `{"sleepMs":60000}`}) })
		}
		kilntest.Eventually(t, 10*time.Second, func() error {
			if busy := slices.DeleteFunc(a.Containers(), func(c kilntest.Container) bool { return c.State != "busy" }); len(busy) < 4 {
				return fmt.Errorf("%d containers are busy", len(busy))
			}
			return nil
		})
		before := s.Kill(t)
		running.Wait()
		for range earlyKills {
			s.StartAndKill(t, func() { after(time.Duration(random.IntN(400)) * time.Millisecond) })
		}
		s.Restart(t)
		for _, what := range before.Still(s.Kernel(t)) {
			t.Errorf("left behind, of %v: %s", before.Counts(), what)
		}
		a.Invoke(kilntest.Invocation{Function: name}).Facts()
		s.Operator(t).EndInstances(a.ID)
		strays(t, s)
		compareQuiet(t, s, quiet)
	}
}

// A kill in the middle of writing a file leaves a part of it under another name. It is gone when the next server is ready,
// wherever it lies; nothing reads it. // R102
func TestHalfWrittenFilesGo(t *testing.T) {
	s := startToKill(t)
	a := s.NewAccount(t)
	name := a.Probe("python", "there")
	s.Kill(t)
	cut := []string{".server.json-1", ".credentials.json-22", "bootstraps/.bootstrap-3/x", "packages/.temporary-4", "cache/packages/.temporary-5/x",
		"containers/disks/disk-6", "containers/disks/template-512mib.new"}
	for _, path := range cut {
		path = filepath.Join(s.Data, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("half of "), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if seen := s.Kernel(t).Files; len(seen) < len(cut) {
		t.Fatalf("of %v only %v is seen", cut, seen)
	}
	s.Restart(t)
	for _, path := range s.Kernel(t).Files {
		t.Errorf("left behind: %s", path)
	}
	a.Invoke(kilntest.Invocation{Function: name}).Facts()
}

package rows

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"kiln/test/kilntest"
)

// goneWithin bounds the time from the answer of a failed execution until nothing of its container is left.
const goneWithin = 10 * time.Second

// misdeeds is the function that harms its own container as the event asks.
func misdeeds(t *testing.T, name string) kilntest.Function {
	t.Helper()
	return kilntest.Function{Name: name, Runtime: kilntest.PythonRuntime, Handler: "misdeeds.handler", MemoryMiB: 256, TimeoutSeconds: 20,
		Files: map[string][]byte{"misdeeds.py": kilntest.Guest(t, "misdeeds.py")}}
}

// state is what misdeeds.py answers.
type state struct {
	Hostname, MachineID, Disk           string
	Count, InInit, Throttled, Processes int
	Filled                              bool
}

func stateOf(t *testing.T, answer *kilntest.Answer) state {
	t.Helper()
	var s state
	answer.OK().JSON(&s)
	if s.Hostname == "" || s.Count == 0 || s.Disk == "" {
		t.Fatalf("not the answer of misdeeds.py: %s", answer.Body)
	}
	return s
}

// neighbour is a function of another account that executes, again and again, while something happens elsewhere.
type neighbour struct {
	t       *testing.T
	account *kilntest.Account
	cancel  context.CancelFunc
	done    sync.WaitGroup
	first   kilntest.Facts
	count   int // executions that went well, all in the first one's process
}

// startNeighbour begins; a neighbour is executing at every moment until unhurt is called.
func startNeighbour(t *testing.T, s *kilntest.Server) *neighbour {
	t.Helper()
	n := &neighbour{t: t, account: s.NewAccount(t)}
	n.account.Probe("python", "neighbour")
	n.first = n.account.Invoke(kilntest.Invocation{Function: "neighbour"}).Facts()
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	t.Cleanup(func() { cancel(); n.done.Wait() })
	n.done.Go(func() {
		for ctx.Err() == nil && !t.Failed() {
			answer, err := n.account.TryInvoke(kilntest.Invocation{Function: "neighbour", Payload: `{"sleepMs":50}`})
			if err != nil {
				t.Errorf("the neighbour: %v", err)
				return
			}
			f, err := answer.TryFacts()
			if err != nil {
				t.Errorf("the neighbour: %v", err)
				return
			}
			if f.Hostname != n.first.Hostname || f.Pid != n.first.Pid || f.Count != n.first.Count+n.count+1 {
				t.Errorf("the neighbour was in %s as %d and is in %s as %d, execution %d after %d more", n.first.Hostname, n.first.Pid, f.Hostname, f.Pid, f.Count, n.count)
				return
			}
			n.count++
		}
	})
	return n
}

// unhurt ends the neighbour and demands that it executed all the while, in one process.
func (n *neighbour) unhurt() {
	n.t.Helper()
	n.cancel()
	n.done.Wait()
	if n.count == 0 && !n.t.Failed() {
		n.t.Error("the neighbour never executed")
	}
}

// failure is what a failed execution must look like.
type failure struct {
	kind, message string // errorType and errorMessage, the latter a pattern in which ID is the request's id
	outcome       string
}

// check compares an answer and its record with the failure.
func (f failure) check(t *testing.T, a *kilntest.Account, answer *kilntest.Answer) {
	t.Helper()
	var body struct{ ErrorType, ErrorMessage string }
	answer.JSON(&body)
	pattern := "^" + strings.ReplaceAll(f.message, "ID", answer.RequestID()) + "$"
	if answer.Status != http.StatusOK || answer.FunctionError() != "Unhandled" || body.ErrorType != f.kind || !regexp.MustCompile(pattern).MatchString(body.ErrorMessage) {
		t.Errorf("the answer is %d, %q: %s; want %s with %s", answer.Status, answer.FunctionError(), answer.Body, f.kind, f.message)
	}
	if e := a.Execution(answer.RequestID()); e.Outcome != f.outcome || e.ErrorType != f.kind {
		t.Errorf("the record says %s, %s; want %s, %s", e.Outcome, e.ErrorType, f.outcome, f.kind)
	}
}

// nothingLeft demands that a container is gone with all that was its own: processes, cgroups, mounts, the loop device
// under its /tmp, files.
func nothingLeft(t *testing.T, s *kilntest.Server, container, image string) {
	t.Helper()
	kilntest.Eventually(t, goneWithin, func() error {
		if left := s.Bearing(container); len(left) > 0 {
			return fmt.Errorf("left of %s: %s", container, strings.Join(left, "; "))
		}
		if image != "" && kilntest.LoopInUse(image) {
			return fmt.Errorf("left of %s: the loop device on %s", container, image)
		}
		return nil
	})
}

// A function that takes longer than its limit is ended then, and so says the answer, the record and the log, in AWS's
// words; its container is ended whole, with the children it left behind, its neighbour does not notice, and the next
// request gets a fresh container. // R16
func TestTimeoutEndsTheContainer(t *testing.T) {
	languages(t, func(t *testing.T, language string) {
		a := account(t)
		n := startNeighbour(t, a.Server)
		f := kilntest.Probe(t, language, "sleeper")
		f.TimeoutSeconds = 1
		a.Deploy(f)
		first := a.Invoke(kilntest.Invocation{Function: "sleeper", Payload: `{"marker":"was here"}`}).Facts()
		if len(a.Server.Bearing(first.Hostname)) < 2 {
			t.Fatalf("of the living container %s only this is seen: %v", first.Hostname, a.Server.Bearing(first.Hostname))
		}
		answer := a.Invoke(kilntest.Invocation{Function: "sleeper", Payload: `{"sleepMs":60000}`, Tail: true})
		failure{"Sandbox.Timedout", `RequestId: ID Error: Task timed out after 1\.00 seconds`, "timeout"}.check(t, a, answer)
		if took := answer.Got.Sub(answer.Sent); took < time.Second || took > 6*time.Second {
			t.Errorf("the caller waited %s for a limit of 1 s", took)
		}
		nothingLeft(t, a.Server, first.Hostname, "")
		fresh(t, first.Hostname, a.Invoke(kilntest.Invocation{Function: "sleeper"}).Facts())
		n.unhurt()
	})
}

// fresh demands that an execution is the first of a container other than the one that ended.
func fresh(t *testing.T, ended string, f kilntest.Facts) {
	t.Helper()
	if f.Hostname == ended || f.Count != 1 || f.Marker != "" {
		t.Errorf("after the end of %s: in %s, execution %d, /tmp/marker %q", ended, f.Hostname, f.Count, f.Marker)
	}
}

// Children that a function left behind, that listen to no TERM and are in sessions of their own, end with its container.
// // R16
func TestTimeoutEndsChildrenToo(t *testing.T) {
	a := account(t)
	f := misdeeds(t, "parent")
	f.TimeoutSeconds = 2
	a.Deploy(f)
	first := stateOf(t, a.Invoke(kilntest.Invocation{Function: "parent", Payload: `{"do":"stay"}`}))
	image := kilntest.LoopImage(first.Disk)
	second := stateOf(t, a.Invoke(kilntest.Invocation{Function: "parent"}))
	if second.Hostname != first.Hostname || second.Processes < 2 {
		t.Fatalf("the child is not there: %+v", second)
	}
	failure{"Sandbox.Timedout", `RequestId: ID Error: Task timed out after 2\.00 seconds`, "timeout"}.check(t, a,
		a.Invoke(kilntest.Invocation{Function: "parent", Payload: `{"do":"stay and sleep"}`}))
	nothingLeft(t, a.Server, first.Hostname, image)
	if third := stateOf(t, a.Invoke(kilntest.Invocation{Function: "parent"})); third.Count != 1 || third.Processes != 1 {
		t.Errorf("the next request: %+v", third)
	}
}

// A function's own initialisation has 10 seconds, and is ended then; one that exits, crashes, is out of memory or raises is
// a failed execution with AWS's type. Nothing is left of their containers, and the function works once it is mended.
// // R16 R44
func TestInitialisationFails(t *testing.T) {
	a := account(t)
	n := startNeighbour(t, a.Server)
	wanted := map[string]failure{
		"sleep":    {"Sandbox.Timedout", `.*Task timed out after 10\.00 seconds`, "init"},
		"exit":     {"Runtime.ExitError", `.*Runtime exited with error: exit status 7`, "init"},
		"segfault": {"Runtime.ExitError", `.*Runtime exited with error: signal: segmentation fault`, "init"},
		"hog":      {"Runtime.OutOfMemory", `.*Runtime exited with error: signal: killed`, "memory"},
		"raise":    {"ValueError", `not today`, "init"},
	}
	var running sync.WaitGroup
	answers := make(map[string]*kilntest.Answer)
	var mu sync.Mutex
	for name := range wanted {
		f := misdeeds(t, name)
		f.Environment = map[string]string{"INIT": name}
		a.Deploy(f)
		running.Go(func() {
			answer, err := a.TryInvoke(kilntest.Invocation{Function: name})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			answers[name] = answer
		})
	}
	running.Wait()
	for name, want := range wanted {
		t.Run(name, func(t *testing.T) {
			answer := answers[name]
			if answer == nil {
				t.Fatal("no answer")
			}
			want.check(t, a, answer)
			nothingLeft(t, a.Server, answer.Container(), "")
			if name == "sleep" && (answer.Got.Sub(answer.Sent) < 10*time.Second || answer.Got.Sub(answer.Sent) > 20*time.Second) {
				t.Errorf("the caller waited %s for a limit of 10 s", answer.Got.Sub(answer.Sent))
			}
			update(t, a, &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String(name), Environment: environmentOf("INIT", "")})
			if s := stateOf(t, a.Invoke(kilntest.Invocation{Function: name})); s.Count != 1 {
				t.Errorf("mended, it is execution %d", s.Count)
			}
		})
	}
	n.unhurt()
}

// A crash is a failed execution, with AWS's type for how it came about, told by the kernel's own words; the neighbour of
// another account does not notice, nothing of the container is left, and the next request gets a fresh one. // R44
func TestCrashIsAFailedExecution(t *testing.T) {
	a := account(t)
	n := startNeighbour(t, a.Server)
	f := misdeeds(t, "bad")
	f.MemoryMiB = 1024 // room for more processes than there may be
	a.Deploy(f)
	for _, c := range []struct {
		event string
		want  failure
	}{
		{`{"do":"exit","status":3}`, failure{"Runtime.ExitError", `RequestId: ID Error: Runtime exited with error: exit status 3`, "crash"}},
		{`{"do":"exit","status":0}`, failure{"Runtime.ExitError", `RequestId: ID Error: Runtime exited without providing a reason`, "crash"}},
		{`{"do":"segfault"}`, failure{"Runtime.ExitError", `RequestId: ID Error: Runtime exited with error: signal: segmentation fault`, "crash"}},
		{`{"do":"hog"}`, failure{"Runtime.OutOfMemory", `RequestId: ID Error: Runtime exited with error: signal: killed`, "memory"}},
		{`{"do":"bomb and exit"}`, failure{"Runtime.ExitError", `RequestId: ID Error: Runtime exited with error: exit status 9`, "crash"}},
		{`{"do":"fill and exit"}`, failure{"Runtime.ExitError", `RequestId: ID Error: Runtime exited with error: exit status 9`, "crash"}},
		{`{"do":"bomb"}`, failure{"BlockingIOError", `\[Errno 11\] Resource temporarily unavailable`, "error"}},
		{`{"do":"fill"}`, failure{"OSError", `\[Errno 28\] No space left on device`, "error"}},
	} {
		t.Run(c.event, func(t *testing.T) {
			before := stateOf(t, a.Invoke(kilntest.Invocation{Function: "bad"}))
			image := kilntest.LoopImage(before.Disk)
			answer := a.Invoke(kilntest.Invocation{Function: "bad", Payload: c.event})
			c.want.check(t, a, answer)
			if answer.Container() != before.Hostname {
				t.Errorf("it ran in %s and not in the idle container %s", answer.Container(), before.Hostname)
			}
			nothingLeft(t, a.Server, before.Hostname, image)
			after := stateOf(t, a.Invoke(kilntest.Invocation{Function: "bad"}))
			if after.Hostname == before.Hostname || after.Count != 1 || after.Filled || after.Processes != 1 {
				t.Errorf("the next request: %+v", after)
			}
		})
	}
	n.unhurt()
}

// Out of memory is told from other ends by the kernel's count for this end: a child that ran out of memory earlier does
// not make a later exit one for want of memory. // R44
func TestMemoryIsToldApart(t *testing.T) {
	a := account(t)
	a.Deploy(misdeeds(t, "bad"))
	s := stateOf(t, a.Invoke(kilntest.Invocation{Function: "bad", Payload: `{"do":"hog in a child"}`}))
	answer := a.Invoke(kilntest.Invocation{Function: "bad", Payload: `{"do":"exit","status":4}`})
	if answer.Container() != s.Hostname {
		t.Errorf("the second execution was in %s, the first in %s", answer.Container(), s.Hostname)
	}
	failure{"Runtime.ExitError", `RequestId: ID Error: Runtime exited with error: exit status 4`, "crash"}.check(t, a, answer)
}

// While a function initialises its processor limit does not hold: its cgroup counts no throttling then, and does as soon
// as the same code runs in the handler. // R16
func TestProcessorIsFreeDuringInitialisation(t *testing.T) {
	a := account(t)
	f := misdeeds(t, "small")
	f.MemoryMiB, f.Environment = 128, map[string]string{"INIT": "spin"}
	a.Deploy(f)
	s := stateOf(t, a.Invoke(kilntest.Invocation{Function: "small", Payload: `{"do":"spin","seconds":0.5}`}))
	if s.InInit != 0 {
		t.Errorf("its cgroup was throttled %d times while it initialised", s.InInit)
	}
	if s.Throttled == 0 {
		t.Error("its cgroup was never throttled in the handler: the limit does not hold, or this test sees nothing")
	}
}

// An idle container is let go, and some time later the instance that held it: its assignment ends with it, nothing of it
// is left, and the ids of both are never seen again, by this account or another, while the code runs on. // R41 R34
func TestIdleIsLetGo(t *testing.T) {
	kilntest.NeedContainer(t)
	const container, instance = time.Second, 3 * time.Second
	s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"warming.instances": "1",
		"retention.container": container.String(), "retention.instance": instance.String()}})
	operator := s.Operator(t)
	seen := map[string]string{} // id of an instance or container, or boot id → the account that had it
	for range 3 {
		a := s.NewAccount(t)
		a.Probe("python", "passing")
		answer := a.Invoke(kilntest.Invocation{Function: "passing", Payload: `{"marker":"mine"}`})
		f := answer.Facts()
		ended := answer.Got
		for _, id := range []string{answer.Instance(), f.MachineID, f.Hostname} {
			if whose, again := seen[id]; again {
				t.Fatalf("%s has been account %s's before", id, whose)
			}
			seen[id] = a.ID
		}
		if f.Marker != "" || f.Count != 1 {
			t.Errorf("the first execution found /tmp/marker %q, execution %d", f.Marker, f.Count)
		}
		gone := untilGone(t, func() bool {
			return !slices.ContainsFunc(operator.Containers(), func(c kilntest.Container) bool { return c.ID == f.Hostname })
		})
		if gone.Before(ended.Add(container - slack)) {
			t.Errorf("the container was let go %s after its last execution, kept for %s", gone.Sub(ended), container)
		}
		if i, ok := byBoot(t, operator.Instances(), f.MachineID); !ok || i.Account != a.ID {
			t.Errorf("with its container its instance was let go: %+v", i)
		}
		gone = untilGone(t, func() bool { _, there := byBoot(t, operator.Instances(), f.MachineID); return !there })
		if gone.Before(ended.Add(instance - slack)) {
			t.Errorf("the instance was let go %s after its last execution, kept for %s", gone.Sub(ended), instance)
		}
		nothingLeft(t, s, f.Hostname, "")
		nothingLeft(t, s, answer.Instance(), "")
	}
	waitWarm(t, operator, "python")
	for _, i := range operator.Instances() {
		if whose, again := seen[i.ID]; again || seen[i.BootID] != "" {
			t.Errorf("instance %s with boot id %s was account %s's", i.ID, i.BootID, whose)
		}
	}
	checkEnds(t, operator.Events(), seen)
}

// checkEnds demands an end with its cause for each instance that was used, and nothing about it after that.
func checkEnds(t *testing.T, events []kilntest.Event, used map[string]string) {
	t.Helper()
	ended := map[string]bool{}
	for _, e := range events {
		if ended[e.Instance] {
			t.Errorf("after the end of %s: %+v", e.Instance, e)
		}
		if e.Kind == "instance.terminate" {
			ended[e.Instance] = true
			if e.Cause == "" {
				t.Errorf("an end without its cause: %+v", e)
			}
		}
	}
	for id, whose := range used {
		if strings.HasPrefix(id, "i-") && !ended[id] {
			t.Errorf("no event tells the end of %s of account %s", id, whose)
		}
	}
}

// untilGone waits until something is no longer there, at most for half a minute, and says when that was.
func untilGone(t *testing.T, gone func() bool) time.Time {
	t.Helper()
	kilntest.Eventually(t, 30*time.Second, func() error {
		if !gone() {
			return fmt.Errorf("it is still there")
		}
		return nil
	})
	return time.Now()
}

// A change of code, of memory or of a variable makes later executions use a container of their own; one that is under way
// ends as it began, and the containers of before are let go. // R45
func TestChangeMakesNewContainers(t *testing.T) {
	a := account(t)
	probe := kilntest.Probe(t, "python", "changing").Constant("constant-1")
	a.Deploy(probe)
	old := a.Invoke(kilntest.Invocation{Function: "changing"}).Facts()
	hosts := map[string]bool{old.Hostname: true}
	for _, c := range []struct {
		what   string
		change func()
		holds  func(kilntest.Facts) bool
	}{
		{"code", func() { updateCode(t, a, kilntest.Probe(t, "python", "changing").Constant(probe2).Unique()) }, func(f kilntest.Facts) bool { return f.Constant == probe2 }},
		{"memory", func() {
			update(t, a, &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("changing"), MemorySize: aws.Int32(384)})
		}, func(f kilntest.Facts) bool { return f.MemoryLimit == 384<<20 && f.Constant == probe2 }},
		{"a variable", func() {
			update(t, a, &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("changing"), Environment: environmentOf("CHANGED", "yes")})
		}, func(f kilntest.Facts) bool { return f.MemoryLimit == 384<<20 }},
	} {
		running := make(chan *kilntest.Answer, 1)
		go func() {
			answer, err := a.TryInvoke(kilntest.Invocation{Function: "changing", Payload: `{"sleepMs":1500}`})
			if err != nil {
				t.Error(err)
			}
			running <- answer
		}()
		kilntest.Eventually(t, 5*time.Second, func() error {
			if slices.ContainsFunc(a.Containers(), func(c kilntest.Container) bool { return c.State == "busy" }) {
				return nil
			}
			return fmt.Errorf("nothing is busy")
		})
		c.change()
		f := a.Invoke(kilntest.Invocation{Function: "changing"}).Facts()
		if hosts[f.Hostname] || f.Count != 1 || !c.holds(f) {
			t.Errorf("after a change of %s: %+v", c.what, f)
		}
		if answer := <-running; answer != nil {
			under := answer.Facts()
			if under.Hostname != old.Hostname || under.Constant != old.Constant || under.MemoryLimit != old.MemoryLimit {
				t.Errorf("the execution under way during a change of %s: %+v", c.what, under)
			}
		}
		nothingLeft(t, a.Server, old.Hostname, "")
		old, hosts[f.Hostname] = f, true
	}
}

// probe2 is the constant of the changed code.
const probe2 = "constant-2"

func environmentOf(name, value string) *types.Environment {
	return &types.Environment{Variables: map[string]string{name: value}}
}

// update changes a configuration and waits until it holds.
func update(t *testing.T, a *kilntest.Account, in *lambda.UpdateFunctionConfigurationInput) {
	t.Helper()
	if _, err := a.Lambda().UpdateFunctionConfiguration(context.Background(), in); err != nil {
		t.Fatal(err)
	}
	a.WaitActive(aws.ToString(in.FunctionName))
}

func updateCode(t *testing.T, a *kilntest.Account, f kilntest.Function) {
	t.Helper()
	if _, err := a.Lambda().UpdateFunctionCode(context.Background(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String(f.Name), ZipFile: f.Zip(t)}); err != nil {
		t.Fatal(err)
	}
	a.WaitActive(f.Name)
}

// A record is readable as soon as its caller has the answer, and stays: so it is after an end in order and a start on the
// same data. What a kill may cost is shown in test/chaos. // R101
func TestRecordsAreThereAtOnce(t *testing.T) {
	a := account(t)
	name := a.Probe("go", "recorded")
	for range 50 {
		answer := a.Invoke(kilntest.Invocation{Function: name}).OK()
		got := a.Do(kilntest.Call{Method: http.MethodGet, Path: "/kiln/v1/executions/" + answer.RequestID(), Service: "kiln"}).OK()
		var e kilntest.Execution
		if err := json.Unmarshal(got.Body, &e); err != nil || e.RequestID != answer.RequestID() || e.Outcome != "success" || e.Times.Answered == nil {
			t.Fatalf("the record at once (%v): %s", err, got.Body)
		}
	}
}

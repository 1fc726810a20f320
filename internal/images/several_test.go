package images

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"kiln"
)

// meeting is a handler that answers when as many as the event says have come, each by a file of its own: code that is
// run one after another never does.
var meeting = map[string][2]string{ // never written
	"python": {"app.py", `
import os, sys, time
here = os.environ["MEETING"]
def handler(event, context):
    if event.get("do") == "exit":
        sys.exit(7)
    if event.get("do") == "error":
        raise ValueError(event["n"])
    open(os.path.join(here, context.aws_request_id), "w").close()
    print("came", context.aws_request_id)
    while len(os.listdir(here)) < event["n"]:
        time.sleep(0.005)
    sys.stdout.write("met " + context.aws_request_id)
    return {"id": context.aws_request_id, "pid": os.getpid()}
`},
	"nodejs": {"app.js", `
const fs = require('fs'), path = require('path');
const here = process.env.MEETING;
exports.handler = async (event, context) => {
  if (event.do === 'exit') process.exit(7);
  if (event.do === 'error') throw new RangeError(event.n);
  fs.writeFileSync(path.join(here, context.awsRequestId), '');
  console.log('came', context.awsRequestId);
  while (fs.readdirSync(here).length < event.n) await new Promise((r) => setTimeout(r, 5));
  console.log('met', context.awsRequestId, awslambda.InvokeStore.getRequestId());
  return { id: context.awsRequestId, pid: process.pid };
};
`},
}

// several binds a guest of so many slots to the meeting.
func several(t *testing.T, language string, slots int) *guest {
	t.Helper()
	g := prepare(t, language)
	g.session.SetSlots(slots)
	file := meeting[language]
	if r := g.bind("app.handler", map[string]string{file[0]: file[1]}, fmt.Sprintf("AWS_LAMBDA_MAX_CONCURRENCY=%d", slots), "MEETING="+t.TempDir()); r.Failure != nil {
		t.Fatalf("initialisation: %s", r.Failure.Payload)
	}
	return g
}

// atOnce executes events at once.
func (g *guest) atOnce(events ...string) []kiln.Answer {
	answers := make([]kiln.Answer, len(events))
	var wg sync.WaitGroup
	for i, event := range events {
		wg.Go(func() {
			id := kiln.RequestID(fmt.Sprintf("00000000-0000-4000-8000-%012d", i))
			answers[i] = g.session.Execute(context.WithoutCancel(g.t.Context()),
				&kiln.Delivery{RequestID: id, Payload: []byte(event), Deadline: time.Now().Add(30 * time.Second)})
		})
	}
	wg.Wait()
	return answers
}

// Both bootstraps run as many executions at once as the version declares: three that wait for each other all answer, each
// for itself, in processes of their own (Python) or in one (Node.js); each line they print begins with its request. // R43
func TestSeveralAtOnce(t *testing.T) {
	for language := range meeting {
		t.Run(language, func(t *testing.T) {
			g := several(t, language, 3)
			pids := map[int]bool{}
			for i, a := range g.atOnce(`{"n":3}`, `{"n":3}`, `{"n":3}`) {
				var met struct {
					ID  string
					PID int
				}
				if err := json.Unmarshal(a.Payload, &met); err != nil || !strings.HasSuffix(met.ID, fmt.Sprint(i)) {
					t.Errorf("answer %d: %s", i, a.Payload)
				}
				pids[met.PID] = true
				g.written("\x1e" + met.ID + "\x1e")
				g.written("met " + met.ID)
			}
			if want := map[string]int{"python": 3, "nodejs": 1}[language]; len(pids) != want {
				t.Errorf("%d processes, want %d", len(pids), want)
			}
			g.mu.Lock()
			defer g.mu.Unlock()
			for line := range strings.Lines(g.out.String()) {
				id, text, ok := strings.Cut(strings.TrimPrefix(line, "\x1e"), "\x1e")
				if !ok || !strings.Contains(text, id) || !strings.HasSuffix(line, "\n") {
					t.Errorf("line %q", line)
				}
			}
		})
	}
}

// An error of one execution is its own; the end of its process hurts nobody else where it has one (Python), and the
// container goes on; where all share one (Node.js) each of them fails. // R43 R44
func TestEndOfOneOfSeveral(t *testing.T) {
	for language := range meeting {
		t.Run(language, func(t *testing.T) {
			g := several(t, language, 3)
			answers := g.atOnce(`{"n":2}`, `{"n":2}`, `{"n":0,"do":"error"}`)
			if answers[0].Failure != nil || answers[1].Failure != nil || answers[2].Failure == nil || answers[2].Lost {
				t.Errorf("answers %s %s %s", answers[0].Payload, answers[1].Payload, answers[2].Payload)
			}
			if language == "nodejs" {
				answers = g.atOnce(`{"n":9}`, `{"n":9}`, `{"do":"exit"}`)
				for _, a := range answers {
					if a.Failure == nil || a.Failure.Type != "Runtime.ExitError" || !a.Lost {
						t.Errorf("beside a process that ends: %+v %s", a, a.Payload)
					}
				}
				return
			}
			for range 4 { // more often than there are processes
				answers = g.atOnce(`{"n":2}`, `{"do":"exit"}`, `{"n":2}`)
				if answers[0].Failure != nil || answers[2].Failure != nil {
					t.Errorf("beside one that ended: %s %s", answers[0].Payload, answers[2].Payload)
				}
				f := answers[1].Failure
				if f == nil || f.Type != "Runtime.ExitError" || f.Outcome != kiln.OutcomeCrash || answers[1].Lost || !strings.Contains(string(f.Payload), "exit status 7") {
					t.Errorf("that ended: %+v %s", answers[1], answers[1].Payload)
				}
			}
		})
	}
}

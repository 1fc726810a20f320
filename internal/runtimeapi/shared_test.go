package runtimeapi

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"kiln"
)

// openSlots makes a session of several slots with as many guests whose GET /next wait.
func openSlots(t *testing.T, slots int) (*Session, []*guest) {
	t.Helper()
	s, dial := open(t, Config{})
	s.SetSlots(slots)
	guests := make([]*guest, slots)
	for i := range guests {
		guests[i] = dial()
		guests[i].write(askNext)
	}
	if r := s.Started(t.Context(), 10*time.Second); r.Failure != nil {
		t.Fatalf("not ready: %s", r.Failure.Payload)
	}
	return s, guests
}

// executing executes deliveries at once and gives their answers by request id when all are there.
func executing(t *testing.T, s *Session, list ...*kiln.Delivery) (wait func() map[kiln.RequestID]kiln.Answer) {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	answers := map[kiln.RequestID]kiln.Answer{}
	for _, d := range list {
		wg.Go(func() {
			a := s.Execute(context.Background(), d)
			mu.Lock()
			defer mu.Unlock()
			answers[d.RequestID] = a
		})
	}
	return func() map[kiln.RequestID]kiln.Answer { wg.Wait(); return answers }
}

// received reads the event a guest's GET /next was answered with.
func (g *guest) received() (id string) {
	g.t.Helper()
	r, _ := g.response()
	return r.Header.Get("Lambda-Runtime-Aws-Request-Id")
}

// Several executions are under way at once, each on a connection that asked; each answer finds its own by the request id,
// whichever connection it comes on and in whichever order; one more is refused as undelivered. // R43
func TestAnswersFindTheirExecutionByID(t *testing.T) {
	s, g := openSlots(t, 3)
	wait := executing(t, s, delivery(1, `"1"`, 10*time.Second), delivery(2, `"2"`, 10*time.Second), delivery(3, `"3"`, 10*time.Second))
	ids := []string{g[0].received(), g[1].received(), g[2].received()}
	if over := s.Execute(t.Context(), delivery(4, "{}", time.Second)); !over.Undelivered || over.Lost {
		t.Errorf("a fourth of three: %+v", over)
	}
	for i := range ids { // each answers for its neighbour
		g[i].write("%s", post("invocation/"+ids[(i+1)%3]+"/response", `"`+ids[(i+1)%3]+`"`))
		g[i].expect(202, "OK")
	}
	for id, a := range wait() {
		if a.Failure != nil || string(a.Payload) != `"`+string(id)+`"` || a.Lost {
			t.Errorf("%s answered with %s, %+v", id, a.Payload, a.Failure)
		}
	}
}

// An id that nothing under way has is refused, and so is a second answer, be the first under way or read; neither touches
// the others. // R43
func TestForgedAndDoubledAnswersAreRefused(t *testing.T) {
	s, g := openSlots(t, 2)
	wait := executing(t, s, delivery(1, "{}", 10*time.Second), delivery(2, "{}", 10*time.Second))
	first, second := g[0].received(), g[1].received()
	g[0].write("%s", post("invocation/00000000-0000-4000-8000-999999999999/response", `"forged"`))
	g[0].expect(400, "InvalidRequestID")
	g[0].write("POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", first)
	if line, err := g[0].r.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("%q, %v", line, err)
	}
	if _, err := g[0].r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	g[1].write("%s", post("invocation/"+first+"/error", `{"errorType":"Forged"}`))
	g[1].expect(403, "InvalidStateTransition")
	g[0].write(`"one"`)
	g[0].expect(202, "")
	g[1].write("%s", post("invocation/"+first+"/error", `{"errorType":"Forged"}`))
	if r, b := g[1].response(); r.StatusCode != 400 && r.StatusCode != 403 {
		t.Errorf("a second answer: %d %s", r.StatusCode, b)
	}
	g[1].write("%s", post("invocation/"+second+"/response", `"two"`))
	g[1].expect(202, "")
	answers := wait()
	if a, b := answers[kiln.RequestID(first)], answers[kiln.RequestID(second)]; string(a.Payload) != `"one"` || string(b.Payload) != `"two"` {
		t.Errorf("answers %s and %s", a.Payload, b.Payload)
	}
}

// An execution over its deadline is given up alone: the one beside it ends well, the runtime is not disturbed (its late
// answer is taken, its next GET waits), and nothing further begins in the container. // R43 R44
func TestDeadlineOfOneSparesTheOthers(t *testing.T) {
	s, g := openSlots(t, 2)
	short, long := delivery(1, "{}", time.Second), delivery(2, "{}", 20*time.Second)
	wait, beside := executing(t, s, short), executing(t, s, long)
	late, good := g[0].received(), g[1].received()
	if late != string(short.RequestID) {
		late, good = good, late
		g[0], g[1] = g[1], g[0]
	}
	a := wait()[kiln.RequestID(late)]
	if a.Failure == nil || a.Failure.Type != "Sandbox.Timedout" || !a.Lost || a.Undelivered {
		t.Errorf("%+v", a)
	}
	if a := s.Execute(t.Context(), delivery(3, "{}", time.Second)); !a.Lost || !a.Undelivered {
		t.Errorf("began in a lost container: %+v", a)
	}
	g[0].write("%s%s", post("invocation/"+late+"/response", `"late"`), askNext)
	g[0].expect(202, "OK")
	g[1].write("%s", post("invocation/"+good+"/response", `"good"`))
	g[1].expect(202, "")
	if a := beside()[kiln.RequestID(good)]; string(a.Payload) != `"good"` || a.Failure != nil {
		t.Errorf("the one beside: %s", a.Payload)
	}
}

// An execution for which no connection has asked when the container is lost with another is given back undelivered at once,
// not at its deadline: another container may have it. // R43
func TestLostContainerGivesBackWhoWaits(t *testing.T) {
	s, dial := open(t, Config{})
	s.SetSlots(2)
	only := dial()
	only.write(askNext)
	if r := s.Started(t.Context(), 10*time.Second); r.Failure != nil {
		t.Fatalf("not ready: %s", r.Failure.Payload)
	}
	short := executing(t, s, delivery(1, "{}", time.Second))
	only.received()
	waits := executing(t, s, delivery(2, "{}", time.Minute))
	begin := time.Now()
	short()
	for _, a := range waits() {
		if !a.Undelivered || !a.Lost {
			t.Errorf("%+v", a)
		}
	}
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("it waited for %s", took)
	}
}

// The end of the process, and of the container, fails every execution under way, each with its own words; an answer that
// was sent before is still taken. // R43 R44
func TestEndFailsEachExecution(t *testing.T) {
	for _, closed := range []bool{false, true} {
		s, g := openSlots(t, 3)
		wait := executing(t, s, delivery(1, "{}", 10*time.Second), delivery(2, "{}", 10*time.Second), delivery(3, "{}", 10*time.Second))
		ids := []string{g[0].received(), g[1].received(), g[2].received()}
		g[2].write("%s", post("invocation/"+ids[2]+"/response", `"in time"`))
		g[2].expect(202, "")
		kind := "Runtime.ExitError"
		if closed {
			kind = "Sandbox.Failure"
			s.Close()
		} else {
			s.Exited(kiln.Exit{Status: "exit status 3"})
			for _, guest := range g {
				_ = guest.nc.Close()
			}
		}
		answers := wait()
		for _, id := range ids[:2] {
			a := answers[kiln.RequestID(id)]
			if a.Failure == nil || a.Failure.Type != kind || !a.Lost || a.Undelivered {
				t.Errorf("%s: %+v", id, a)
			}
		}
		if a := answers[kiln.RequestID(ids[2])]; string(a.Payload) != `"in time"` {
			t.Errorf("the one that had answered: %s", a.Payload)
		}
	}
}

// Hundreds of events through a few connections, asked for late, pipelined or not, or by a client that closes after each
// answer: every one is answered with itself. // R43
func TestManyEventsThroughSeveralSlots(t *testing.T) {
	const slots, each = 4, 100
	s, dial := open(t, Config{})
	s.SetSlots(slots)
	ready := executingStart(s)
	for i := range slots {
		go dial().echo(i%2 == 0)
	}
	ready(t)
	var wg sync.WaitGroup
	for i := range slots {
		wg.Go(func() {
			for n := range each {
				d := delivery(i*each+n, fmt.Sprintf(`"%d of %d"`, n, i), 20*time.Second)
				for {
					a := s.Execute(context.Background(), d)
					if a.Undelivered && !a.Lost {
						continue
					}
					if string(a.Payload) != string(d.Payload) {
						t.Errorf("%s answered with %s", d.Payload, a.Payload)
					}
					break
				}
			}
		})
	}
	wg.Wait()
}

func executingStart(s *Session) func(*testing.T) {
	done := make(chan kiln.InitResult, 1)
	go func() { done <- s.Started(context.Background(), 10*time.Second) }()
	return func(t *testing.T) {
		t.Helper()
		if r := <-done; r.Failure != nil {
			t.Fatalf("not ready: %s", r.Failure.Payload)
		}
	}
}

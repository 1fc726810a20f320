package runtimeapi

import (
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kiln"
)

// pipes serves a session on so many connections without a network, for a bubble.
func pipes(t *testing.T, n int) (*Session, []*guest) {
	s := New(Config{})
	var ends []net.Conn
	var guests []*guest
	for range n {
		near, far := net.Pipe()
		ends = append(ends, near)
		guests = append(guests, newGuest(t, far))
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(newPipeListener(ends...)) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s, guests
}

// A guest that only asks is answered at a bounded pace, on however many connections it asks and whatever it asks; its
// neighbours' processor time is not spent on it. Its executions meanwhile are not held up.
func TestCallsArePaced(t *testing.T) {
	ping := "GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, call := range map[string]struct {
		request string
		status  int
		each    int // of calls it counts as
	}{
		"pings":   {ping, 200, 1},
		"unknown": {"GET /2018-06-01/nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404, 1},
		"forged":  {post("invocation/none/response", "x"), 400, 2},
		"bodies":  {post("nothing", strings.Repeat("x", 640<<10)), 404, 11},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, guests := pipes(t, 3)
				g, noise := guests[0], guests[1:]
				go g.write(askNext)
				if r := s.Started(t.Context(), 10*time.Second); r.Failure != nil {
					t.Fatal(r.Failure)
				}
				began := time.Now()
				const calls = 400
				done := make(chan time.Duration, len(noise))
				for _, n := range noise {
					go func() {
						for range calls / len(noise) {
							go n.write("%s", call.request)
							n.expect(call.status, "")
						}
						done <- time.Since(began)
					}()
				}
				for i := range 50 {
					answer := execute(s, delivery(i, "{}", time.Second))
					r, _ := g.response()
					go g.write("%s", post("invocation/"+r.Header.Get("Lambda-Runtime-Aws-Request-Id")+"/response", "{}"))
					if a := await(t, answer); a.Failure != nil || time.Since(began) > 0 {
						t.Fatalf("execution %d: %+v after %s", i, a.Failure, time.Since(began))
					}
					g.expect(202, "")
					go g.write(askNext)
				}
				var took time.Duration
				for range noise {
					took = max(took, <-done)
				}
				least := time.Duration(calls*call.each-callsBurst-2*call.each) * time.Second / callsPerSecond
				if took < least || took > least+5*time.Second {
					t.Errorf("%d calls took %s, want about %s", calls, took, least)
				}
			})
		})
	}
}

// A call that is refused on the connection an execution listens to does not hold the execution up, and the end of a session
// does not wait for what a guest owes.
func TestPaceHoldsUpNoExecution(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, guests := pipes(t, 2)
		g, other := guests[0], guests[1]
		go g.write(askNext)
		if r := s.Started(t.Context(), 10*time.Second); r.Failure != nil {
			t.Fatal(r.Failure)
		}
		s.calls.pass(time.Now(), callsBurst+1000) // ten seconds of debt
		began := time.Now()
		answer := execute(s, delivery(1, "{}", time.Minute))
		id, _ := g.response()
		go g.write("GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\n\r\n")
		g.expect(200, "pong")
		go other.write("%s", post("invocation/"+id.Header.Get("Lambda-Runtime-Aws-Request-Id")+"/response", "{}"))
		if a := await(t, answer); a.Failure != nil || time.Since(began) > 0 {
			t.Errorf("%+v after %s", a.Failure, time.Since(began))
		}
		other.expect(202, "")
		s.Exited(kiln.Exit{})
		s.Close()
		synctest.Wait()
		if time.Since(began) > 0 {
			t.Errorf("the end took %s", time.Since(began))
		}
	})
}

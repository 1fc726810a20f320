package runtimeapi

import (
	"fmt"
	"testing"
	"time"

	"kiln"
)

const askPing = "GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\n\r\n"

// unreadNow reports whether the connection of the last answer is left unread.
func (s *Session) unreadNow() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unread != nil
}

// answerOne has one event executed and answered by a guest that does not pipeline, and gives its id.
func answerOne(t *testing.T, s *Session, g *guest, n int) kiln.RequestID {
	t.Helper()
	d := delivery(n, "{}", time.Minute)
	done := execute(s, d)
	g.response()
	g.write("%s", post("invocation/"+string(d.RequestID)+"/response", fmt.Sprint(n)))
	g.expect(202, "OK")
	if a := await(t, done); string(a.Payload) != fmt.Sprint(n) || a.Lost {
		t.Fatalf("answer %+v", a)
	}
	return d.RequestID
}

// The connection an answer came on is left unread for the next execution, which finds the GET there itself; hundreds in a
// row need no other goroutine. R3
func TestNextExecutionReadsTheGet(t *testing.T) {
	s, g, _ := started(t, Config{})
	found := 0
	for n := range 300 {
		answerOne(t, s, g, n)
		if s.unreadNow() {
			found++
		}
		g.write(askNext)
	}
	if found < 10 { // all of them, on a machine that is never late by 20 ms
		t.Errorf("left unread %d of 300 times", found)
	}
}

// What a runtime asks while nothing is executed is answered after a moment, and so is a GET: it is not left unread for long.
func TestUnreadConnectionIsReadOn(t *testing.T) {
	s, g, _ := started(t, Config{})
	for n := range 3 {
		id := answerOne(t, s, g, n)
		g.write(askPing)
		g.expect(200, "pong")
		g.write("%s", post("invocation/"+string(id)+"/response", "again"))
		g.expect(403, "State transition from RuntimeResponseSentState to InvocationResponse")
		g.write(askNext)
	}
}

// A second answer to the execution before is refused as before when the next execution meets it, which goes on.
func TestSecondAnswerMetByTheNextExecution(t *testing.T) {
	s, g, _ := started(t, Config{})
	id := answerOne(t, s, g, 1)
	g.write("%s", post("invocation/"+string(id)+"/response", "again"))
	d := delivery(2, "two", time.Minute)
	done := execute(s, d)
	g.expect(403, "State transition from RuntimeResponseSentState to InvocationResponse")
	g.write(askNext)
	if _, body := g.response(); body != "two" {
		t.Errorf("event %q", body)
	}
	g.write("%s", post("invocation/"+string(d.RequestID)+"/response", "2"))
	g.expect(202, "OK")
	if a := await(t, done); string(a.Payload) != "2" {
		t.Errorf("%+v", a)
	}
}

// A runtime may ask on another connection than it answered on, before the next execution begins or while that listens to
// the old one, and use either for its next answer. R3
func TestAskingOnAnotherConnection(t *testing.T) {
	s, first, connect := started(t, Config{})
	guests := []*guest{first, connect()}
	answered := 1
	for n := range 60 {
		d := delivery(n, "{}", time.Minute)
		asking := guests[1-answered]
		var done <-chan kiln.Answer
		if n%3 > 0 {
			done = execute(s, d) // listens to the connection that answered last
		}
		if n > 0 { // started has asked
			asking.write(askNext)
		}
		if n%3 == 0 {
			done = execute(s, d)
		}
		if r, _ := asking.response(); r.Header.Get("Lambda-Runtime-Aws-Request-Id") != string(d.RequestID) {
			t.Fatalf("%d: %v", n, r.Header)
		}
		answered = n / 2 % 2
		guests[answered].write("%s", post("invocation/"+string(d.RequestID)+"/response", fmt.Sprint(n)))
		guests[answered].expect(202, "OK")
		if a := await(t, done); string(a.Payload) != fmt.Sprint(n) {
			t.Fatalf("%d: %+v", n, a)
		}
	}
}

// The end of the process, or its peer's, is noticed on a connection nobody reads: an execution that listens there is not
// held up, and counts as never delivered.
func TestEndOnAnUnreadConnection(t *testing.T) {
	for name, end := range map[string]func(*Session, *guest){
		"exit":  func(s *Session, g *guest) { s.Exited(kiln.Exit{Status: "exit status 1"}) },
		"close": func(s *Session, g *guest) { s.Close() },
		"both":  func(s *Session, g *guest) { _ = g.nc.Close(); s.Exited(kiln.Exit{Status: "exit status 1"}) },
	} {
		for _, before := range []bool{true, false} {
			t.Run(fmt.Sprint(name, before), func(t *testing.T) {
				s, g, _ := started(t, Config{})
				answerOne(t, s, g, 1)
				if before {
					end(s, g)
				}
				done := execute(s, delivery(2, "{}", time.Minute))
				if !before {
					end(s, g)
				}
				if a := await(t, done); !a.Lost || !a.Undelivered {
					t.Errorf("%+v", a)
				}
			})
		}
	}
}

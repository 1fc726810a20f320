package runtimeapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"kiln"
)

// started makes a session whose runtime, on its first connection, has asked for its first event.
func started(t *testing.T, c Config) (*Session, *guest, func() *guest) {
	t.Helper()
	s, connect := open(t, c)
	g := connect()
	g.write(askNext)
	if r := s.Started(t.Context(), 10*time.Second); r.Failure != nil {
		t.Fatalf("initialisation: %s", r.Failure.Payload)
	}
	return s, g, connect
}

// execute runs an execution beside the test, which plays the guest.
func execute(s *Session, d *kiln.Delivery) <-chan kiln.Answer {
	done := make(chan kiln.Answer, 1)
	go func() { done <- s.Execute(context.Background(), d) }()
	return done
}

func await(t *testing.T, done <-chan kiln.Answer) kiln.Answer {
	t.Helper()
	select {
	case a := <-done:
		return a
	case <-time.After(20 * time.Second):
		t.Fatal("Execute did not return")
		return kiln.Answer{}
	}
}

func wantFailure(t *testing.T, a kiln.Answer, outcome kiln.Outcome, kind, payload string, lost, undelivered bool) {
	t.Helper()
	if a.Failure == nil {
		t.Fatalf("no failure, payload %q", a.Payload)
	}
	if a.Failure.Outcome != outcome || a.Failure.Type != kind || !strings.Contains(string(a.Failure.Payload), payload) ||
		a.Lost != lost || a.Undelivered != undelivered || string(a.Payload) != string(a.Failure.Payload) {
		t.Errorf("got %s %s %q lost=%v undelivered=%v; want %s %s %q lost=%v undelivered=%v", a.Failure.Outcome, a.Failure.Type,
			a.Failure.Payload, a.Lost, a.Undelivered, outcome, kind, payload, lost, undelivered)
	}
}

// A prepared runtime asks for its binding, is told it, and is idle when it asks for its first event; the event arrives
// with all its headers and byte for byte. R3
func TestBindAndDeliver(t *testing.T) {
	s, connect := open(t, Config{})
	g := connect()
	g.write("GET /kiln/binding HTTP/1.1\r\nHost: x\r\n\r\n")
	<-s.Prepared()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		_, body := g.response()
		var b struct {
			Env     map[string]string
			Handler string
		}
		if err := json.Unmarshal([]byte(body), &b); err != nil || b.Env["A"] != "ü\n" || b.Handler != "app.main" {
			t.Errorf("binding %q: %v", body, err)
		}
		g.write("GET /kiln/binding HTTP/1.1\r\nHost: x\r\n\r\n")
		g.expect(403, "Started to Binding")
		g.write(askNext)
	})
	if r := s.Bind(t.Context(), map[string]string{"A": "ü\n"}, "app.main", 10*time.Second); r.Failure != nil || r.Duration <= 0 {
		t.Fatalf("bind: %+v", r)
	}
	wg.Wait()
	if !s.Idle() {
		t.Error("not idle")
	}
	d := delivery(1, "{\"ü\":1}\r\n\x00", time.Minute)
	d.TraceID, d.ClientContext = "Root=1;Sampled=0", "{\n\"a\":\r\n1}"
	done := execute(s, d)
	r, body := g.response()
	if body != string(d.Payload) {
		t.Errorf("payload %q", body)
	}
	for name, want := range map[string]string{"Lambda-Runtime-Aws-Request-Id": string(d.RequestID), "Lambda-Runtime-Trace-Id": d.TraceID,
		"Lambda-Runtime-Client-Context": `{ "a":  1}`, "Lambda-Runtime-Invoked-Function-Arn": d.ARN,
		"Lambda-Runtime-Deadline-Ms": fmt.Sprint(d.Deadline.UnixMilli()), "Content-Type": "application/json"} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if len(r.Header) != 7 { // and Content-Length
		t.Errorf("headers %v", r.Header)
	}
	g.write("%s", post("invocation/"+string(d.RequestID)+"/response", "answer"))
	g.expect(202, `{"status":"OK"}`)
	a := await(t, done)
	if a.Failure != nil || string(a.Payload) != "answer" || a.Start.IsZero() || a.End.Before(a.Start) || a.Lost || a.Undelivered {
		t.Errorf("answer %+v", a)
	}
	if s.Idle() {
		t.Error("idle before the next GET")
	}
}

// Events are echoed through plain and pipelining guests, small and at the limit, hundreds in a row. R3
func TestEcho(t *testing.T) {
	for _, pipelined := range []bool{false, true} {
		s, connect := open(t, Config{})
		g := connect()
		go g.echo(pipelined)
		if r := s.Started(t.Context(), 10*time.Second); r.Failure != nil {
			t.Fatal(r.Failure)
		}
		for i, size := range []int{0, 1, 100, 3900, 4000, 4096, 5000, 8192, 20000, 65536, 300000, kiln.MaxPayloadBytes, 7} {
			d := delivery(i, strings.Repeat("x", size), time.Minute)
			if a := s.Execute(t.Context(), d); a.Failure != nil || string(a.Payload) != string(d.Payload) {
				t.Fatalf("pipelined=%v size %d: %+v, %d bytes", pipelined, size, a.Failure, len(a.Payload))
			}
		}
		for i := range 500 {
			if a := s.Execute(t.Context(), delivery(i, fmt.Sprint(i), time.Minute)); string(a.Payload) != fmt.Sprint(i) {
				t.Fatalf("%d: %+v", i, a)
			}
		}
	}
}

// A guest that does not pipeline gets its 202 without waiting for another event.
func TestAcceptedAtOnce(t *testing.T) {
	s, g, _ := started(t, Config{})
	d := delivery(1, "{}", time.Minute)
	done := execute(s, d)
	g.response()
	// The beginning of a further request is not the whole of it: the 202 must not wait for the rest.
	g.write("%s%s", post("invocation/"+string(d.RequestID)+"/response", "1"), askNext[:20])
	g.expect(202, "OK")
	g.write("%s", askNext[20:])
	await(t, done)
	done = execute(s, delivery(2, "two", time.Minute))
	if _, body := g.response(); body != "two" {
		t.Error(body)
	}
	g.write("%s", post("invocation/"+string(delivery(2, "", 0).RequestID)+"/response", "2"))
	g.expect(202, "OK")
	await(t, done)
}

// Answers come chunked (aws-lambda-go), streamed with a late error, after 100-continue, or on a second connection.
func TestWaysToAnswer(t *testing.T) {
	s, g, connect := started(t, Config{})
	n := 0
	next := func(g *guest) (string, <-chan kiln.Answer) {
		n++
		done := execute(s, delivery(n, "{}", time.Minute))
		g.response()
		return "/2018-06-01/runtime/invocation/" + string(delivery(n, "", 0).RequestID), done
	}
	path, done := next(g)
	g.write("POST %s/response HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", path)
	g.write("2;ext=1\r\nde\r\n0\r\n\r\n%s", askNext)
	if a := await(t, done); string(a.Payload) != "abcde" {
		t.Errorf("chunked: %+v", a)
	}
	n++
	done = execute(s, delivery(n, "{}", time.Minute))
	g.expect(202, "OK") // with the event
	g.response()
	path = "/2018-06-01/runtime/invocation/" + string(delivery(n, "", 0).RequestID)
	g.write("POST %s/response HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n"+
		"Trailer: Lambda-Runtime-Function-Error-Type\r\n\r\n3\r\nabc\r\n0\r\nLambda-Runtime-Function-Error-Type: Runtime.Boom\r\nLambda-Runtime-Function-Error-Body: %s\r\n\r\n",
		path, base64.StdEncoding.EncodeToString([]byte(`{"errorMessage":"late"}`)))
	wantFailure(t, await(t, done), kiln.OutcomeError, "Runtime.Boom", "late", false, false)
	g.expect(202, "OK")
	g.write(askNext)

	path, done = next(g)
	g.write("POST %s/response HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n", path)
	if line, _ := g.r.ReadString('\n'); !strings.Contains(line, "100 Continue") {
		t.Errorf("got %q", line)
	}
	_, _ = g.r.ReadString('\n')
	g.write("abc")
	g.expect(202, "OK")
	if a := await(t, done); string(a.Payload) != "abc" {
		t.Errorf("100-continue: %+v", a)
	}
	g.write(askNext)

	path, done = next(g)
	h := connect()
	h.write("%s", post(strings.TrimPrefix(path, "/2018-06-01/runtime/")+"/response", "second"))
	h.expect(202, "OK")
	if a := await(t, done); string(a.Payload) != "second" {
		t.Errorf("second connection: %+v", a)
	}
	h.write(askNext) // and goes on there
	path, done = next(h)
	g.write("%s", post(strings.TrimPrefix(path, "/2018-06-01/runtime/")+"/response", "first again"))
	g.expect(202, "OK")
	if a := await(t, done); string(a.Payload) != "first again" {
		t.Errorf("first connection: %+v", a)
	}
	h.write(askNext)
	path, done = next(h)
	_ = h.nc.Close() // an ordinary client drops the idle connection and answers on another
	g.write("%s", post(strings.TrimPrefix(path, "/2018-06-01/runtime/")+"/response", "third"))
	g.expect(202, "OK")
	if a := await(t, done); string(a.Payload) != "third" {
		t.Errorf("after a closed connection: %+v", a)
	}
}

// Every call is matched to the state and the request id; what is forged, foreign, repeated or out of turn is refused with
// AWS's words and changes nothing.
func TestCallsOutOfTurn(t *testing.T) {
	s, connect := open(t, Config{})
	g, h := connect(), connect()
	id1, id2 := string(delivery(1, "", 0).RequestID), string(delivery(2, "", 0).RequestID)
	try := func(status int, part, request string) {
		t.Helper()
		h.write("%s", request)
		h.expect(status, part)
	}
	try(200, "pong", "GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\n\r\n")
	try(404, "404", "GET /2018-06-01/nothing HTTP/1.1\r\nHost: x\r\n\r\n")
	try(404, "404", post("invocation/"+id1+"/other", "body"))
	h.write("DELETE /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n")
	if r := h.expect(405, "errorType"); r.Header.Get("Allow") != "GET" {
		t.Errorf("Allow %q", r.Header.Get("Allow"))
	}
	h.write("GET /2018-06-01/runtime/invocation/%s/error HTTP/1.1\r\nHost: x\r\n\r\n", id1)
	if r := h.expect(405, "errorType"); r.Header.Get("Allow") != "POST" {
		t.Errorf("Allow %q", r.Header.Get("Allow"))
	}
	try(400, "InvalidRequestID", post("invocation/"+id1+"/response", "x"))
	g.write(askNext)
	if r := s.Started(t.Context(), 10*time.Second); r.Failure != nil {
		t.Fatal(r.Failure)
	}
	try(403, "State transition from Ready to InitError failed for runtime. Error: State transition is not allowed", post("init/error", "{}"))
	done := execute(s, delivery(1, "one", time.Minute))
	g.response()
	try(400, "InvalidRequestID", post("invocation/"+id2+"/response", "forged"))
	try(400, "InvalidFunctionResponseMode", post("invocation/"+id1+"/response", "x", "Lambda-Runtime-Function-Response-Mode: other"))
	try(200, "one", askNext) // the same event again
	if a := s.Execute(t.Context(), delivery(3, "", time.Minute)); !a.Undelivered || a.Lost || a.Failure == nil {
		t.Errorf("a second execution at once: %+v", a)
	}
	g.write("%s", post("invocation/"+id1+"/response", "right"))
	g.expect(202, "OK")
	if a := await(t, done); string(a.Payload) != "right" {
		t.Errorf("%+v", a)
	}
	try(403, "State transition from RuntimeResponseSentState to InvocationErrorResponse failed", post("invocation/"+id1+"/error", "twice"))
	try(400, "InvalidRequestID", post("invocation/"+id2+"/error", "x"))
	g.write(askNext)
	done = execute(s, delivery(2, "two", time.Minute))
	g.response()
	try(400, "InvalidRequestID", post("invocation/"+id1+"/response", "late"))
	g.write("%s", post("invocation/"+id2+"/response", "2"))
	g.expect(202, "OK")
	await(t, done)
}

// Errors keep the body the function gave, and get AWS's type.
func TestErrors(t *testing.T) {
	s, g, _ := started(t, Config{})
	for i, c := range []struct{ header, body, want string }{
		{"Runtime.ImportModuleError", `{"errorType":"x"}`, "Runtime.ImportModuleError"},
		{"ValueError", `{"errorMessage":"m","errorType":"ValueError"}`, "ValueError"},
		{"", `not json`, "Runtime.Unknown"},
		{"Function.some", ``, "Function.Unknown"},
	} {
		d := delivery(i, "{}", time.Minute)
		done := execute(s, d)
		g.response()
		g.write("%s", post("invocation/"+string(d.RequestID)+"/error", c.body, "Lambda-Runtime-Function-Error-Type: "+c.header,
			"Lambda-Runtime-Function-XRay-Error-Cause: "+strings.Repeat("c", 64<<10)))
		g.expect(202, "OK")
		wantFailure(t, await(t, done), kiln.OutcomeError, c.want, c.body, false, false)
		g.write(askNext)
	}
}

// An answer over the limit is refused with 413, its caller is told, and the runtime goes on; plain and chunked.
func TestTooLarge(t *testing.T) {
	s, g, _ := started(t, Config{MaxBodyBytes: 1000})
	for i, request := range []string{"Content-Length: 1001\r\n\r\n" + strings.Repeat("x", 1001),
		"Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("64\r\n"+strings.Repeat("y", 100)+"\r\n", 11) + "0\r\n\r\n"} {
		d := delivery(i, "{}", time.Minute)
		done := execute(s, d)
		g.response()
		g.write("POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: x\r\n%s", d.RequestID, request)
		g.expect(413, "Exceeded maximum allowed payload size (1000 bytes).")
		wantFailure(t, await(t, done), kiln.OutcomeError, "Function.ResponseSizeTooLarge", "maximum allowed payload size (1000 bytes)", false, false)
		g.write(askNext)
	}
}

// The deadline ends an execution with AWS's words, whether the guest is silent or sends half an answer. R16
func TestTimeout(t *testing.T) {
	for _, half := range []string{"", "POST /2018-06", "body"} {
		s, g, _ := started(t, Config{})
		d := delivery(1, "{}", 200*time.Millisecond)
		if half == "body" {
			half = "POST /2018-06-01/runtime/invocation/" + string(d.RequestID) + "/response HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf"
		}
		done := execute(s, d)
		g.response()
		g.write("%s", half)
		a := await(t, done)
		wantFailure(t, a, kiln.OutcomeTimeout, "Sandbox.Timedout",
			`{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: `+string(d.RequestID)+` Error: Task timed out after 0.20 seconds"}`, true, false)
		if late := time.Since(d.Deadline); late > time.Second {
			t.Errorf("%s late", late)
		}
		wantFailure(t, s.Execute(t.Context(), delivery(2, "", time.Minute)), kiln.OutcomeFailed, "Sandbox.Failure", "ended", true, true)
	}
	// A runtime that never asks again does not hold an execution beyond its deadline.
	s, g, _ := started(t, Config{})
	d := delivery(1, "{}", time.Minute)
	done := execute(s, d)
	g.response()
	g.write("%s", post("invocation/"+string(d.RequestID)+"/response", "1"))
	await(t, done)
	wantFailure(t, s.Execute(t.Context(), delivery(2, "", 100*time.Millisecond)), kiln.OutcomeTimeout, "Sandbox.Timedout", "timed out", true, true)
}

// A process that ends is told as AWS does; what it answered before still counts, and an event it never had is free for
// another container. R44
func TestExit(t *testing.T) {
	exit := kiln.Exit{Status: "signal: killed"}
	s, g, _ := started(t, Config{})
	d := delivery(1, "{}", time.Minute)
	done := execute(s, d)
	g.response()
	s.Exited(exit)
	_ = g.nc.Close()
	wantFailure(t, await(t, done), kiln.OutcomeCrash, "Runtime.ExitError",
		`{"errorType":"Runtime.ExitError","errorMessage":"RequestId: `+string(d.RequestID)+` Error: Runtime exited with error: signal: killed"}`, true, false)
	wantFailure(t, s.Execute(t.Context(), delivery(2, "{}", time.Minute)), kiln.OutcomeFailed, "Sandbox.Failure", "", true, true)

	for _, order := range []string{"exit first", "close first"} { // with a whole answer on the way
		s, g, _ := started(t, Config{})
		done := execute(s, d)
		g.response()
		g.write("%s", post("invocation/"+string(d.RequestID)+"/response", "done"))
		if order == "exit first" {
			s.Exited(exit)
			_ = g.nc.Close()
		} else {
			_ = g.nc.Close()
			s.Exited(exit)
		}
		if a := await(t, done); string(a.Payload) != "done" || a.Failure != nil {
			t.Errorf("%s: %+v", order, a)
		}
	}
	s, g, _ = started(t, Config{}) // nothing sent, the connection held open by a child
	done = execute(s, d)
	g.response()
	s.Exited(kiln.Exit{Status: "exit status 0", Memory: false})
	wantFailure(t, await(t, done), kiln.OutcomeCrash, "Runtime.ExitError", "Runtime exited without providing a reason", true, false)

	s, g, _ = started(t, Config{})
	done = execute(s, d)
	g.response()
	_ = g.nc.Close()
	s.Exited(kiln.Exit{Status: "signal: killed", Memory: true})
	wantFailure(t, await(t, done), kiln.OutcomeMemory, "Runtime.OutOfMemory", "RequestId: ", true, false)

	s, g, _ = started(t, Config{}) // ended while idle, its end not yet known here
	_ = g.nc.Close()
	done = execute(s, d)
	s.Exited(exit)
	if a := await(t, done); !a.Lost || !a.Undelivered {
		t.Errorf("ended while idle: %+v", a)
	}
}

// An answer that breaks off is a truncated one when the process lives, and its end when it does not.
func TestTruncated(t *testing.T) {
	for _, chunked := range []bool{false, true} {
		for _, exits := range []bool{false, true} {
			s, g, _ := started(t, Config{})
			d := delivery(1, "{}", time.Minute)
			done := execute(s, d)
			g.response()
			head := "Content-Length: 100\r\n\r\nhalf"
			if chunked {
				head = "Transfer-Encoding: chunked\r\n\r\n64\r\nhalf"
			}
			g.write("POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: x\r\n%s", d.RequestID, head)
			_ = g.nc.Close()
			kind := "Runtime.TruncatedResponse"
			if exits {
				s.Exited(kiln.Exit{Status: "exit status 7"})
				kind = "Runtime.ExitError"
			}
			wantFailure(t, await(t, done), kiln.OutcomeCrash, kind, string(d.RequestID), true, false)
		}
	}
}

// The end of the session, or of the caller's patience, ends an execution at once.
func TestEndDuringExecution(t *testing.T) {
	s, g, _ := started(t, Config{})
	done := execute(s, delivery(1, "{}", time.Minute))
	g.response()
	s.Close()
	s.Close()
	wantFailure(t, await(t, done), kiln.OutcomeFailed, "Sandbox.Failure", "ended", true, false)

	s, g, _ = started(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	answers := make(chan kiln.Answer, 1)
	go func() { answers <- s.Execute(ctx, delivery(1, "{}", time.Minute)) }()
	g.response()
	cancel()
	wantFailure(t, await(t, answers), kiln.OutcomeFailed, "Sandbox.Failure", "given up", true, false)
}

// Initialisation fails as AWS says: reported by the runtime, by the end of its process, or by the limit.
func TestInitFails(t *testing.T) {
	s, connect := open(t, Config{})
	g := connect()
	g.write("%s", post("init/error", `{"errorMessage":"no module"}`, "Lambda-Runtime-Function-Error-Type: Runtime.ImportModuleError"))
	r := s.Started(t.Context(), time.Minute)
	g.expect(202, "OK")
	if r.Failure == nil || r.Failure.Outcome != kiln.OutcomeInit || r.Failure.Type != "Runtime.ImportModuleError" || string(r.Failure.Payload) != `{"errorMessage":"no module"}` {
		t.Errorf("reported: %+v", r.Failure)
	}
	if a := s.Execute(t.Context(), delivery(1, "", time.Minute)); !a.Undelivered || !a.Lost {
		t.Errorf("executed after it: %+v", a)
	}

	s, connect = open(t, Config{}) // reports and ends at once: the report counts
	g = connect()
	g.write("%s", post("init/error", `{"errorType":"Custom"}`))
	g.expect(202, "OK")
	_ = g.nc.Close()
	s.Exited(kiln.Exit{Status: "exit status 1"})
	if r := s.Started(t.Context(), time.Minute); r.Failure == nil || r.Failure.Type != "Custom" {
		t.Errorf("reported before its end: %+v", r.Failure)
	}

	s, _ = open(t, Config{})
	s.Exited(kiln.Exit{Status: "exit status 1"})
	if r := s.Bind(t.Context(), nil, "h", time.Minute); r.Failure == nil || r.Failure.Type != "Runtime.ExitError" || r.Failure.Outcome != kiln.OutcomeInit ||
		string(r.Failure.Payload) != `{"errorType":"Runtime.ExitError","errorMessage":"Runtime exited with error: exit status 1"}` {
		t.Errorf("ended: %+v", r.Failure)
	}

	s, _ = open(t, Config{})
	if r := s.Started(t.Context(), 50*time.Millisecond); r.Failure == nil || r.Failure.Type != "Sandbox.Timedout" || r.Failure.Outcome != kiln.OutcomeInit {
		t.Errorf("overdue: %+v", r.Failure)
	}
	s, _ = open(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := s.Started(ctx, time.Minute); r.Failure == nil || r.Failure.Type != "Sandbox.Failure" {
		t.Errorf("given up: %+v", r.Failure)
	}
}

// Connections, heads and slow requests have limits; an ordinary client beside them is served.
func TestLimits(t *testing.T) {
	s, connect := open(t, Config{MaxConnections: 3, MaxHeaderBytes: 8 << 10, RequestLimit: 200 * time.Millisecond})
	slow := connect()
	slow.write("GET /2018-06-01/ping HTTP/1.1\r\nHost")
	large := connect()
	large.write("GET /2018-06-01/ping HTTP/1.1\r\nX: %s\r\n\r\n", strings.Repeat("x", 8<<10))
	large.expect(431, "")
	slow.expect(408, "")
	if _, err := slow.r.ReadByte(); err != io.EOF {
		t.Errorf("slow request: %v", err)
	}
	for _, bad := range []string{"nonsense\r\n\r\n", "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
		"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "GET / HTTP/1.1\r\nA : b\r\n\r\n", "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"} {
		g := connect()
		g.write("%s", bad)
		g.expect(400, "")
		if _, err := g.r.ReadByte(); err != io.EOF {
			t.Errorf("%q: connection not closed: %v", bad, err)
		}
	}
	for range 3 {
		g := connect()
		g.write("GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\n\r\n")
		g.expect(200, "pong")
	}
	g := connect()
	if _, err := g.r.ReadByte(); err == nil {
		t.Error("a connection over the limit was served")
	}
	_ = s
}

// Go's own HTTP client, as aws-lambda-go uses it, is served as it is.
func TestOrdinaryClient(t *testing.T) {
	s, connect := open(t, Config{})
	base := "http://" + connect().nc.RemoteAddr().String() + "/2018-06-01/runtime/"
	var wg sync.WaitGroup
	const n = 300
	wg.Go(func() {
		client := &http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		for range n {
			r, err := client.Get(base + "invocation/next")
			if err != nil {
				t.Error(err)
				return
			}
			read, write := io.Pipe() // of unknown length: chunked
			go func() {
				_, err := io.Copy(write, r.Body)
				_ = write.CloseWithError(err)
			}()
			p, err := client.Post(base+"invocation/"+r.Header.Get("Lambda-Runtime-Aws-Request-Id")+"/response", "application/json", read)
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, p.Body)
			_ = p.Body.Close()
			_ = r.Body.Close()
		}
	})
	if r := s.Started(t.Context(), 10*time.Second); r.Failure != nil {
		t.Fatal(r.Failure)
	}
	for i := range n {
		want := fmt.Sprintf(`{"n":%d,"pad":%q}`, i, strings.Repeat("p", i*40))
		if a := s.Execute(t.Context(), delivery(i, want, 20*time.Second)); string(a.Payload) != want {
			t.Fatalf("%d: %+v", i, a.Failure)
		}
	}
	wg.Wait()
}

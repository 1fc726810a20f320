package chaos

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"kiln/test/kilntest"
)

// rogue is a runtime of its own that breaks the Runtime API as the event asks.
func rogue(t *testing.T) kilntest.Function {
	t.Helper()
	return kilntest.Function{Name: "rogue", Runtime: kilntest.ProvidedRuntime, Handler: "x", MemoryMiB: 256, TimeoutSeconds: 2,
		Files: map[string][]byte{"bootstrap": kilntest.Guest(t, "rogue.py")}}
}

// ownAnswer is what rogue.py answers when it answers: the id of the request it was given.
type ownAnswer struct {
	ID       string
	Count    int
	Mine     *ownAnswer
	Statuses []int
}

// failedAs demands a failed execution of a type, with a message.
func failedAs(t *testing.T, answer *kilntest.Answer, kind, message string) {
	t.Helper()
	var body struct{ ErrorType, ErrorMessage string }
	answer.JSON(&body)
	if answer.Status != http.StatusOK || answer.FunctionError() != "Unhandled" || body.ErrorType != kind || !regexp.MustCompile(message).MatchString(body.ErrorMessage) {
		t.Errorf("the answer is %d, %q: %s; want %s with %s", answer.Status, answer.FunctionError(), answer.Body, kind, message)
	}
}

// Whatever a runtime of its own does with the Runtime API (answers twice, for another request, too much, half, nothing,
// closes its connections, opens too many, sends garbage), its caller has one answer, that of its own execution or AWS's
// word for what went wrong; the neighbour does not notice, and the next request is served well. // R44
func TestRuntimeBreaksTheAPI(t *testing.T) {
	kilntest.NeedContainer(t)
	s := shared.Server(t)
	n := startNeighbour(t, s)
	a := s.NewAccount(t)
	a.Deploy(rogue(t))
	for _, c := range []struct{ event, kind, message string }{
		{`{"do":"twice"}`, "", ""},
		{`{"do":"other","other":"ID"}`, "", ""},
		{`{"do":"reconnect"}`, "", ""},
		{`{"do":"next"}`, "", ""},
		{`{"do":"garbage"}`, "", ""},
		{`{"do":"flood","links":500}`, "", ""},
		{`{"do":"init error"}`, "", ""},
		{`{"do":"close"}`, "Sandbox.Timedout", `timed out after 2\.00 seconds`},
		{`{"do":"never"}`, "Sandbox.Timedout", `timed out after 2\.00 seconds`},
		{`{"do":"big","bytes":7000000}`, "Function.ResponseSizeTooLarge", `Response payload size exceeded maximum allowed payload size \(6291556 bytes\)\.`},
		{`{"do":"half","then":"close"}`, "Runtime.TruncatedResponse", `Response from runtime was truncated`},
		{`{"do":"half","then":"exit"}`, "Runtime.ExitError|Runtime.TruncatedResponse", ``},
		{`{"do":"half","then":"stall"}`, "Sandbox.Timedout", `timed out after 2\.00 seconds`},
	} {
		t.Run(c.event, func(t *testing.T) {
			good := own(t, a.Invoke(kilntest.Invocation{Function: "rogue"}))
			answer := a.Invoke(kilntest.Invocation{Function: "rogue", Payload: strings.ReplaceAll(c.event, "ID", good.ID)})
			if c.kind == "" {
				got := own(t, answer)
				for _, status := range got.Statuses {
					if status < 400 || status > 499 {
						t.Errorf("a wrong call was answered %v", got.Statuses)
					}
				}
			} else {
				kind := c.kind
				if alternatives := strings.Split(kind, "|"); len(alternatives) > 1 && bytes.Contains(answer.Body, []byte(alternatives[1])) {
					kind = alternatives[1]
				} else {
					kind = alternatives[0]
				}
				failedAs(t, answer, kind, c.message)
			}
			own(t, a.Invoke(kilntest.Invocation{Function: "rogue"}))
		})
	}
	n.unhurt()
}

// own demands the answer to this very request.
func own(t *testing.T, answer *kilntest.Answer) ownAnswer {
	t.Helper()
	var got ownAnswer
	answer.OK().JSON(&got)
	if got.Mine != nil {
		got.ID, got.Count = got.Mine.ID, got.Mine.Count
	}
	if got.ID != answer.RequestID() {
		t.Fatalf("request %s was answered %s", answer.RequestID(), answer.Body)
	}
	return got
}

// A function of a managed language that stops itself, closes every file it has, or answers more than there may be, is a
// failed execution; one that leaves children behind or prints 100 MB is a good one. The log keeps its bound, the server
// its memory, the neighbour its pace. // R16 R44
func TestHostileHandlers(t *testing.T) {
	kilntest.NeedContainer(t)
	s := shared.Server(t)
	n := startNeighbour(t, s)
	a := s.NewAccount(t)
	f := kilntest.Function{Name: "bad", Runtime: kilntest.PythonRuntime, Handler: "misdeeds.handler", MemoryMiB: 512, TimeoutSeconds: 2,
		Files: map[string][]byte{"misdeeds.py": kilntest.Guest(t, "misdeeds.py")}}
	a.Deploy(f)
	loud := f
	loud.Name, loud.TimeoutSeconds = "loud", 60
	a.Deploy(loud)
	for event, want := range map[string][2]string{
		`{"do":"stop"}`:                 {"Sandbox.Timedout", `timed out after 2\.00 seconds`},
		`{"do":"close"}`:                {"Sandbox.Timedout", `timed out after 2\.00 seconds`},
		`{"do":"big","bytes":7000000}`:  {"Function.ResponseSizeTooLarge", `exceeded maximum allowed payload size`},
		`{"do":"kill"}`:                 {"Sandbox.Timedout", `timed out after 2\.00 seconds`},
		`{"do":"exit","status":0}`:      {"Runtime.ExitError", `Runtime exited without providing a reason`},
		`{"do":"stay and sleep"}`:       {"Sandbox.Timedout", `timed out after 2\.00 seconds`},
		`{"do":"sleep","seconds":1000}`: {"Sandbox.Timedout", `timed out after 2\.00 seconds`},
	} {
		answer := a.Invoke(kilntest.Invocation{Function: "bad", Payload: event})
		failedAs(t, answer, want[0], want[1])
		if !strings.Contains(event, "big") {
			kilntest.Eventually(t, 10*time.Second, func() error {
				if left := s.Bearing(answer.Container()); len(left) > 0 {
					return fmt.Errorf("%s left %v", event, left)
				}
				return nil
			})
		}
		a.Invoke(kilntest.Invocation{Function: "bad"}).OK()
	}
	before := resident(t, s)
	answer := a.Invoke(kilntest.Invocation{Function: "loud", Payload: `{"do":"shout","mebibytes":100}`, Tail: true}).OK()
	if tail := answer.Header.Get("X-Amz-Log-Result"); len(tail) == 0 || len(tail) > 4<<10*4/3+4 {
		t.Errorf("the tail of the log has %d bytes in base64", len(tail))
	}
	if grown := resident(t, s) - before; grown > 128<<20 {
		t.Errorf("the server grew by %d MiB", grown>>20)
	}
	if kept := sizeOf(t, filepath.Join(s.Data, "ledger")); kept > 32<<20 {
		t.Errorf("after 100 MiB of log of a function that may keep 1 MiB, the ledger has %d MiB", kept>>20)
	}
	t.Logf("100 MiB of log took %s", answer.Got.Sub(answer.Sent))
	n.unhurt()
}

// resident is the server's memory, in bytes.
func resident(t *testing.T, s *kilntest.Server) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// sizeOf is what a folder takes on disk, in bytes of its files.
func sizeOf(t *testing.T, dir string) (total int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			total += info.Size()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return total
}

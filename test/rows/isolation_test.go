package rows

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln/test/kilntest"
)

// sought is what hostile.py answers.
type sought struct {
	Found       []string
	Hostname    string
	MachineID   string
	Processes   int
	Environment string
}

// Containers see nothing of each other, whether of two accounts or of one account on one instance: hostile code finds in
// its own container every secret it planted, and from the other container not one, by files, processes, environment,
// network, sockets, shared memory or signals. // R42
func TestContainersSeeNothingOfEachOther(t *testing.T) {
	for _, name := range []string{"two accounts", "one instance"} {
		t.Run(name, func(t *testing.T) {
			victim := account(t)
			attacker := victim
			if name == "two accounts" {
				attacker = victim.Server.NewAccount(t)
			}
			secret := strings.ToLower(rand.Text())
			deployHostile(victim, t, "victim", secret)
			deployHostile(attacker, t, "attacker", "")
			planted := seek(t, victim.Invoke(kilntest.Invocation{Function: "victim", Payload: fmt.Sprintf(`{"plant":%q,"seek":%q}`, secret, secret)}))
			// The control: what cannot be found by the one who hid it would be found by nobody.
			for _, place := range []string{"/tmp/secret-", "/environ", "/cmdline", "tcp 127.0.0.1", "abstract socket"} {
				if !slices.ContainsFunc(planted.Found, func(f string) bool { return strings.Contains(f, place) }) {
					t.Fatalf("the victim itself does not find %s: %v", place, planted.Found)
				}
			}
			held := make(chan *kilntest.Answer, 1)
			go func() {
				answer, err := victim.TryInvoke(kilntest.Invocation{Function: "victim", Payload: fmt.Sprintf(`{"seek":%q,"stayMs":3000}`, secret)})
				if err != nil {
					t.Error(err)
				}
				held <- answer
			}()
			pids, err := json.Marshal(hostPids(victim))
			if err != nil {
				t.Fatal(err)
			}
			got := seek(t, attacker.Invoke(kilntest.Invocation{Function: "attacker", Payload: fmt.Sprintf(`{"seek":%q,"forMs":1500,"pids":%s}`, secret, pids)}))
			still := seek(t, <-held)
			if len(got.Found) != 0 {
				t.Errorf("from the other container it found %v", got.Found)
			}
			if got.Hostname == planted.Hostname || still.Hostname != planted.Hostname {
				t.Errorf("victim in %s, then %s; attacker in %s", planted.Hostname, still.Hostname, got.Hostname)
			}
			if (got.MachineID == planted.MachineID) != (attacker == victim) {
				t.Errorf("victim on %s, attacker on %s", planted.MachineID, got.MachineID)
			}
			if got.Processes > 4 {
				t.Errorf("the attacker sees %d processes", got.Processes)
			}
		})
	}
}

func deployHostile(a *kilntest.Account, t *testing.T, name, secret string) {
	t.Helper()
	f := kilntest.Function{Name: name, Runtime: kilntest.PythonRuntime, Handler: "hostile.handler", MemoryMiB: 256, TimeoutSeconds: 30,
		Files: map[string][]byte{"hostile.py": kilntest.Guest(t, "hostile.py")}}
	if secret != "" {
		f.Environment = map[string]string{"SECRET": secret}
	}
	a.Deploy(f)
}

func seek(t *testing.T, answer *kilntest.Answer) sought {
	t.Helper()
	var s sought
	if answer == nil {
		t.Fatal("no answer")
	}
	answer.OK().JSON(&s)
	return s
}

// hostPids gives the processes of an account's containers as this machine counts them: numbers that must mean nothing
// inside another container. Those small enough to be of the attacker's own are left out.
func hostPids(a *kilntest.Account) []int {
	pids := []int{}
	for _, c := range a.Containers() {
		if c.Pid > 100 {
			pids = append(pids, c.Pid)
		}
	}
	return pids
}

// Executions at the same time are in containers of their own: five that sleep four seconds are five hosts, and take
// less than one after the other would. // R43
func TestSimultaneousExecutionsAreApart(t *testing.T) {
	languages(t, func(t *testing.T, language string) {
		a := account(t)
		name := a.Probe(language, "sleeper")
		began := time.Now()
		hosts := map[string]bool{}
		for _, f := range atOnce(t, 5, func(int) (*kilntest.Answer, error) {
			return a.TryInvoke(kilntest.Invocation{Function: name, Payload: `{"sleepMs":4000}`})
		}) {
			hosts[f.Hostname] = true
			if f.Count != 1 {
				t.Errorf("execution %d of its process", f.Count)
			}
		}
		if len(hosts) != 5 {
			t.Errorf("five sleepers ran in %d containers", len(hosts))
		}
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("they took %s", took)
		}
	})
}

// Who is not authorised is refused with AWS's 403, whether what is asked for exists or not; no code runs and no capacity
// is touched: not one event, and the pools stay as they are. // R15
func TestUnauthorisedTouchesNothing(t *testing.T) {
	kilntest.NeedContainer(t)
	s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"warming.instances": "1"}})
	operator, owner, stranger := s.Operator(t), s.NewAccount(t), s.NewAccount(t)
	name := owner.Probe("python", "private")
	owner.Invoke(kilntest.Invocation{Function: name}).OK()
	before := settled(t, operator)
	last := lastEvent(operator)

	arn := "arn:aws:lambda:us-east-1:" + owner.ID + ":function:"
	for _, function := range []string{arn + name, arn + "nobody", owner.ID + ":function:" + name, arn + name + ":$LATEST"} {
		stranger.Invoke(kilntest.Invocation{Function: function}).Refused(http.StatusForbidden, "AccessDeniedException")
	}
	wrong := owner.Invoke(kilntest.Invocation{Function: name, Secret: "not the secret of this key at all, at all"})
	wrong.Refused(http.StatusForbidden, "InvalidSignatureException")
	path := "/2015-03-31/functions/" + name
	unsigned := kilntest.Call{Method: http.MethodPost, Path: path + "/invocations", Body: []byte("{}"), Unsigned: true}
	owner.Do(unsigned).Refused(http.StatusForbidden, "MissingAuthenticationTokenException")
	unknown := kilntest.Call{Method: http.MethodPost, Path: path + "/invocations", Body: []byte("{}"), Key: "AKIAUNKNOWNUNKNOWN00"}
	owner.Do(unknown).Refused(http.StatusForbidden, "UnrecognizedClientException")
	stranger.Do(kilntest.Call{Method: http.MethodGet, Path: path}).Refused(http.StatusNotFound, "ResourceNotFoundException")
	for _, what := range []string{"instances", "containers", "executions", "events"} {
		if body := stranger.Do(kilntest.Call{Method: http.MethodGet, Path: "/kiln/v1/" + what}).OK().Body; strings.Contains(string(body), owner.ID) {
			t.Errorf("the stranger's list of %s names the owner: %s", what, body)
		}
	}

	if now := lastEvent(operator); now != last {
		t.Errorf("the refused requests left %d events: %+v", now-last, operator.Events()[len(operator.Events())-int(now-last):])
	}
	if now := settled(t, operator); !slices.Equal(now, before) {
		t.Errorf("the warming pool was %v and is %v", before, now)
	}
	if f := owner.Invoke(kilntest.Invocation{Function: name}).Facts(); f.Count != 2 {
		t.Errorf("the owner's code ran %d times, and not twice", f.Count)
	}
}

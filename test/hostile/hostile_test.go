// Package hostile sets a hostile guest beside a neighbour with a canary, in containers of two accounts and of one account
// on one instance, and shows that whatever the guest tries is refused by the kernel or the node, or harmless, while the
// canary stays untouched and unseen and the neighbour lacks nothing.
//
// It is black-box: the guest (test/hostile/guest, one compiled function for both sides) says what it tried and what it
// got, this package judges. What a shared kernel cannot stop is named here and in docs/isolation.md, whose table is
// written by this suite: go test ./test/hostile -update.
package hostile

import (
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"kiln/test/kilntest"
)

var update = flag.Bool("update", false, "write the table of docs/isolation.md anew")

// shared is the server of all tests: its instances have room for both sides.
var shared = kilntest.Shared{Options: kilntest.Options{Settings: map[string]string{
	"instances.shapes":  `[{"memory":3072,"cpus":3}]`,
	"warming.instances": "1",
}}}

func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }

// tcpPages is how much memory of the whole machine, in pages, may be in buffers of TCP while one guest of 512 MiB takes all
// it can: half of its own limit, the rest being other tests'.
const tcpPages = 256 << 20 / 4096

// outcome is what one probe of the guest got.
type outcome struct{ Area, Name, Errno string }

// harmless are the attempts that succeed, and why nothing follows from it. Every other attempt must be refused.
var harmless = map[string]string{ // never written
	"execute a file that is only in memory (memfd)":                 "what it runs has no more rights than the function has",
	"lock /usr/bin/env, a file all containers share":                "a lock asks those who ask for locks, and programs do not lock themselves",
	"watch /usr/bin, a folder all containers share":                 "shows that someone on the machine starts programs, not who",
	"read the machine's memory, load and processors in /proc":       "the kernel has no namespaces for them",
	"read the kernel's command line":                                "the kernel has no namespace for it",
	"be as dear as the node when memory runs out (oom_score_adj 0)": "where the server has no CAP_SYS_RESOURCE, as here; its own limit ends it long before",
}

// sides are a neighbour and an attacker, deployed.
type sides struct {
	t                *testing.T
	victim, attacker *kilntest.Account
	secret           string
}

// arrangements runs a test for both ways two containers can be neighbours.
func arrangements(t *testing.T, test func(s sides)) {
	kilntest.NeedContainer(t)
	for _, name := range []string{"two accounts", "one instance"} {
		t.Run(name, func(t *testing.T) {
			server := shared.Server(t)
			s := sides{t: t, victim: server.NewAccount(t), secret: strings.ToLower(rand.Text())}
			s.attacker = s.victim
			if name == "two accounts" {
				s.attacker = server.NewAccount(t)
			}
			program := guest(t)
			deploy(s.victim, "victim", program, map[string]string{"SECRET": s.secret})
			deploy(s.attacker, "attacker", program, nil)
			s.say("victim", `{"Do":"plant","Secret":"`+s.secret+`"}`, `"planted"`)
			s.fine("planted")
			here, there := s.invoke("victim", `{"Do":"check"}`), s.invoke("attacker", `{"Do":"release"}`)
			if together := here.Instance() == there.Instance(); together != (s.victim == s.attacker) || here.Container() == there.Container() {
				t.Fatalf("victim in %s of %s, attacker in %s of %s", here.Container(), here.Instance(), there.Container(), there.Instance())
			}
			test(s)
			s.fine("at the end")
		})
	}
}

var built = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "kiln-hostile-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "bootstrap")
	if err := kilntest.GoBuild("kiln/test/hostile/guest", path); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

func guest(t *testing.T) []byte {
	t.Helper()
	program, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

func deploy(a *kilntest.Account, name string, program []byte, environment map[string]string) {
	a.Deploy(kilntest.Function{Name: name, Runtime: kilntest.ProvidedRuntime, Handler: "bootstrap", MemoryMiB: 512, TimeoutSeconds: 60,
		Files: map[string][]byte{"bootstrap": program}, Environment: environment})
}

// of gives the account of a side.
func (s sides) of(side string) *kilntest.Account {
	if side == "victim" {
		return s.victim
	}
	return s.attacker
}

func (s sides) invoke(side, event string) *kilntest.Answer {
	s.t.Helper()
	return s.of(side).Invoke(kilntest.Invocation{Function: side, Payload: event}).OK()
}

// say demands one answer.
func (s sides) say(side, event, want string) {
	s.t.Helper()
	if got := string(s.invoke(side, event).Body); got != want {
		s.t.Fatalf("%s answers %s with %s, want %s", side, event, got, want)
	}
}

// fine demands that the neighbour is unhurt, still the same, and lacks nothing.
func (s sides) fine(when string) {
	s.t.Helper()
	var report string
	s.invoke("victim", `{"Do":"check"}`).JSON(&report)
	if report != "fine" {
		s.t.Errorf("%s: the neighbour says: %s", when, report)
	}
}

// probe lets the attacker make every attempt, told of the world what a stranger would not know.
func (s sides) probe(secret, requestID string) []outcome {
	s.t.Helper()
	server := s.attacker.Server
	pids := []int{server.Pid()}
	for _, c := range s.victim.Containers() {
		if c.Function == "victim" {
			pids = append(pids, c.Pid)
		}
	}
	stages, err := filepath.Glob("/run/kiln-*")
	if err != nil || len(stages) == 0 {
		s.t.Fatalf("the node has no stage: %v", err)
	}
	binary, err := kilntest.Binary()
	if err != nil {
		s.t.Fatal(err)
	}
	event, err := json.Marshal(map[string]any{"Do": "probe", "Secret": secret, "RequestID": requestID, "Pids": pids,
		"Addresses": addresses(s.t, server), "Paths": []string{server.Data, stages[0], binary}})
	if err != nil {
		s.t.Fatal(err)
	}
	var got []outcome
	s.invoke("attacker", string(event)).JSON(&got)
	if len(got) < 200 {
		s.t.Fatalf("%d probes: %v", len(got), got)
	}
	return got
}

// addresses are those at which this machine reaches the node, and those at which it might.
func addresses(t *testing.T, server *kilntest.Server) []string {
	t.Helper()
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{at.Host}
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range own {
		if ip, _, err := net.ParseCIDR(a.String()); err == nil && !ip.IsLoopback() && ip.To4() != nil {
			all = append(all, net.JoinHostPort(ip.String(), at.Port()))
			break
		}
	}
	return all
}

// Whatever a hostile guest tries is refused or harmless, while the neighbour executes, keeps its canary and answers for
// itself. R42 R45
func TestContained(t *testing.T) {
	var all []outcome
	arrangements(t, func(s sides) {
		held := make(chan *kilntest.Answer, 1)
		go func() {
			answer, err := s.victim.TryInvoke(kilntest.Invocation{Function: "victim", Payload: `{"Do":"hold"}`})
			if err != nil {
				s.t.Error(err)
			}
			held <- answer
		}()
		id := s.holding()
		got := s.probe(s.secret, id)
		s.t.Log("\n" + table(got))
		for _, o := range got {
			if o.Errno == "" && harmless[o.Name] == "" {
				s.t.Errorf("%s: %s: it succeeded", o.Area, o.Name)
			}
		}
		var report struct{ ID, Report string }
		(<-held).OK().JSON(&report)
		if report.ID != id || report.Report != "fine" {
			s.t.Errorf("the neighbour, while the attacker was at work: %+v", report)
		}
		all = got
	})
	if !t.Failed() {
		documented(t, all)
	}
}

var holdingLine = regexp.MustCompile(`holding ([0-9a-f-]{36})`)

// holding gives the request id of the neighbour's execution under way, from its log.
func (s sides) holding() (id string) {
	s.t.Helper()
	kilntest.Eventually(s.t, 5*time.Second, func() error {
		answer := s.victim.Do(kilntest.Call{Method: http.MethodGet, Path: "/kiln/v1/logs/victim", Service: "kiln"})
		found := holdingLine.FindSubmatch(answer.Body)
		if found == nil {
			return fmt.Errorf("the neighbour does not hold yet: %d %s", answer.Status, answer.Body)
		}
		id = string(found[1])
		return nil
	})
	return id
}

// The control: each attempt to find the canary does find one that the attacker itself has planted, so that finding
// nothing means that there is nothing to be found. R42
func TestControl(t *testing.T) {
	arrangements(t, func(s sides) {
		own := strings.ToLower(rand.Text())
		s.say("attacker", `{"Do":"plant","Secret":"`+own+`"}`, `"planted"`)
		found := map[string]bool{}
		for _, o := range s.probe(own, "00000000-0000-4000-8000-000000000000") {
			found[o.Name] = o.Errno == ""
		}
		for _, name := range []string{"find the secret in any file, also by /proc/*/root, /proc/*/fd, /proc/*/environ", "find the secret in shared memory by its key",
			"find the neighbour's listener on loopback", "find the neighbour's abstract socket", "see sockets that are not its own in /proc/net/unix"} {
			if !found[name] {
				s.t.Errorf("%s: does not find what is there", name)
			}
		}
	})
}

// A guest that uses up all it can get of something meets its own limit, and the neighbour still gets enough of it. R44 R87
func TestExhaustion(t *testing.T) {
	arrangements(t, func(s sides) {
		for _, kind := range []string{"descriptors", "inodes", "disk", "processes", "inotify", "epoll", "connections", "shm", "locks", "memory"} {
			var taken string
			s.invoke("attacker", `{"Do":"exhaust","Kind":"`+kind+`"}`).JSON(&taken)
			s.t.Logf("%s: %s", kind, taken)
			if _, pages, ok := strings.Cut(taken, "TCPmem "); ok {
				if n, err := strconv.Atoi(pages); err != nil || n > tcpPages {
					s.t.Errorf("after taking all %s the machine holds %s pages in buffers of TCP", kind, pages)
				}
			}
			s.fine("while the other has taken all " + kind)
			s.say("attacker", `{"Do":"release"}`, `"released"`)
		}
		answer := s.attacker.Invoke(kilntest.Invocation{Function: "attacker", Payload: `{"Do":"eat"}`})
		if answer.FunctionError() == "" {
			s.t.Errorf("eating all memory: %s", answer.Body)
		}
		s.fine("after the other ran out of memory")
		s.say("attacker", `{"Do":"release"}`, `"released"`) // in a fresh container
	})
}

// documented demands that docs/isolation.md tells each probe, and writes it there with -update.
func documented(t *testing.T, all []outcome) {
	t.Helper()
	const begin, end = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
	path := filepath.Join(kilntest.Root(), "docs", "isolation.md")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), begin)
	written, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", path)
	}
	if *update {
		if err := os.WriteFile(path, []byte(before+begin+table(all)+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, o := range all {
		if !strings.Contains(written, o.Name) {
			t.Errorf("docs/isolation.md does not tell %q; run go test ./test/hostile -update", o.Name)
		}
	}
}

// table groups the attempts by area and by what they got.
func table(all []outcome) string {
	var b strings.Builder
	b.WriteString("| | tried | got |\n|---|---|---|\n")
	var areas []string
	for _, o := range all {
		if !slices.Contains(areas, o.Area) {
			areas = append(areas, o.Area)
		}
	}
	for _, area := range areas {
		tried := map[string][]string{}
		for _, o := range all {
			if o.Area == area {
				got := o.Errno
				if got == "" {
					got = "allowed: " + harmless[o.Name]
				}
				tried[got] = append(tried[got], o.Name)
			}
		}
		for _, got := range slices.Sorted(maps.Keys(tried)) {
			names := tried[got]
			slices.Sort(names)
			fmt.Fprintf(&b, "| %s | %s | %s |\n", area, strings.Join(names, " · "), got)
		}
	}
	return b.String()
}

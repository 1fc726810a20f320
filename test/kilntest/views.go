package kilntest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Instance is an instance as the operations API lists it. The members are named here again, and not taken from Kiln's
// own packages, so that a change of the interface is seen.
type Instance struct {
	ID       string          `json:"id"`
	Node     string          `json:"node"`
	Pool     string          `json:"pool"`
	State    string          `json:"state"`
	Account  string          `json:"account"`
	Fleet    string          `json:"fleet"`
	Driver   string          `json:"driver"`
	Runtimes []string        `json:"runtimes"`
	Shape    Shape           `json:"shape"`
	BootID   string          `json:"bootId"`
	BootedAt time.Time       `json:"bootedAt"`
	Cache    json.RawMessage `json:"codeCache"`
}

// Shape is an instance's maximum.
type Shape struct {
	MemoryMiB int     `json:"memoryMiB"`
	CPUs      float64 `json:"cpus"`
}

// Holds reports whether the instance has a runtime of this language, e.g. "python".
func (i Instance) Holds(language string) bool {
	return slices.ContainsFunc(i.Runtimes, func(r string) bool { return strings.HasPrefix(r, language) })
}

// Container is a container as the operations API lists it.
type Container struct {
	ID        string `json:"id"`
	Instance  string `json:"instance"`
	State     string `json:"state"`
	Function  string `json:"function"`
	Version   string `json:"version"`
	Pid       int    `json:"pid"`
	MemoryMiB int    `json:"memoryMiB"`
}

// Event is an event as the operations API lists it.
type Event struct {
	ID        uint64    `json:"id"`
	Time      time.Time `json:"time"`
	Kind      string    `json:"kind"`
	Cause     string    `json:"cause"`
	RequestID string    `json:"requestId"`
	Account   string    `json:"account"`
	Function  string    `json:"function"`
	Version   string    `json:"version"`
	Instance  string    `json:"instance"`
	Container string    `json:"container"`
}

// Execution is an execution record as the operations API gives it.
type Execution struct {
	RequestID       string `json:"requestId"`
	Account         string `json:"account"`
	Function        string `json:"function"`
	VersionAsked    string `json:"versionAsked"`
	VersionExecuted string `json:"versionExecuted"`
	Trigger         string `json:"trigger"`
	Fleet           string `json:"fleet"`
	Node            string `json:"node"`
	Instance        string `json:"instance"`
	Container       string `json:"container"`
	RuntimeUsed     string `json:"runtimeUsed"`
	Path            string `json:"path"`
	Outcome         string `json:"outcome"`
	ErrorType       string `json:"errorType"`
	Memory          struct {
		Asked     int   `json:"asked"`
		Allocated int   `json:"allocated"`
		Used      int64 `json:"used"`
	} `json:"memory"`
	Times struct {
		Received, Admitted, Acquired, CodeStart, CodeEnd, Answered *time.Time
	} `json:"times"`
}

// Fleet is a fleet as the operations API lists it.
type Fleet struct {
	Name         string `json:"name"`
	Account      string `json:"account"`
	Manager      string `json:"manager"`
	Instances    int    `json:"instances"`
	InstancesMax int    `json:"instancesMax"`
	Target       int    `json:"target"`
}

// Usage is how often a function was asked for as the operations API lists it.
type Usage struct {
	Account  string `json:"account"`
	Function string `json:"function"`
	Requests int    `json:"requests"`
	Fleet    string `json:"fleet"`
	Pinned   bool   `json:"pinned"`
}

// Fleets lists the fleets this account may see, by name.
func (a *Account) Fleets() map[string]Fleet {
	a.tb.Helper()
	fleets := map[string]Fleet{}
	for _, f := range must[Fleet](a, "fleets", nil) {
		fleets[f.Name] = f
	}
	return fleets
}

// Usage gives how often a function of this account was asked for.
func (a *Account) Usage(function string) Usage {
	a.tb.Helper()
	for _, u := range must[Usage](a, "usage", []string{"function=" + function}) {
		if u.Account == a.ID {
			return u
		}
	}
	return Usage{Account: a.ID, Function: function}
}

// maxPages bounds the pages of one list.
const maxPages = 200

// list reads all pages of a list; filters are field=value.
func list[T any](a *Account, what string, filters []string) ([]T, error) {
	var all []T
	query := url.Values{"limit": {"1000"}}
	for _, f := range filters {
		name, value, _ := strings.Cut(f, "=")
		query.Set(name, value)
	}
	for range maxPages {
		answer, err := a.try(Call{Method: http.MethodGet, Path: "/kiln/v1/" + what, Query: query, Service: "kiln"})
		if err != nil {
			return nil, err
		}
		var page struct {
			Items *[]T   `json:"items"`
			Next  string `json:"next"`
		}
		if answer.Status != http.StatusOK {
			return nil, fmt.Errorf("list %s: %d %s", what, answer.Status, clip(answer.Body))
		}
		if err := json.Unmarshal(answer.Body, &page); err != nil || page.Items == nil {
			return nil, fmt.Errorf("list %s: not a list of items (%v): %s", what, err, clip(answer.Body))
		}
		all = append(all, *page.Items...)
		if page.Next == "" {
			return all, nil
		}
		query.Set("next", page.Next)
	}
	return nil, fmt.Errorf("list %s: more than %d pages", what, maxPages)
}

func must[T any](a *Account, what string, filters []string) []T {
	a.tb.Helper()
	all, err := list[T](a, what, filters)
	if err != nil {
		a.tb.Fatal(err)
	}
	return all
}

// Instances lists the instances this account may see.
func (a *Account) Instances(filters ...string) []Instance {
	a.tb.Helper()
	return must[Instance](a, "instances", filters)
}

// TryInstances is Instances for any goroutine of the test.
func (a *Account) TryInstances(filters ...string) ([]Instance, error) {
	return list[Instance](a, "instances", filters)
}

// Containers lists the containers this account may see.
func (a *Account) Containers(filters ...string) []Container {
	a.tb.Helper()
	return must[Container](a, "containers", filters)
}

// TryContainers is Containers for any goroutine of the test.
func (a *Account) TryContainers(filters ...string) ([]Container, error) {
	return list[Container](a, "containers", filters)
}

// Events lists the events this account may see, the oldest first.
func (a *Account) Events(filters ...string) []Event {
	a.tb.Helper()
	events := must[Event](a, "events", filters)
	slices.SortFunc(events, func(x, y Event) int { return int(int64(x.ID) - int64(y.ID)) })
	return events
}

// Executions lists the execution records this account may see.
func (a *Account) Executions(filters ...string) []Execution {
	a.tb.Helper()
	return must[Execution](a, "executions", filters)
}

// Execution reads one record, which may be written a moment after the answer.
func (a *Account) Execution(id string) Execution {
	a.tb.Helper()
	var e Execution
	Eventually(a.tb, 5*time.Second, func() error {
		answer := a.Do(Call{Method: http.MethodGet, Path: "/kiln/v1/executions/" + id, Service: "kiln"})
		if answer.Status != http.StatusOK {
			return fmt.Errorf("record of %s: %d %s", id, answer.Status, clip(answer.Body))
		}
		return json.Unmarshal(answer.Body, &e)
	})
	return e
}

// EndContainer ends a container as an operator does, to test a loss.
func (a *Account) EndContainer(id string) {
	a.tb.Helper()
	a.Do(Call{Method: http.MethodDelete, Path: "/kiln/v1/containers/" + id, Service: "kiln"}).OK()
}

// EndInstance ends an instance as an operator does, to test a loss.
func (a *Account) EndInstance(id string) {
	a.tb.Helper()
	a.Do(Call{Method: http.MethodDelete, Path: "/kiln/v1/instances/" + id, Service: "kiln"}).OK()
}

// EndInstances ends all instances assigned to an account.
func (a *Account) EndInstances(account string) {
	instances, err := a.TryInstances("account=" + account)
	if err != nil {
		a.tb.Errorf("end the instances of %s: %v", account, err)
		return
	}
	for _, i := range instances {
		if i.Account != account {
			continue
		}
		answer, err := a.try(Call{Method: http.MethodDelete, Path: "/kiln/v1/instances/" + i.ID, Service: "kiln"})
		if err != nil || answer.Status > 299 && answer.Status != http.StatusNotFound {
			a.tb.Errorf("end instance %s: %v %v", i.ID, err, answer)
		}
	}
}

// Pool is a pool as the operations API counts it.
type Pool struct {
	ID        string `json:"id"`
	Fleet     string `json:"fleet"`
	Pool      string `json:"pool"`
	Runtime   string `json:"runtime"`
	Target    int    `json:"target"`
	Instances int    `json:"instances"`
	Booting   int    `json:"booting"`
	Demand    struct {
		Surge  bool   `json:"surge"`
		Reason string `json:"reason"`
	} `json:"demand"`
}

// Pools lists the pools this account may see.
func (a *Account) Pools(filters ...string) []Pool {
	a.tb.Helper()
	return must[Pool](a, "pools", filters)
}

// WarmingPool is the low-volume fleet's warming pool of a language in the smallest shape there is one of.
func (a *Account) WarmingPool(language string) Pool {
	a.tb.Helper()
	for _, p := range a.Pools("pool=warming", "fleet=low-volume") {
		if strings.HasPrefix(p.Runtime, language) {
			return p
		}
	}
	a.tb.Fatalf("no warming pool of %s is listed", language)
	return Pool{}
}

// Rate is how often something is asked for, as the operations API lists it.
type Rate struct {
	Scope         string  `json:"scope"`
	Fleet         string  `json:"fleet"`
	Configuration string  `json:"configuration"`
	Account       string  `json:"account"`
	Function      string  `json:"function"`
	Minute        float64 `json:"perSecond"`
}

// Rates lists the rates this account may see.
func (a *Account) Rates(filters ...string) []Rate {
	a.tb.Helper()
	return must[Rate](a, "rates", filters)
}

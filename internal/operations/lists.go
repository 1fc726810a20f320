package operations

import (
	"encoding/json"
	"fmt"
	"net/url"
	"runtime"
	"slices"
	"strings"

	"kiln"
	"kiln/internal/ledger"
	"kiln/internal/pool"
)

// list is every list's answer: items, and the token with which the next ones are asked, empty at the end.
type list[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next"`
}

func (o *Operations) execution(c *call) error {
	const op = "operations: get execution"
	id := kiln.RequestID(c.PathValue("id"))
	rec, err := o.cfg.Ledger.Execution(c.Context(), id)
	if kiln.KindOf(err) == kiln.KindUnavailable {
		return err
	}
	if err != nil || !c.caller.Operator && rec.Account != c.caller.Account {
		return kiln.Errorf(kiln.KindNotFound, op, "no execution of yours has the request id %s", id)
	}
	return o.ok(c, rec)
}

func (o *Operations) executions(c *call) error {
	account, since, until, n, err := bounds(c)
	if err != nil {
		return err
	}
	q := c.URL.Query()
	if err := known(q, "account", "since", "until", "limit", "next", "function", "version", "fleet", "instance", "container", "requestId", "outcome", "path"); err != nil {
		return err
	}
	items, next := o.cfg.Ledger.Executions(c.Context(), ledger.Filter{
		Account: account, Function: q.Get("function"), Version: q.Get("version"), Fleet: q.Get("fleet"),
		Instance: kiln.InstanceID(q.Get("instance")), Container: kiln.ContainerID(q.Get("container")),
		RequestID: kiln.RequestID(q.Get("requestId")), Outcome: kiln.Outcome(q.Get("outcome")), Path: kiln.Path(q.Get("path")),
		Since: since.Time, Until: until.Time, Limit: n, Next: q.Get("next"),
	})
	return o.ok(c, list[kiln.Record]{Items: nonNil(items), Next: next})
}

func (o *Operations) events(c *call) error {
	account, since, until, n, err := bounds(c)
	if err != nil {
		return err
	}
	q := c.URL.Query()
	if err := known(q, "account", "since", "until", "limit", "next", "function", "kind", "instance", "container", "requestId"); err != nil {
		return err
	}
	items, next := o.cfg.Ledger.Events(c.Context(), ledger.EventFilter{
		Account: account, Function: q.Get("function"), Kind: kiln.EventKind(q.Get("kind")),
		Instance: kiln.InstanceID(q.Get("instance")), Container: kiln.ContainerID(q.Get("container")),
		RequestID: kiln.RequestID(q.Get("requestId")), Since: since.Time, Until: until.Time, Limit: n, Next: q.Get("next"),
	})
	return o.ok(c, list[kiln.Event]{Items: nonNil(items), Next: next})
}

// bounds reads what every list of the past is bounded by.
func bounds(c *call) (account kiln.AccountID, since, until kiln.Time, n int, err error) {
	if account, err = owner(c); err != nil {
		return
	}
	if since.Time, err = instant(c, "since"); err != nil {
		return
	}
	if until.Time, err = instant(c, "until"); err != nil {
		return
	}
	if n, err = limit(c); err != nil {
		return
	}
	err = ledger.CheckNext(c.URL.Query().Get("next"))
	return
}

func (o *Operations) instances(c *call) error {
	return present(o, c, o.cfg.Pool.Instances(), func(i pool.Instance) (string, kiln.AccountID) { return string(i.ID), i.Account })
}

func (o *Operations) containers(c *call) error {
	return present(o, c, o.cfg.Pool.Containers(), func(i pool.Container) (string, kiln.AccountID) { return string(i.ID), i.Account })
}

func (o *Operations) pools(c *call) error {
	return present(o, c, o.ownOrAll(c), func(p pool.Counts) (string, kiln.AccountID) { return p.ID, c.caller.Account })
}

// rates answers how often what is asked for: all of it to the operator, its own code to an account.
func (o *Operations) rates(c *call) error {
	all := o.cfg.Pool.Rates()
	if !c.caller.Operator {
		all = slices.DeleteFunc(all, func(r pool.Rate) bool { return r.Account != c.caller.Account })
	}
	return present(o, c, all, func(r pool.Rate) (string, kiln.AccountID) { return r.ID, r.Account })
}

// explain says why a function is or is not kept warm now.
func (o *Operations) explain(c *call) error {
	whose := c.caller.Account
	if asked, err := owner(c); err != nil {
		return err
	} else if asked != "" {
		whose = asked
	}
	name := c.PathValue("function")
	if _, err := o.cfg.Registry.Get(whose, name, ""); err != nil {
		return err
	}
	return o.ok(c, struct {
		Items []pool.Explanation `json:"items"`
	}{o.cfg.Pool.Explain(whose, name)})
}

// ownOrAll gives the pools as the caller may see them.
func (o *Operations) ownOrAll(c *call) []pool.Counts {
	if c.caller.Operator {
		return o.cfg.Pool.Pools()
	}
	return o.ownPools(c.caller.Account)
}

// ownPools counts what of the active pools is an account's: how busy others are is nobody's to see.
func (o *Operations) ownPools(account kiln.AccountID) []pool.Counts {
	rows := map[string]*pool.Counts{}
	rowOf := map[kiln.InstanceID]*pool.Counts{}
	for _, i := range o.cfg.Pool.Instances() {
		if i.Account != account || len(i.Runtimes) == 0 {
			continue
		}
		id := i.Fleet + "/" + string(i.Pool) + "/" + kiln.Configuration{Driver: i.Driver, Runtime: i.Runtimes[0], Shape: i.Shape}.String()
		row := rows[id]
		if row == nil {
			row = &pool.Counts{ID: id, Fleet: i.Fleet, Pool: i.Pool, Driver: i.Driver, Runtime: i.Runtimes[0], Shape: i.Shape}
			rows[id] = row
		}
		rowOf[i.ID] = row
		row.Instances++
		row.MemoryMiB += i.Shape.MemoryMiB
		row.MemoryUsedMiB += i.Shape.MemoryMiB - i.FreeMiB
		if i.State == kiln.InstanceDraining {
			row.Draining++
		}
	}
	for _, c := range o.cfg.Pool.Containers() {
		if row := rowOf[c.Instance]; row != nil {
			row.Containers++
			if c.State == kiln.ContainerBusy {
				row.Busy++
			}
		}
	}
	own := make([]pool.Counts, 0, len(rows))
	for _, row := range rows {
		own = append(own, *row)
	}
	return own
}

// nodeView is a node as this API shows it.
type nodeView struct {
	ID           kiln.NodeID `json:"id"`
	Version      string      `json:"version"`
	Driver       string      `json:"driver"`
	Isolated     bool        `json:"isolated"`
	Limits       bool        `json:"limits"`
	Notes        []string    `json:"notes"`
	Architecture string      `json:"architecture"`
	Processors   int         `json:"processors"`
	StartedAt    kiln.Time   `json:"startedAt"`
	Instances    int         `json:"instances"`
	Containers   int         `json:"containers"`
}

func (o *Operations) nodes(c *call) error {
	caps := o.cfg.Node.Capabilities()
	instances, containers := 0, 0
	for _, row := range o.ownOrAll(c) {
		instances += row.Instances
		containers += row.Containers
	}
	view := nodeView{
		ID: o.cfg.Node.ID(), Version: o.cfg.Version, Driver: caps.Name, Isolated: caps.Isolated, Limits: caps.Limits,
		Notes: nonNil(caps.Notes), Architecture: o.cfg.Architecture, Processors: runtime.NumCPU(), StartedAt: kiln.Time{Time: o.cfg.Started},
		Instances: instances, Containers: containers,
	}
	return present(o, c, []nodeView{view}, func(n nodeView) (string, kiln.AccountID) { return string(n.ID), c.caller.Account })
}

// present answers a list of what is there now: filtered by owner and by any field, in the order of ids from the token on.
func present[T any](o *Operations, c *call, all []T, of func(T) (id string, owner kiln.AccountID)) error {
	account, err := owner(c)
	if err != nil {
		return err
	}
	n, err := limit(c)
	if err != nil {
		return err
	}
	q := c.URL.Query()
	next := q.Get("next")
	slices.SortFunc(all, func(a, b T) int {
		x, _ := of(a)
		y, _ := of(b)
		return strings.Compare(x, y)
	})
	out := list[T]{Items: []T{}}
	for _, item := range all {
		id, whose := of(item)
		if id <= next || account != "" && whose != account {
			continue
		}
		fits, err := matches(item, q)
		if err != nil {
			return err
		}
		if !fits {
			continue
		}
		if len(out.Items) == n {
			last, _ := of(out.Items[n-1])
			out.Next = last
			break
		}
		out.Items = append(out.Items, item)
	}
	return o.ok(c, out)
}

// matches reports whether an item's fields are as the query asks. A field the item does not have is a mistake.
func matches(item any, q url.Values) (bool, error) {
	b, err := json.Marshal(item)
	if err != nil {
		return false, kiln.Wrap(kiln.KindInternal, "operations: filter", "an item cannot be written", err)
	}
	var fields map[string]any
	if err := json.Unmarshal(b, &fields); err != nil {
		return false, kiln.Wrap(kiln.KindInternal, "operations: filter", "an item cannot be read", err)
	}
	for name, values := range q {
		if name == "limit" || name == "next" || name == "account" {
			continue
		}
		value, ok := fields[name]
		if !ok {
			return false, unknownField(name)
		}
		if !holds(value, values[0]) {
			return false, nil
		}
	}
	return true, nil
}

// holds reports whether a field is a value or, being a list, has it.
func holds(field any, value string) bool {
	if many, ok := field.([]any); ok {
		return slices.ContainsFunc(many, func(one any) bool { return fmt.Sprint(one) == value })
	}
	return fmt.Sprint(field) == value
}

func known(q url.Values, names ...string) error {
	for name := range q {
		if !slices.Contains(names, name) {
			return unknownField(name)
		}
	}
	return nil
}

func unknownField(name string) error {
	return kiln.Errorf(kiln.KindInvalid, "operations: read query", "%.64q is no field to filter by here", name)
}

func nonNil[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}

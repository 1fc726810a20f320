package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"kiln"
)

// topPage is what one page of kiln top shows: what the server's lists say, as far as a page needs it.
type topPage struct {
	At         time.Time
	Nodes      []topNode
	Fleets     []topFleet
	Pools      []topPool
	Rates      []topRate
	Instances  []topInstance
	Containers []topContainer
	Events     []kiln.Event // the oldest first
}

type topNode struct {
	ID, Driver, Version string
	StartedAt           kiln.Time
}

type topFleet struct {
	Name, Manager                                               string
	InstancesMax, Instances, Booting, Containers, Busy, Waiting int
}

type topPool struct {
	Fleet, Runtime, Driver, Account                                                  string // Account: for whom its warm instances are kept
	Pool                                                                             kiln.Pool
	Shape                                                                            kiln.Shape
	Target, Instances, Booting, Draining, Containers, Busy, MemoryMiB, MemoryUsedMiB int
	Demand                                                                           *topDemand
}

// topDemand is what a warming pool's target follows.
type topDemand struct {
	Requests topRates
	Expected float64
	Surge    bool
	Reason   string
}

// topRates are how many a second, over windows, and how that grows each second.
type topRates struct {
	Short  float64 `json:"10s"`
	Minute float64 `json:"1m"`
	Slope  float64
}

type topRate struct {
	Scope, Fleet string
	PerSecond    float64
	Requests     *topRates
	Expected     *float64
}

type topInstance struct {
	ID, Account, Fleet string
	State              string
	Runtimes           []string
	Shape              kiln.Shape
	FreeMiB            int
}

type topContainer struct {
	ID, Instance, Function, State string
	Executions, Slots             int
}

// draw gives a page's lines, at most height unless that is 0, each at most width wide. What does not fit is left out from
// the instances and the decisions, whose headings say so.
func (p *topPage) draw(width, height int) []string {
	lines := p.heading()
	if len(p.Fleets) > 0 {
		lines = append(append(lines, ""), p.fleets()...)
	}
	lines = append(append(lines, ""), p.pools()...)
	instances, decisions := p.instances(width >= wideEnough), p.decisions()
	if height == 0 {
		decisions = decisions[:min(len(decisions), topOnce+1)]
	} else {
		left := max(height-len(lines)-2, 0)
		// Half for each, and what one does not need for the other.
		forDecisions := max(left/2, left-len(instances))
		instances = cutRows(instances, left-min(forDecisions, len(decisions)), "instances")
		decisions = decisions[:min(len(decisions), max(left-len(instances), 0))]
	}
	lines = append(append(lines, ""), instances...)
	lines = append(append(lines, ""), decisions...)
	if height > 0 {
		lines = lines[:min(len(lines), height)]
	}
	for i, line := range lines {
		lines[i] = cutLine(line, width)
	}
	return lines
}

// heading is the node, the whole of the requests, and the whole of the capacity.
func (p *topPage) heading() []string {
	node, driver, up := "-", "-", ""
	if len(p.Nodes) > 0 {
		n := p.Nodes[0]
		node, driver = n.ID, n.Driver
		if !n.StartedAt.IsZero() {
			up = "  up " + p.At.Sub(n.StartedAt.Time).Round(time.Second).String()
		}
	}
	states := map[string]int{}
	for _, c := range p.Containers {
		states[c.State]++
	}
	pools := map[string]int{}
	for _, i := range p.Instances {
		pools[i.State]++
	}
	return []string{
		fmt.Sprintf("kiln top  %s  node %s  driver %s%s", p.At.UTC().Format("2006-01-02 15:04:05"), node, driver, up),
		"requests  " + p.total(),
		fmt.Sprintf("instances %d: %s   containers %d: %s", len(p.Instances), counted(pools, "booting", "warm", "assigned", "draining"),
			len(p.Containers), counted(states, "busy", "idle", "paused", "binding", "prepared", "preparing")),
	}
}

// total says how often is asked, against what is usual.
func (p *topPage) total() string {
	for _, r := range p.Rates {
		if r.Scope != "total" {
			continue
		}
		if r.Requests == nil {
			return fmt.Sprintf("%s/s over a minute", number(r.PerSecond))
		}
		text := fmt.Sprintf("%s/s over 10 s, %s/s over a minute", number(r.Requests.Short), number(r.Requests.Minute))
		if r.Expected != nil {
			text += fmt.Sprintf(", %s/s expected", number(*r.Expected))
		}
		return text + trend(r.Requests)
	}
	return "-"
}

// trend says whether a rate rises or falls now, by its two windows, and its slope, in requests a second each minute.
func trend(r *topRates) string {
	now := "steady"
	switch {
	case r.Short > 1.2*r.Minute+0.05:
		now = "rising"
	case r.Short < 0.8*r.Minute-0.05:
		now = "falling"
	}
	return fmt.Sprintf(": %s, slope %+.2f/s a minute", now, 60*r.Slope)
}

// counted says how many there are of each state that has any.
func counted(counts map[string]int, order ...string) string {
	var parts []string
	for _, state := range order {
		if n := counts[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// fleets are the instance managers.
func (p *topPage) fleets() []string {
	rows := [][]string{{"FLEET", "MANAGER", "INSTANCES", "MAX", "BOOTING", "CONTAINERS", "BUSY", "WAITING"}}
	for _, f := range p.Fleets {
		rows = append(rows, []string{f.Name, f.Manager, fmt.Sprint(f.Instances), fmt.Sprint(f.InstancesMax), fmt.Sprint(f.Booting),
			fmt.Sprint(f.Containers), fmt.Sprint(f.Busy), fmt.Sprint(f.Waiting)})
	}
	return table(rows, 0, 1)
}

// pools has a row for each configuration of each fleet: its warming pool and its active pool.
func (p *topPage) pools() []string {
	type key struct {
		fleet, configuration string
	}
	type row struct {
		warming, active topPool
	}
	found := map[key]*row{}
	var order []key
	for _, c := range p.Pools {
		k := key{c.Fleet, c.Runtime + " " + c.Shape.String()}
		if c.Account != "" { // kept for one account, beside those for all
			k.configuration += " for " + c.Account
		}
		if found[k] == nil {
			found[k] = &row{}
			order = append(order, k)
		}
		if c.Pool == kiln.PoolWarming {
			found[k].warming = c
		} else {
			found[k].active = c
		}
	}
	slices.SortStableFunc(order, func(a, b key) int {
		return cmp.Or(cmp.Compare(a.fleet, b.fleet), cmp.Compare(a.configuration, b.configuration))
	})
	rows := [][]string{{"POOL", "", "WARM", "TARGET", "BOOTING", "ACTIVE", "BUSY", "MEMORY GIVEN", "RATE", "USUAL", "TARGET BECAUSE"}}
	for _, k := range order {
		w, a := found[k].warming, found[k].active
		rate, expected, reason := "-", "-", "-"
		if d := w.Demand; d != nil {
			rate, expected, reason = number(d.Requests.Short)+"/s", number(d.Expected)+"/s", d.Reason
			if d.Surge {
				reason = "surge: " + reason
			}
		}
		rows = append(rows, []string{k.fleet, k.configuration, fmt.Sprint(w.Instances - w.Booting), fmt.Sprint(w.Target), fmt.Sprint(w.Booting),
			fmt.Sprint(a.Instances), fmt.Sprint(a.Busy), fmt.Sprintf("%d/%dMiB", a.MemoryUsedMiB, a.MemoryMiB),
			rate, expected, reason})
	}
	return table(rows, 0, 1, 10)
}

// wideEnough is a page that has room for what can be left out of a row.
const wideEnough = 140

// instances are listed with their containers, those that execute most first.
func (p *topPage) instances(wide bool) []string {
	held := map[string][]topContainer{}
	busy := map[string]int{}
	for _, c := range p.Containers {
		held[c.Instance] = append(held[c.Instance], c)
		busy[c.Instance] += c.Executions
	}
	list := slices.Clone(p.Instances)
	slices.SortStableFunc(list, func(a, b topInstance) int {
		return cmp.Or(cmp.Compare(stateOrder(a.State), stateOrder(b.State)), cmp.Compare(busy[b.ID], busy[a.ID]))
	})
	rows := [][]string{{"INSTANCE", "STATE", "FLEET", "ACCOUNT", "RUNTIME", "GIVEN", "", "CONTAINERS"}}
	for _, i := range list {
		used := i.Shape.MemoryMiB - i.FreeMiB
		rows = append(rows, []string{i.ID, i.State, i.Fleet, orDash(i.Account), strings.Join(i.Runtimes, ","),
			fmt.Sprintf("%d/%dMiB", used, i.Shape.MemoryMiB), bar(used, i.Shape.MemoryMiB, 10), containers(held[i.ID])})
	}
	if !wide {
		for i := range rows {
			rows[i][3], rows[i][5] = "", ""
		}
		rows[0][6] = "GIVEN"
	}
	return table(rows, 0, 1, 2, 3, 4, 6, 7)
}

func stateOrder(state string) int {
	return slices.Index([]string{"assigned", "draining", "warm", "booting"}, state)
}

// containers says by function how many containers do what: "hello 2 busy 1 idle, words 3/5 busy"; the second has one that
// runs three executions of five at once.
func containers(list []topContainer) string {
	var names []string
	by := map[string][]topContainer{}
	for _, c := range list {
		name := orDash(c.Function)
		if by[name] == nil {
			names = append(names, name)
		}
		by[name] = append(by[name], c)
	}
	slices.Sort(names)
	var parts []string
	for _, name := range names {
		states, executions, slots := map[string]int{}, 0, 0
		for _, c := range by[name] {
			states[c.State]++
			if c.Slots > 1 && c.State == "busy" {
				executions += c.Executions
				slots += c.Slots
			}
		}
		text := strings.ReplaceAll(counted(states, "busy", "idle", "paused", "binding", "draining", "prepared", "preparing"), ", ", " ")
		if slots > 0 {
			text += fmt.Sprintf(" (%d of %d at once)", executions, slots)
		}
		parts = append(parts, name+" "+text)
	}
	return orDash(strings.Join(parts, ", "))
}

// decisions are the last events, the newest first, with what they were for.
func (p *topPage) decisions() []string {
	rows := [][]string{{"TIME", "DECISION", "OF", "BECAUSE"}}
	for _, e := range slices.Backward(p.Events) {
		of := string(cmp.Or(e.Container, kiln.ContainerID(e.Instance)))
		if e.Function != "" {
			of = strings.TrimSpace(e.Function + " " + of)
		}
		rows = append(rows, []string{e.Time.UTC().Format("15:04:05"), string(e.Kind), orDash(of), e.Cause})
	}
	return table(rows, 0, 1, 2, 3)
}

// table sets rows in columns, those named to the left, all others to the right.
func table(rows [][]string, left ...int) []string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	lines := make([]string, 0, len(rows))
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			if widths[i] == 0 {
				continue
			}
			if b.Len() > 0 {
				b.WriteString("  ")
			}
			gap := strings.Repeat(" ", widths[i]-len([]rune(cell)))
			if slices.Contains(left, i) {
				b.WriteString(cell + gap)
			} else {
				b.WriteString(gap + cell)
			}
		}
		lines = append(lines, strings.TrimRight(b.String(), " "))
	}
	return lines
}

// cutRows keeps a heading and as many rows as there is room for, and says how many it leaves out.
func cutRows(lines []string, room int, what string) []string {
	if len(lines) <= room {
		return lines
	}
	if room < 2 {
		return lines[:max(room, 0)]
	}
	kept := slices.Clone(lines[:room-1])
	return append(kept, fmt.Sprintf("… and %d more %s", len(lines)-len(kept), what))
}

// cutLine keeps a line within a width, and shows that it was longer. What others wrote (a cause, a name) must not move the
// cursor: control characters become spaces.
func cutLine(line string, width int) string {
	runes := []rune(strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, line))
	if width > 0 && len(runes) > width {
		return string(runes[:width-1]) + "…"
	}
	return string(runes)
}

// bar shows a part of a whole.
func bar(part, whole, width int) string {
	if whole <= 0 {
		return ""
	}
	filled := min(max((part*width+whole/2)/whole, 0), width)
	return strings.Repeat("#", filled) + strings.Repeat(".", width-filled)
}

// number shows a rate with as many digits as tell something.
func number(f float64) string {
	switch {
	case f >= 100:
		return fmt.Sprintf("%.0f", f)
	case f >= 1:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.2f", f)
}

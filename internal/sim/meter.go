package sim

import (
	"maps"
	"math"
	"slices"
	"time"

	"kiln"
	"kiln/internal/sim/policy"
)

// meter counts what a run costs.
type meter struct {
	counts     func(*function) bool // whose requests are counted; nil: all
	functions  map[string]*function // by their simulated name
	requests   int
	numbers    int
	steps      int
	boots      int
	loads      int // containers loaded ahead
	outcomes   [outcomes]int
	paths      map[kiln.Path]int
	delays     delays
	idleMiB    int // held by containers that execute nothing and nobody waits for
	idleMiBs   float64
	poolMiBs   float64 // of it, of containers that are no function's
	loadedMiB  int     // held by containers that are a function's
	loadedMiBs float64
	passed     time.Duration
	closed     bool // the trace is over: nothing more is counted as idle
	samples    int
	over       float64 // instances beyond what executions need, summed over the samples
	under      float64
}

func newMeter() *meter {
	return &meter{functions: make(map[string]*function), paths: make(map[kiln.Path]int)}
}

// number gives each request a number.
func (m *meter) number() int {
	m.numbers++
	return m.numbers
}

// pass counts the idle memory until now.
func (m *meter) pass(now time.Duration) {
	if m.closed {
		return
	}
	m.idleMiBs += float64(m.idleMiB) * (now - m.passed).Seconds()
	m.loadedMiBs += float64(m.loadedMiB) * (now - m.passed).Seconds()
	m.passed = now
}

// rested counts a container's time of rest to its function, or to the pool.
func (m *meter) rested(b *box, until time.Duration) {
	if m.closed {
		until = min(until, m.passed)
	}
	idle := float64(b.mib) * max(0, until-b.since).Seconds()
	if b.owner != nil {
		b.owner.idleMiBs += idle
	} else {
		m.poolMiBs += idle
	}
}

// close counts no more idle memory.
func (m *meter) close(now time.Duration) {
	m.pass(now)
	m.closed = true
}

// answered counts how a request got its container, or that it did not.
func (m *meter) answered(now time.Duration, c *call) {
	if c.ahead {
		m.loads++
		return
	}
	if m.counts != nil && !m.counts(c.of) {
		if c.outcome == outcomeExecuting {
			c.of.busy++
		}
		return
	}
	m.requests++
	c.of.requests++
	if c.outcome != outcomeExecuting {
		m.outcomes[c.outcome]++
		if c.outcome == outcomeFailed {
			m.paths[c.request.Path]++
			c.of.colds++
		}
		return
	}
	c.of.busy++
	m.paths[c.request.Path]++
	m.delays.add(now - c.at)
	if c.request.Path != kiln.PathContainer {
		c.of.colds++
	}
}

// ended counts an execution's end.
func (m *meter) ended(c *call) {
	if c.ahead {
		return
	}
	c.of.busy--
	if m.counts == nil || m.counts(c.of) {
		m.outcomes[c.outcome]++
	}
}

// sample looks at how many instances there are and how many the executions need, account by account.
func (m *meter) sample(w *world) {
	have := make(map[kiln.AccountID]int)
	busy := make(map[kiln.AccountID]int)
	for _, in := range w.machines() {
		have[in.account]++
		for _, b := range in.boxes {
			if b.state == boxBusy || b.state == boxStarting && !b.gone {
				busy[in.account] += b.given
			}
		}
	}
	for account, n := range have {
		need := float64((busy[account] + shapes()[0].MemoryMiB - 1) / shapes()[0].MemoryMiB)
		m.over += max(0, float64(n)-need)
		m.under += max(0, need-float64(n))
	}
	m.samples++
}

// only keeps of the idle memory what is of the functions counted, and of the pool; and forgets the other functions.
func (m *meter) only() {
	m.idleMiBs = m.poolMiBs
	for name, f := range m.functions {
		if !m.counts(f) {
			delete(m.functions, name)
			continue
		}
		m.idleMiBs += f.idleMiBs
	}
}

// add adds what another meter counted, of other functions.
func (m *meter) add(o *meter) {
	maps.Copy(m.functions, o.functions)
	m.requests += o.requests
	m.boots += o.boots
	m.loads += o.loads
	for i, n := range o.outcomes {
		m.outcomes[i] += n
	}
	for path, n := range o.paths {
		m.paths[path] += n
	}
	for i, n := range o.delays.counts {
		m.delays.counts[i] += n
	}
	m.delays.total += o.delays.total
	m.idleMiBs += o.idleMiBs
	m.poolMiBs += o.poolMiBs
	m.samples += o.samples
	m.over += o.over
	m.under += o.under
}

// delays counts times by their size, a few in a hundred apart.
type delays struct {
	counts [512]int
	total  int
}

const (
	delayLeast  = float64(10 * time.Microsecond)
	delayGrowth = 1.04
)

func (d *delays) add(t time.Duration) {
	i := 0
	if float64(t) > delayLeast {
		i = min(1+int(math.Log(float64(t)/delayLeast)/math.Log(delayGrowth)), len(d.counts)-1)
	}
	d.counts[i]++
	d.total++
}

// millis gives the time, in milliseconds, that a part of all is at or below.
func (d *delays) millis(part float64) float64 {
	need, sum := part*float64(d.total), 0
	for i, n := range d.counts {
		if sum += n; float64(sum) >= need && n > 0 {
			if i == 0 {
				return 0
			}
			return delayLeast * math.Pow(delayGrowth, float64(i)) / float64(time.Millisecond)
		}
	}
	return 0
}

// cold counts the requests that waited for any part of making an instance or a container.
func (m *meter) cold() int {
	n := 0
	for path, count := range m.paths {
		if path != kiln.PathContainer {
			n += count
		}
	}
	return n
}

func (m *meter) idleGBs() float64 { return m.idleMiBs / 1024 }

// result makes the figures.
func (m *meter) result(p policy.Policy, base *meter) Result {
	r := Result{
		Policy: p.Name(), Mode: ModeSystem, Value: p.Value(), Cold: m.cold(), Requests: m.requests, IdleGBs: m.idleGBs(),
		LatencyP50Ms: m.delays.millis(0.5), LatencyP99Ms: m.delays.millis(0.99), LatencyP999Ms: m.delays.millis(0.999),
		RUM: rum(float64(m.cold()), m.idleGBs()), Drops: m.outcomes[outcomeRefused], Paths: make(map[string]int),
		InstancesOver: m.over / float64(max(m.samples, 1)), InstancesUnder: m.under / float64(max(m.samples, 1)),
	}
	for path, n := range m.paths {
		r.Paths[string(path)] = n
	}
	if base.idleMiBs > 0 {
		r.Waste = m.idleMiBs / base.idleMiBs
	}
	apps := make(map[string]*appTally)
	worse := 0
	for _, f := range m.functions {
		a := apps[f.of.Owner()]
		if a == nil {
			a = &appTally{weight: 1}
			apps[f.of.Owner()] = a
		}
		a.cold += f.colds
		a.requests += f.requests
		if fixed := base.functions[f.version.Function].colds; f.colds > 2*fixed && f.colds > fixed+2 {
			worse++
		}
	}
	r.WorsePart = float64(worse) / float64(max(len(m.functions), 1))
	r.apps(apps)
	return r
}

// apps gives the percentiles over the apps.
func (r *Result) apps(apps map[string]*appTally) {
	var all, five []share
	for _, a := range apps {
		if a.requests == 0 {
			continue
		}
		s := share{100 * float64(a.cold) / float64(a.requests), a.weight}
		all = append(all, s)
		if a.requests >= 5 {
			five = append(five, s)
		}
	}
	r.ColdP50App, r.ColdP75App, r.ColdP90App = percentile(all, 0.5), percentile(all, 0.75), percentile(all, 0.9)
	r.ColdP50App5, r.ColdP75App5, r.ColdP90App5 = percentile(five, 0.5), percentile(five, 0.75), percentile(five, 0.9)
}

// boxes lists a function's idle containers, the longest so first.
func (f *function) rest(b *box) { f.idle = append(f.idle, b) }

func (f *function) take(b *box) {
	if i := slices.Index(f.idle, b); i >= 0 {
		f.idle = slices.Delete(f.idle, i, i+1)
	}
}

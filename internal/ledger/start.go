package ledger

import (
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kiln"
)

// StartBounds is the bound on receipt to code start for each acquisition path, in the order of kiln.Paths; 0 for none.
type StartBounds [len(kiln.Paths)]time.Duration

// quantileAge is how far back the published quantiles of starts reach.
const quantileAge = 10 * time.Minute

// starts watches how long executions take from receipt to code start. Its children are looked up once, here.
type starts struct {
	bounds StartBounds

	quantiles *prometheus.SummaryVec
	bound     *prometheus.GaugeVec
	breaches  *prometheus.CounterVec

	quantilesByPath [len(kiln.Paths)]prometheus.Observer
	breachesByPath  [len(kiln.Paths)]prometheus.Counter
}

func newStarts(bounds StartBounds) *starts {
	s := &starts{
		bounds: bounds,
		quantiles: prometheus.NewSummaryVec(prometheus.SummaryOpts{Name: "kiln_start_seconds",
			Help:       "Received to code start over the last 10 minutes, p50 and p99, by acquisition path.",
			Objectives: map[float64]float64{.5: .02, .99: .001}, MaxAge: quantileAge}, []string{"path"}),
		bound: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kiln_start_bound_seconds",
			Help: "The configured bound on received to code start, by acquisition path."}, []string{"path"}),
		breaches: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kiln_start_breaches_total",
			Help: "Executions whose code started later than the bound of their acquisition path."}, []string{"path"}),
	}
	for i, path := range kiln.Paths {
		s.quantilesByPath[i] = s.quantiles.WithLabelValues(string(path))
		s.breachesByPath[i] = s.breaches.WithLabelValues(string(path))
		if bounds[i] > 0 {
			s.bound.WithLabelValues(string(path)).Set(bounds[i].Seconds())
		}
	}
	return s
}

// took gives how long an execution took from receipt to code start. False when its code never started.
func took(r *kiln.Record) (time.Duration, bool) {
	if r.Times.Received.IsZero() || r.Times.CodeStart.IsZero() {
		return 0, false
	}
	return r.Times.CodeStart.Sub(r.Times.Received.Time), true
}

// pathIndex finds a path's place in kiln.Paths, -1 for none.
func pathIndex(path kiln.Path) int {
	for i := range kiln.Paths {
		if kiln.Paths[i] == path {
			return i
		}
	}
	return -1
}

// breach gives the event of a record whose code started too late. Every record comes through here: the usual answer costs
// a few comparisons.
func (s *starts) breach(r *kiln.Record) (e kiln.Event, late bool) {
	path := pathIndex(r.Path)
	if path < 0 || s.bounds[path] <= 0 {
		return e, false
	}
	after, started := took(r)
	if !started || after <= s.bounds[path] {
		return e, false
	}
	s.breachesByPath[path].Inc()
	return kiln.Event{
		Time: kiln.Time{Time: time.Now()}, Kind: kiln.EventStartBreach, Cause: breachCause(r, after, s.bounds[path]), RequestID: r.RequestID,
		Account: r.Account, Function: r.Function, Version: r.VersionExecuted, Node: r.Node, Instance: r.Instance, Container: r.Container,
	}, true
}

// breachCause tells the stages of a start that came too late. The function's own initialisation and the wait in line are
// parts of acquire, told apart since the one is the function's doing and the other want of capacity.
func breachCause(r *kiln.Record, after, bound time.Duration) string {
	var b strings.Builder
	t := &r.Times
	fmt.Fprintf(&b, "code started after %s ms, the bound for %s is %s ms: admit %s, acquire %s", millis(after), r.Path, millis(bound),
		millis(t.Admitted.Sub(t.Received.Time)), millis(t.Acquired.Sub(t.Admitted.Time)))
	if r.Choice.Waited > 0 {
		fmt.Fprintf(&b, ", of it in line %s", millis(time.Duration(r.Choice.Waited)))
	}
	if r.InitMs > 0 {
		fmt.Fprintf(&b, ", of it the function's own initialisation %s", millis(time.Duration(r.InitMs)))
	}
	fmt.Fprintf(&b, ", deliver %s", millis(t.CodeStart.Sub(t.Acquired.Time)))
	return b.String()
}

func millis(d time.Duration) string { return fmt.Sprintf("%.3f", float64(d)/1e6) }

// observe counts one record's start.
func (s *starts) observe(path int, r *kiln.Record) {
	if after, started := took(r); started {
		s.quantilesByPath[path].Observe(after.Seconds())
	}
}

func (s *starts) all() []prometheus.Collector {
	return []prometheus.Collector{s.quantiles, s.bound, s.breaches}
}

package ledger

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kiln"
)

// durationBuckets are the histograms' upper bounds, in seconds: from a warm hop to the longest time limit.
var durationBuckets = [...]float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900}

// outcomes lists every outcome; one that is not in it counts as failed.
var outcomes = [...]kiln.Outcome{kiln.OutcomeSuccess, kiln.OutcomeError, kiln.OutcomeTimeout, kiln.OutcomeCrash,
	kiln.OutcomeMemory, kiln.OutcomeInit, kiln.OutcomeThrottled, kiln.OutcomeFailed}

// fleets lists every fleet; another word counts as the first.
var fleets = [...]string{kiln.FleetLowVolume, kiln.FleetHighVolume}

// stages are the parts of an execution, in order.
var stages = [...]string{"admit", "acquire", "deliver", "code", "answer"}

// pathNone is the label of an execution that acquired nothing.
const pathNone = "none"

// metrics counts executions. Its children are looked up once, here; nothing is looked up for an execution. Accounts and
// functions are never labels: their number has no bound.
type metrics struct {
	executions  *prometheus.CounterVec
	stage       *prometheus.HistogramVec
	acquisition *prometheus.HistogramVec
	start       *prometheus.HistogramVec
	duration    prometheus.Histogram
	overhead    prometheus.Histogram
	total       prometheus.Histogram
	starts      *starts

	logBytes                                    prometheus.Counter
	droppedRecords, droppedEvents, droppedLines prometheus.Counter
	writeErrors                                 prometheus.Counter

	byOutcome     [len(outcomes)][len(kiln.Paths) + 1][len(fleets)]prometheus.Counter
	byStage       [len(stages)]prometheus.Observer
	acquireByPath [len(kiln.Paths)]prometheus.Observer
	startByPath   [len(kiln.Paths)]prometheus.Observer

	mu     sync.Mutex
	folded uint64 // records with smaller numbers are counted; guarded by mu
}

func newMetrics(bounds StartBounds) *metrics {
	histogram := func(name, help string) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{Name: name, Help: help, Buckets: durationBuckets[:]}
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		executions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kiln_executions_total",
			Help: "Executions that ended, by outcome, acquisition path and fleet."}, []string{"outcome", "path", "fleet"}),
		stage: prometheus.NewHistogramVec(histogram("kiln_execution_stage_seconds",
			"Parts of an execution: admit (received to admitted), acquire (to acquired), deliver (to code start), code (to code end), answer (to answered)."), []string{"stage"}),
		acquisition: prometheus.NewHistogramVec(histogram("kiln_execution_acquisition_seconds",
			"Admitted to acquired, by acquisition path."), []string{"path"}),
		start: prometheus.NewHistogramVec(histogram("kiln_execution_start_seconds",
			"Received to code start, by acquisition path."), []string{"path"}),
		duration: prometheus.NewHistogram(histogram("kiln_execution_duration_seconds", "Code start to code end.")),
		overhead: prometheus.NewHistogram(histogram("kiln_execution_overhead_seconds",
			"Received to answered without the code's own time and its initialisation.")),
		total:          prometheus.NewHistogram(histogram("kiln_execution_total_seconds", "Received to answered.")),
		logBytes:       counter("kiln_log_bytes_total", "Bytes of function log taken."),
		droppedLines:   counter("kiln_log_lines_dropped_total", "Lines of function log dropped at a bound."),
		droppedRecords: counter("kiln_records_dropped_total", "Execution records dropped because too many waited for the disk."),
		droppedEvents:  counter("kiln_events_dropped_total", "Events dropped because too many waited for the disk."),
		writeErrors:    counter("kiln_ledger_write_errors_total", "Writings of the ledger that the disk refused."),
		starts:         newStarts(bounds),
	}
	m.resolve()
	return m
}

func (m *metrics) resolve() {
	for o, outcome := range outcomes {
		for p := range m.byOutcome[o] {
			path := pathNone
			if p < len(kiln.Paths) {
				path = string(kiln.Paths[p])
			}
			for f, fleet := range fleets {
				m.byOutcome[o][p][f] = m.executions.WithLabelValues(string(outcome), path, fleet)
			}
		}
	}
	for s, stage := range stages {
		m.byStage[s] = m.stage.WithLabelValues(stage)
	}
	for p, path := range kiln.Paths {
		m.acquireByPath[p] = m.acquisition.WithLabelValues(string(path))
		m.startByPath[p] = m.start.WithLabelValues(string(path))
	}
}

// fold counts the pending records that are not counted yet.
func (m *metrics) fold(p *pending[kiln.Record]) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		var batch [16]kiln.Record // copied out, so that nobody who appends waits for the counting
		n := 0
		p.each(m.folded, m.folded+uint64(len(batch)), false, func(seq uint64, r *kiln.Record) bool {
			batch[n] = *r
			n++
			return true
		})
		if n == 0 {
			return
		}
		m.folded += uint64(n)
		for i := range n {
			m.observe(&batch[i])
		}
	}
}

// observe counts one record.
func (m *metrics) observe(r *kiln.Record) {
	outcome := slices.Index(outcomes[:], r.Outcome)
	if outcome < 0 {
		outcome = len(outcomes) - 1
	}
	path := pathIndex(r.Path)
	fleet := max(slices.Index(fleets[:], r.Fleet), 0)
	counted := path
	if path < 0 {
		counted = len(kiln.Paths)
	}
	m.byOutcome[outcome][counted][fleet].Inc()
	t := &r.Times
	instants := [...]time.Time{t.Received.Time, t.Admitted.Time, t.Acquired.Time, t.CodeStart.Time, t.CodeEnd.Time, t.Answered.Time}
	for i, stage := range m.byStage {
		observe(stage, instants[i], instants[i+1])
	}
	if path >= 0 {
		observe(m.acquireByPath[path], t.Admitted.Time, t.Acquired.Time)
		observe(m.startByPath[path], t.Received.Time, t.CodeStart.Time)
		m.starts.observe(path, r)
	}
	observe(m.duration, t.CodeStart.Time, t.CodeEnd.Time)
	observe(m.total, t.Received.Time, t.Answered.Time)
	if !t.CodeEnd.IsZero() && !t.Answered.IsZero() {
		own := t.CodeEnd.Sub(t.CodeStart.Time) + time.Duration(r.InitMs)
		m.overhead.Observe(max(t.Answered.Sub(t.Received.Time)-own, 0).Seconds())
	}
}

// observe counts the time between two instants, when both were reached.
func observe(o prometheus.Observer, from, to time.Time) {
	if !from.IsZero() && !to.IsZero() {
		o.Observe(to.Sub(from).Seconds())
	}
}

// Collector gives the ledger's metrics, for the server to register.
func (l *Ledger) Collector() prometheus.Collector { return collector{l} }

// collector counts what is pending before it answers, so that the numbers are never behind the records.
type collector struct{ l *Ledger }

func (c collector) all() []prometheus.Collector {
	m := c.l.metrics
	return append([]prometheus.Collector{m.executions, m.stage, m.acquisition, m.start, m.duration, m.overhead, m.total,
		m.logBytes, m.droppedLines, m.droppedRecords, m.droppedEvents, m.writeErrors}, m.starts.all()...)
}

// Describe is prometheus.Collector's.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, one := range c.all() {
		one.Describe(ch)
	}
}

// Collect is prometheus.Collector's.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	c.l.metrics.fold(&c.l.records.pending)
	for _, one := range c.all() {
		one.Collect(ch)
	}
}

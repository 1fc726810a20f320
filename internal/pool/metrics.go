package pool

import (
	"github.com/prometheus/client_golang/prometheus"

	"kiln"
	"kiln/internal/capacity"
)

// Collector gives gauges of the pools as they are when asked: nothing is counted between.
func (p *Pool) Collector() prometheus.Collector {
	gauge := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, append([]string{"fleet"}, labels...), nil)
	}
	return &collector{
		pool:       p,
		instances:  gauge("kiln_instances", "Instances by pool and state.", "pool", "state"),
		containers: gauge("kiln_containers", "Containers by state.", "state"),
		waiting:    gauge("kiln_requests_waiting", "Requests that wait for a container."),
		target:     gauge("kiln_warming_target", "Warm instances wanted, over all configurations."),
		shapes:     gauge("kiln_instance_memory_mebibytes", "Memory of all instances' shapes, in MiB.", "pool"),
		given:      gauge("kiln_instance_memory_given_mebibytes", "Memory given to containers, in MiB.", "pool"),
		rate:       gauge("kiln_request_rate", "Requests a second over a window, by the configuration that serves them.", "configuration", "window"),
		slope:      gauge("kiln_request_rate_slope", "Growth of the rate of requests, in requests a second each second.", "configuration"),
		expected:   gauge("kiln_request_rate_expected", "Requests a second expected for this time of the day and the week.", "configuration"),
		surging:    gauge("kiln_surge", "1 while the rate of requests meets the threshold condition.", "configuration"),
		takes:      gauge("kiln_warming_take_rate", "Instances asked for a second, over the last minute.", "configuration"),
		wanted:     gauge("kiln_warming_configuration_target", "Warm instances wanted.", "configuration"),
		givenUp:    gauge("kiln_consolidations_total", "Executing instances given up because the others had room."),
		added:      gauge("kiln_warming_added_total", "Instances booted for the warming pool, by what called for them: the first number, the second or the target.", "configuration", "number"),
	}
}

type collector struct {
	pool                                                          *Pool
	instances, containers, waiting, target, shapes, given         *prometheus.Desc
	rate, slope, expected, surging, takes, wanted, added, givenUp *prometheus.Desc
}

// Describe is prometheus.Collector's.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.instances, c.containers, c.waiting, c.target, c.shapes, c.given,
		c.rate, c.slope, c.expected, c.surging, c.takes, c.wanted, c.added, c.givenUp} {
		ch <- d
	}
}

// Collect is prometheus.Collector's.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	for _, f := range c.pool.all() {
		g := f.gauges()
		one := func(d *prometheus.Desc, value int, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value), append([]string{f.id.String()}, labels...)...)
		}
		for _, state := range []kiln.InstanceState{kiln.InstanceBooting, kiln.InstanceWarm, kiln.InstanceAssigned, kiln.InstanceDraining} {
			one(c.instances, g.instances[state], string(state.Pool()), state.String())
		}
		for _, state := range []kiln.ContainerState{kiln.ContainerPreparing, kiln.ContainerPrepared, kiln.ContainerBinding,
			kiln.ContainerIdle, kiln.ContainerPaused, kiln.ContainerBusy, kiln.ContainerDraining} {
			one(c.containers, g.containers[state], state.String())
		}
		one(c.waiting, g.waiting)
		one(c.target, g.target)
		for _, pool := range []kiln.Pool{kiln.PoolWarming, kiln.PoolActive} {
			one(c.shapes, g.shapes[pool], string(pool))
			one(c.given, g.given[pool], string(pool))
		}
		ch <- prometheus.MustNewConstMetric(c.givenUp, prometheus.CounterValue, float64(g.consolidated), f.id.String())
		for i := range g.demands {
			c.demand(ch, f.id.String(), &g.demands[i])
		}
	}
}

// demand gives one configuration's.
func (c *collector) demand(ch chan<- prometheus.Metric, fleet string, d *capacity.State) {
	labels := func(more ...string) []string { return append([]string{fleet, d.Configuration.String()}, more...) }
	one := func(desc *prometheus.Desc, value float64, more ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels(more...)...)
	}
	r := d.Requests
	for window, rate := range map[string]float64{"10s": r.Short, "1m": r.Minute, "5m": r.Long, "1h": r.Hour} {
		one(c.rate, rate, window)
	}
	one(c.slope, r.Slope)
	one(c.expected, d.Expected)
	surging := 0.0
	if d.Surging {
		surging = 1
	}
	one(c.surging, surging)
	one(c.takes, d.Takes.Minute)
	one(c.wanted, float64(d.Target))
	for number, n := range map[string]int{"first": d.Added.First, "second": d.Added.Second, "target": d.Added.Target} {
		ch <- prometheus.MustNewConstMetric(c.added, prometheus.CounterValue, float64(n), labels(number)...)
	}
}

// gauges is what is counted of a fleet.
type gauges struct {
	instances       map[kiln.InstanceState]int
	containers      map[kiln.ContainerState]int
	waiting, target int
	shapes, given   map[kiln.Pool]int // MiB
	demands         []capacity.State
	consolidated    int
}

func (f *fleet) gauges() gauges {
	g := gauges{instances: map[kiln.InstanceState]int{}, containers: map[kiln.ContainerState]int{},
		shapes: map[kiln.Pool]int{}, given: map[kiln.Pool]int{}}
	t := f.tally()
	for _, c := range t.counts {
		for state, n := range c.Instances {
			g.instances[kiln.InstanceState(state)] += n
		}
		for state, n := range c.Containers {
			g.containers[kiln.ContainerState(state)] += n
		}
		g.shapes[c.Pool] += c.ShapeMiB
		g.given[c.Pool] += c.GivenMiB
	}
	g.demands, g.consolidated = t.demands, t.consolidated
	for _, d := range t.demands {
		g.target += d.Target
	}
	g.waiting = t.waiting
	return g
}

package pool

import (
	"github.com/prometheus/client_golang/prometheus"

	"kiln"
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
	}
}

type collector struct {
	pool                                                  *Pool
	instances, containers, waiting, target, shapes, given *prometheus.Desc
}

// Describe is prometheus.Collector's.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.instances, c.containers, c.waiting, c.target, c.shapes, c.given} {
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
			kiln.ContainerIdle, kiln.ContainerBusy, kiln.ContainerDraining} {
			one(c.containers, g.containers[state], state.String())
		}
		one(c.waiting, g.waiting)
		one(c.target, g.target)
		for _, pool := range []kiln.Pool{kiln.PoolWarming, kiln.PoolActive} {
			one(c.shapes, g.shapes[pool], string(pool))
			one(c.given, g.given[pool], string(pool))
		}
	}
}

// gauges is what is counted of a fleet.
type gauges struct {
	instances       map[kiln.InstanceState]int
	containers      map[kiln.ContainerState]int
	waiting, target int
	shapes, given   map[kiln.Pool]int // MiB
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
	for _, n := range t.targets {
		g.target += n
	}
	g.waiting = t.waiting
	return g
}

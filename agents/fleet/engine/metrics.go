package engine

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coracle-os/coracle/agents/fleet"
)

// Metrics are what Prometheus hears of an engine. The names are fleet's where it
// had one.
type Metrics struct {
	leader, leaderStart, units, machines, placements, unplaced prometheus.Gauge
	passes                                                     prometheus.Counter
	duration                                                   prometheus.Histogram
	failures, tasks, skipped                                   *prometheus.CounterVec
}

// NewMetrics makes them and registers them; with nil they are nowhere seen.
func NewMetrics(r prometheus.Registerer) *Metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return register(r, prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "fleet", Subsystem: "engine", Name: name, Help: help}))
	}
	counters := func(name, help string) *prometheus.CounterVec {
		return register(r, prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "fleet", Subsystem: "engine", Name: name, Help: help}, []string{"type"}))
	}
	return &Metrics{
		leader:      gauge("leader", "1 if this engine leads."),
		leaderStart: gauge("leader_start_time", "Seconds since 1970 at which this engine began to lead; 0 if it does not."),
		units:       gauge("units", "Units in the cluster, as the leader sees it."),
		machines:    gauge("machines", "Machines in the cluster, as the leader sees it."),
		placements:  gauge("placements", "Placements of units on machines, as the leader sees it."),
		unplaced:    gauge("units_unplaced", "Units that are not, or not everywhere, where they should be."),
		passes: register(r, prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "fleet", Subsystem: "engine", Name: "reconcile_count_total", Help: "Passes of this engine.",
		})),
		duration: register(r, prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "fleet", Subsystem: "engine", Name: "reconcile_duration_second", Help: "Seconds that a pass took, with its writes.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		})),
		failures: counters("reconcile_failure_count_total", "Passes that failed, by what failed."),
		tasks:    counters("task_count_total", "Tasks that were done."),
		skipped:  counters("task_failure_count_total", "Tasks that were out of date when they were to be written."),
	}
}

func register[C prometheus.Collector](r prometheus.Registerer, c C) C {
	if r != nil {
		r.MustRegister(c)
	}
	return c
}

func (m *Metrics) leads(now time.Time) {
	m.leader.Set(1)
	m.leaderStart.Set(float64(now.Unix()))
}

func (m *Metrics) follows() {
	for _, g := range []prometheus.Gauge{m.leader, m.leaderStart, m.units, m.machines, m.placements, m.unplaced} {
		g.Set(0)
	}
}

func (m *Metrics) saw(s *fleet.Snapshot, unplaced int) {
	m.units.Set(float64(len(s.Units)))
	m.machines.Set(float64(len(s.Machines)))
	m.placements.Set(float64(len(s.Placements)))
	m.unplaced.Set(float64(unplaced))
}

func (m *Metrics) passed(took time.Duration) {
	m.passes.Inc()
	m.duration.Observe(took.Seconds())
}

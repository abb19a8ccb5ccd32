package agent

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/coracle-os/coracle/agents/fleet/agent/fence"
)

// metrics are what the agent counts.
type metrics struct {
	renewals  *prometheus.CounterVec
	steps     *prometheus.CounterVec
	fenced    prometheus.Counter
	published prometheus.Counter
}

// newMetrics makes the counters and, with a registerer, shows them.
func newMetrics(r prometheus.Registerer, a *Agent) metrics {
	m := metrics{
		renewals: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fleet_agent_lease_renewals_total",
			Help: "Renewals of the machine's lease, by result."}, []string{"result"}),
		steps: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fleet_agent_tasks_total",
			Help: "Tasks carried out with PID 1, by type and result."}, []string{"type", "result"}),
		fenced: prometheus.NewCounter(prometheus.CounterOpts{Name: "fleet_agent_fenced_units_total",
			Help: "Units stopped because the machine was cut off."}),
		published: prometheus.NewCounter(prometheus.CounterOpts{Name: "fleet_agent_states_published_total",
			Help: "Unit states written to the key-value store."}),
	}
	if r == nil {
		return m
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			a.mu.Lock()
			defer a.mu.Unlock()
			return value()
		})
	}
	r.MustRegister(m.renewals, m.steps, m.fenced, m.published,
		gauge("fleet_agent_units", "Units that are scheduled here.", func() (n float64) {
			for _, e := range a.entries {
				if e.token != nil {
					n++
				}
			}
			return n
		}),
		gauge("fleet_agent_registered", "1 while the machine takes part in the cluster.", func() float64 {
			if a.object != 0 && a.action == fence.Keep {
				return 1
			}
			return 0
		}),
		gauge("fleet_agent_lease_age_seconds", "Time since the last renewal that the store took was sent.", func() float64 {
			return (a.cfg.Clock() - a.evidence.Sent).Seconds()
		}))
	return m
}

package bench

import (
	"slices"
	"sync"
	"testing"
	"time"
)

const (
	rounds = 15
	turn   = 400 * time.Millisecond
)

// load uses a server until a time and returns how much it did.
type load func(until time.Time) (operations int, err error)

// side is one of two that are compared.
type side struct {
	server *server
	load   load
}

// compare loads ours and theirs in turns and reports the figures.
func compare(b *testing.B, ours, theirs side) {
	b.Helper()
	sides := [2]side{ours, theirs}
	var rates [2][]float64
	var operations [2]int
	var processor [2]time.Duration
	for n := -1; n < rounds; n++ { // the first warms up
		var rate [2]float64
		for i := range sides {
			i ^= n & 1 // who begins changes, too
			s := sides[i]
			cpu, began := s.server.processor(), time.Now()
			done, err := s.load(began.Add(turn))
			if err != nil {
				b.Fatal(err)
			}
			rate[i] = float64(done) / time.Since(began).Seconds()
			if n >= 0 {
				operations[i] += done
				processor[i] += s.server.processor() - cpu
			}
		}
		if n >= 0 {
			rates[0], rates[1] = append(rates[0], rate[0]), append(rates[1], rate[1])
		}
	}
	ratios := make([]float64, rounds)
	for n := range ratios {
		ratios[n] = rates[0][n] / rates[1][n]
	}
	cost := func(i int) float64 { return float64(processor[i].Microseconds()) / float64(operations[i]) }
	b.ReportMetric(0, "ns/op") // not what is measured
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(median(rates[0]), "ours/s")
	b.ReportMetric(median(rates[1]), "theirs/s")
	b.ReportMetric(cost(0)/cost(1), "cpu-ratio")
	b.ReportMetric(cost(0), "ours-cpu-µs")
	b.ReportMetric(cost(1), "theirs-cpu-µs")
}

func median(list []float64) float64 {
	s := slices.Sorted(slices.Values(list))
	if len(s)%2 == 1 {
		return s[len(s)/2]
	}
	return (s[len(s)/2-1] + s[len(s)/2]) / 2
}

// together has several do the same at once until a time, and adds up what they
// did. Do is told which of them it is and how often it was called before.
func together(count int, until time.Time, do func(who, n int) error) (operations int, err error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for who := range count {
		wg.Go(func() {
			n, failure := 0, error(nil)
			for ; failure == nil && time.Now().Before(until); n++ {
				failure = do(who, n)
			}
			mu.Lock()
			defer mu.Unlock()
			operations += n
			if err == nil {
				err = failure
			}
		})
	}
	wg.Wait()
	return operations, err
}

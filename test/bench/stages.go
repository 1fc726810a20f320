//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"kiln/internal/client"
)

// stageRecords is how many records the stages are taken from.
const stageRecords = 1000

// measureStages gives where the time of a warm execution goes, from the records, and what one costs the server in
// allocations and processor time, from /metrics and the kernel.
func measureStages(ctx context.Context, b *bench, s *server, c caller, as *client.Client) error {
	for _, g := range warmGuests {
		if err := stagesOf(ctx, b, s, c, as, g.name); err != nil {
			return err
		}
	}
	return costOf(ctx, b, s, c, as, warmGuests[0].name)
}

func stagesOf(ctx context.Context, b *bench, s *server, c caller, as *client.Client, name string) error {
	since := time.Now().UTC().Format(time.RFC3339Nano)
	j := invocation(as, name, event120())
	j.Clients, j.Requests = 1, stageRecords
	if _, err := c.do(j); err != nil {
		return err
	}
	var records []record
	err := eventually(ctx, 5*time.Second, func() (err error) {
		records, err = list[record](ctx, s, "executions", url.Values{"function": {name}, "since": {since}}, stageRecords)
		if err == nil && len(records) < stageRecords {
			err = fmt.Errorf("%d of %d records of %s are there", len(records), stageRecords, name)
		}
		return err
	})
	if err != nil {
		return err
	}
	stages := []string{"admit", "acquire", "deliver", "code", "answer"}
	took := make([][]float64, len(stages))
	for _, r := range records {
		at := [...]time.Time{r.Times.Received, r.Times.Admitted, r.Times.Acquired, r.Times.CodeStart, r.Times.CodeEnd, r.Times.Answered}
		for i := range stages {
			took[i] = append(took[i], float64(at[i+1].Sub(at[i]))/1e3)
		}
	}
	for i, stage := range stages {
		b.add(Result{Name: stagePrefix + name + "." + stage, Value: median(took[i]), Unit: "µs"})
	}
	return nil
}

// costOf measures what one warm execution costs the server, recording included.
func costOf(ctx context.Context, b *bench, s *server, c caller, as *client.Client, name string) error {
	before, err := s.metrics(ctx)
	if err != nil {
		return err
	}
	cpu := cpuTime(s.Pid())
	j := invocation(as, name, event120())
	j.Clients, j.Requests = 1, scale(b, 20_000, 4_000)
	t, err := c.do(j)
	if err != nil {
		return err
	}
	used := cpuTime(s.Pid()) - cpu
	after, err := s.metrics(ctx)
	if err != nil {
		return err
	}
	n := float64(t.Requests)
	b.add(Result{Name: "cost.allocations", Value: (after["go_memstats_mallocs_total"] - before["go_memstats_mallocs_total"]) / n, Unit: "a request"})
	b.add(Result{Name: "cost.allocated", Value: (after["go_memstats_alloc_bytes_total"] - before["go_memstats_alloc_bytes_total"]) / n, Unit: "bytes a request"})
	b.add(Result{Name: "cost.cpu", Value: float64(used) / 1e3 / n, Unit: "µs a request"})
	return nil
}

// metrics reads /metrics: the values of the metrics that have no labels.
func (s *server) metrics(ctx context.Context) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("/metrics answers %s", res.Status)
	}
	values := map[string]float64{}
	lines := bufio.NewScanner(io.LimitReader(res.Body, 8<<20))
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if !ok || strings.HasPrefix(name, "#") || strings.ContainsRune(name, '{') {
			continue
		}
		if values[name], err = strconv.ParseFloat(value, 64); err != nil {
			return nil, fmt.Errorf("/metrics: %s: %w", name, err)
		}
	}
	return values, lines.Err()
}

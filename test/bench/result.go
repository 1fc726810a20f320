//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// Result is one number.
type Result struct {
	Name  string  `json:"name"` // what, and of what, by dots
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// Against is the floor's or the rival's number in the same unit, Rival its name; 0 and empty when there is none.
	Against float64 `json:"against"`
	// Ratio is the median of the rounds' own ratios of Value to Against; 0 when there is nothing to compare with.
	Ratio float64 `json:"ratio"`
	// Bound is the most that Ratio (or Value, where there is no ratio) may be, or the least when AtLeast; 0 when there is
	// no bound yet.
	Bound   float64 `json:"bound"`
	Held    bool    `json:"held"`
	AtLeast bool    `json:"atLeast,omitempty"`
	Rival   string  `json:"rival,omitempty"`
}

// add keeps a number and says whether its bound is held.
func (b *bench) add(r Result) {
	judged := r.Value
	if r.Ratio != 0 {
		judged = r.Ratio
	}
	switch {
	case r.Bound == 0:
		r.Held = true
	case r.AtLeast:
		r.Held = judged >= r.Bound
	default:
		r.Held = judged <= r.Bound
	}
	b.results = append(b.results, r)
}

func notHeld(results []Result) []string {
	var names []string
	for _, r := range results {
		if !r.Held {
			names = append(names, r.Name)
		}
	}
	return names
}

func writeResults(path string, results []Result) error {
	if results == nil {
		results = []Result{}
	}
	text, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// stagePrefix begins the names that go into the second table: stage.GUEST.STAGE.
const stagePrefix = "stage."

func printTables(w io.Writer, results []Result) {
	if len(results) == 0 {
		return
	}
	fmt.Fprint(w, "\n| what | value | against | ratio | bound | held |\n|---|---|---|---|---|---|\n")
	for _, r := range results {
		if strings.HasPrefix(r.Name, stagePrefix) {
			continue
		}
		against, ratio, bound, held := "", "", "", ""
		if r.Against != 0 {
			against = strings.TrimSpace(r.Rival + " " + number(r.Against) + " " + r.Unit)
		}
		if r.Ratio != 0 {
			ratio = number(r.Ratio) + "×"
		}
		if r.Bound != 0 {
			sign, unit, yes := "≤ ", "×", "yes"
			if r.AtLeast {
				sign = "≥ "
			}
			if r.Ratio == 0 {
				unit = " " + r.Unit
			}
			if !r.Held {
				yes = "**no**"
			}
			bound, held = sign+number(r.Bound)+unit, yes
		}
		fmt.Fprintf(w, "| %s | %s %s | %s | %s | %s | %s |\n", r.Name, number(r.Value), r.Unit, against, ratio, bound, held)
	}
	printStages(w, results)
}

// printStages prints the parts of an execution, a row for each guest.
func printStages(w io.Writer, results []Result) {
	var guests, stages []string
	cells := map[string]string{}
	for _, r := range results {
		name, ok := strings.CutPrefix(r.Name, stagePrefix)
		if !ok {
			continue
		}
		guest, stage, _ := strings.Cut(name, ".")
		if !slices.Contains(guests, guest) {
			guests = append(guests, guest)
		}
		if !slices.Contains(stages, stage) {
			stages = append(stages, stage)
		}
		cells[name] = number(r.Value)
	}
	if len(guests) == 0 {
		return
	}
	fmt.Fprintf(w, "\n| stage, µs (median) | %s |\n|---|%s\n", strings.Join(stages, " | "), strings.Repeat("---|", len(stages)))
	for _, g := range guests {
		fmt.Fprintf(w, "| %s |", g)
		for _, s := range stages {
			fmt.Fprintf(w, " %s |", cells[g+"."+s])
		}
		fmt.Fprintln(w)
	}
}

// number shows three significant digits, and whole numbers from a hundred on.
func number(x float64) string {
	switch {
	case x == 0:
		return "0"
	case x >= 100 || x <= -100:
		return fmt.Sprintf("%.0f", x)
	case x >= 10 || x <= -10:
		return fmt.Sprintf("%.1f", x)
	case x >= 0.1 || x <= -0.1:
		return fmt.Sprintf("%.2f", x)
	}
	return fmt.Sprintf("%.3g", x)
}

// median gives the middle of a list, 0 of an empty one. The list is sorted.
func median(list []float64) float64 { return quantile(list, 0.5) }

// quantile gives the value below which a share q of the list is, 0 of an empty one. The list is sorted.
func quantile(list []float64, q float64) float64 {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	at := q * float64(len(list)-1)
	low := int(at)
	if low+1 >= len(list) {
		return list[len(list)-1]
	}
	return list[low] + (at-float64(low))*(list[low+1]-list[low])
}

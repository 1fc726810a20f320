package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"kiln/internal/record"
	"kiln/internal/sim"
	"kiln/internal/trace"
)

func (a *app) simulateCommand() *cobra.Command {
	o := sim.Options{}
	var svg string
	var faults map[string]string
	c := &cobra.Command{
		Use:   "simulate FILE",
		Short: "Run recorded requests against capacity policies and count cold starts and idle memory",
		Long: "Runs a trace (CSV, packed by gzip or not) against one policy or more and prints what each cost. Mode paper counts as\n" +
			"the papers do: executions take no time, each function is one unit, time comes in minutes. docs/policies.md says of each\n" +
			"policy where it comes from. One seed is one history.\n" +
			"A record that kiln serve --record made is run through its managers again instead, and their decisions are compared.",
		Example: "  kiln simulate trace.csv.gz --mode paper --policy all --seed 1\n" +
			"  kiln simulate trace.csv.gz --mode paper --policy fixed-10m,hybrid-4h --frontier --svg frontier.svg --seed 1",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			recorded, err := isRecord(args[0])
			if err != nil {
				return err
			}
			if recorded {
				return a.replay(c.Context(), args[0])
			}
			t, err := trace.Open(args[0])
			if err != nil {
				return err
			}
			o.Trace = t
			if o.Faults, err = sim.ParseFaults(faults); err != nil {
				return err
			}
			results, err := sim.Run(c.Context(), o)
			if err != nil {
				return err
			}
			if svg != "" {
				title := fmt.Sprintf("%s, %s mode, seed %d", t.Name, o.Mode, o.Seed)
				if err := os.WriteFile(svg, sim.SVG(title, results), 0o644); err != nil {
					return err
				}
			}
			if a.json {
				return a.printJSON(results)
			}
			return a.printSimulated(results)
		},
	}
	flags := c.Flags()
	flags.StringVar(&o.Mode, "mode", sim.ModePaper, "how to count: paper or system")
	flags.StringSliceVar(&o.Policies, "policy", []string{"all"}, "the policies, by name, with commas; all for all")
	flags.BoolVar(&o.Frontier, "frontier", false, "each policy at its operating points, from little idle memory to much")
	flags.BoolVar(&o.Shift, "shift", false, "turn each copy of a function that stands for several by a time of its own")
	flags.IntVar(&o.Folds, "folds", 0, "fit kiln's own policy in so many parts, each function scored by the one that was not shown it; 0 for the shipped one")
	flags.IntVar(&o.Instances, "instances", 0, "how many instances there is room for, in mode system; 0 for as many as are wanted")
	flags.StringToStringVar(&faults, "faults", nil, "what goes wrong in mode system: boot=0.1,slow=0.2,slow-by=5s,lost-node=1h and the like")
	flags.StringVar(&svg, "svg", "", "a file to draw the frontier into: cold starts against idle memory")
	flags.Uint64Var(&o.Seed, "seed", 1, "what all chance comes from")
	return c
}

// isRecord says whether a file is a record of a server; a file that is not there is none.
func isRecord(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, nil // trace.Open says so
	}
	defer f.Close()
	begin := make([]byte, 64)
	n, err := io.ReadFull(f, begin)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return false, err
	}
	return record.Is(begin[:n]), nil
}

// replay runs a record again. Decisions that differ are an error.
func (a *app) replay(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := record.Replay(ctx, f)
	if err != nil {
		return err
	}
	if a.json {
		err = a.printJSON([]record.Replayed{got})
	} else {
		_, err = fmt.Fprintf(a.stdout, "%d managers, %d steps, %d requests, %d actions: %d steps decided as recorded\n",
			got.Fleets, got.Steps, got.Requests, got.Decisions, got.Same)
	}
	if got.Differs != "" {
		return mistake("the decisions differ from the record: %s", got.Differs)
	}
	return err
}

// printSimulated prints a table, a row for each policy and operating point.
func (a *app) printSimulated(results []sim.Result) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "POLICY\tVALUE\tCOLD\tREQUESTS\tWASTE\tAPP P50 %\tP75 %\tP90 %\tADDED P50 MS\tP99 MS\tIDLE GB-S\tRUM\tDROPS\t")
	for _, r := range results {
		fmt.Fprintf(w, "%s\t%g\t%d\t%d\t%.3f\t%.2f\t%.2f\t%.2f\t%.1f\t%.1f\t%.0f\t%.1f\t%d\t\n", r.Policy, r.Value, r.Cold, r.Requests, r.Waste,
			r.ColdP50App, r.ColdP75App, r.ColdP90App, r.LatencyP50Ms, r.LatencyP99Ms, r.IdleGBs, r.RUM, r.Drops)
	}
	return w.Flush()
}

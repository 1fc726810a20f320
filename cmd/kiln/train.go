package main

import (
	"cmp"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"kiln/internal/train"
)

func (a *app) trainCommand() *cobra.Command {
	var dir, out string
	var o train.Options
	c := &cobra.Command{
		Use:   "train",
		Short: "Make the table by which containers are kept from recorded requests",
		Long: "Fits the table of retention's learned hazard to the public traces azure2019_joint8h and azure2019_day24h, found in\n" +
			"--traces, $KILN_TRACES or ../shared/traces. The same traces and seed give the same bytes. The table this version comes with\n" +
			"is internal/retention/table.bin, made with seed 1.",
		Example: "  kiln train --out internal/retention/table.bin",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			traces, err := train.Development(cmp.Or(dir, a.getenv("KILN_TRACES"), "../shared/traces"))
			if err != nil {
				return err
			}
			table, err := train.Fit(c.Context(), traces, o)
			if err != nil {
				return err
			}
			b := table.Bytes()
			if err := os.WriteFile(out, b, 0o644); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]any{"file": out, "bytes": len(b), "trees": table.Trees()})
			}
			fmt.Fprintf(a.stdout, "%s: %d trees, %d bytes\n", out, table.Trees(), len(b))
			return nil
		},
	}
	flags := c.Flags()
	flags.StringVar(&dir, "traces", "", "the folder of the traces")
	flags.StringVar(&out, "out", "table.bin", "the file to write")
	flags.Uint64Var(&o.Seed, "seed", 1, "what all chance comes from")
	return c
}

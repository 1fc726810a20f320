package main

import (
	"github.com/spf13/cobra"

	"kiln/internal/sandbox"
	"kiln/internal/server"
)

func (a *app) doctorCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine can do, and why not more",
		Long: "Tries what `kiln serve` would need: makes a container and takes it away again, looks for language runtimes, limits and\n" +
			"space, and says of each whether it works and otherwise what to do. What does not work is no failure of this command.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := a.loadConfig(c, file)
			if err != nil {
				return err
			}
			if cfg.Driver != "process" {
				if _, err := sandbox.Enter(); err != nil { // as serve does, so that it sees what serve would
					a.say("%v: `kiln serve` would end with this; what follows is as seen without", err)
				}
			}
			return server.Doctor(c.Context(), cfg, a.stdout)
		},
	}
	a.keyFlags(c, &file, "driver", "runtimes")
	return c
}

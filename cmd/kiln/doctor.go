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
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := a.loadConfig(c, file)
			if err != nil {
				return err
			}
			if _, err := sandbox.Enter(); err != nil { // as serve does, so that it sees what serve would
				return err
			}
			return server.Doctor(c.Context(), cfg, a.stdout)
		},
	}
	a.keyFlags(c, &file, "driver", "runtimes")
	return c
}

package main

import (
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"kiln/internal/sandbox"
	"kiln/internal/server"
)

func (a *app) serveCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the server until it is told to end",
		Long: "Serves the Lambda API and Kiln's own. Prints one line beginning \"kiln: ready http://HOST:PORT\" when every warming\n" +
			"target is met, and logs on standard error. TERM or an interrupt drains and ends in order; a second one ends at once.\n" +
			"Every key of `kiln config` is also a flag, by the key's name: --instances.max 4.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := a.loadConfig(c, file)
			if err != nil {
				return err
			}
			if err := needsRoot(cfg.Driver, os.Geteuid()); err != nil {
				return err
			}
			if cfg.Driver != "process" {
				// Executes this program once more in place; what is above happens twice, and does nothing but read.
				if _, err := sandbox.Enter(); err != nil {
					return err
				}
			}
			for _, told := range server.Misspelt(a.environ) {
				a.say("kiln: %s", told)
			}
			a.orderly.Store(true)
			return server.Run(c.Context(), cfg, newLogger(cfg, a.stderr), a.stdout)
		},
	}
	a.keyFlags(c, &file, "listen", "driver", "runtimes", "record")
	return c
}

// needsRoot refuses a driver of containers to a user who cannot make any, before anything else fails for the same reason.
func needsRoot(driver string, user int) error {
	if user == 0 || (driver != "auto" && driver != "container") {
		return nil
	}
	return mistake("containers need root: run `sudo kiln serve`, or `kiln serve --driver process` for code you trust")
}

// newLogger makes the server's logger as the configuration, which is valid, asks for.
func newLogger(cfg server.Config, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.LogLevel)) // one of four words, all known
	options := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

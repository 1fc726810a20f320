package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"kiln/internal/server"
)

func (a *app) configCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "config",
		Short: "Print every key that can be set, with its default, unit and meaning",
		Long: "Prints every key of the configuration. A key is set in the YAML file given by --config (nested or with\n" +
			"dots), stronger by its variable in the environment (lists as JSON), stronger still by a flag of kiln serve\n" +
			"with the key's name. With --json the values that file and environment give now are shown too.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := server.LoadConfig(server.Sources{File: a.configFile(file), Environ: a.environ})
			if err != nil {
				return err
			}
			keys := cfg.Keys()
			if a.json {
				return a.printJSON(keys)
			}
			w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "KEY\tVARIABLE\tDEFAULT\tUNIT\tMEANING")
			for _, k := range keys {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", k.Name, k.Variable, orDash(k.Default), k.Unit, meaning(k))
			}
			return w.Flush()
		},
	}
	c.Flags().StringVar(&file, "config", "", "the YAML file to read (default KILN_CONFIG)")
	return c
}

func meaning(k server.Key) string {
	if len(k.OneOf) == 0 {
		return k.Meaning
	}
	return fmt.Sprintf("%s (one of %v)", k.Meaning, k.OneOf)
}

// configFile gives the file named by the flag or by KILN_CONFIG.
func (a *app) configFile(flag string) string {
	if flag != "" {
		return flag
	}
	return a.getenv("KILN_CONFIG")
}

// loadConfig reads the whole configuration of a command with the keys as flags.
func (a *app) loadConfig(c *cobra.Command, file string) (server.Config, error) {
	given := map[string]string{}
	for _, k := range new(server.Config).Keys() {
		if f := c.Flags().Lookup(k.Name); f != nil && f.Changed {
			given[k.Name] = f.Value.String()
		}
	}
	cfg, err := server.LoadConfig(server.Sources{File: a.configFile(file), Environ: a.environ, Flags: given})
	if err != nil {
		return cfg, err
	}
	if info, err := os.Stat(cfg.Data); err == nil && !info.IsDir() {
		return cfg, mistake("%s is a file, not a folder; give a folder with --data", cfg.Data)
	}
	cfg.Data, err = filepath.Abs(cfg.Data)
	return cfg, err
}

// keyFlags makes a flag of every key. Only the few in shown stand in the help; kiln config lists all.
func (a *app) keyFlags(c *cobra.Command, file *string, shown ...string) {
	c.Flags().StringVar(file, "config", "", "a YAML file with any key of kiln config (default KILN_CONFIG)")
	for _, k := range new(server.Config).Keys() {
		if k.Name == "data" {
			continue // every command has it
		}
		c.Flags().String(k.Name, k.Default, meaning(k))
		if !slices.Contains(shown, k.Name) {
			_ = c.Flags().MarkHidden(k.Name) // it exists: made in the line above
		}
	}
}

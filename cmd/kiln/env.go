package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"kiln/internal/client"
)

func (a *app) envCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "env",
		Short: "Print what a shell needs to reach the server: eval \"$(kiln env)\"",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := a.dataDir()
			if err != nil {
				return err
			}
			key, err := client.ReadCredentials(dir)
			if err != nil {
				return err
			}
			endpoint := a.endpoint
			if endpoint == "" {
				address, err := client.ReadAddress(dir)
				if err != nil {
					return err
				}
				endpoint = address.Endpoint
			}
			if !client.Answers(c.Context(), endpoint) {
				a.say("kiln: the server does not answer at %s; start it with `kiln serve --data %s`", endpoint, dir)
			}
			return a.printExports(endpoint, key)
		},
	}
}

// printExports prints a key and the server it opens as lines for a shell, or as JSON.
func (a *app) printExports(endpoint string, key client.Credentials) error {
	exports := [][2]string{
		{"AWS_ENDPOINT_URL", endpoint},
		{"AWS_ACCESS_KEY_ID", key.AccessKeyID},
		{"AWS_SECRET_ACCESS_KEY", key.SecretAccessKey},
		{"AWS_REGION", key.Region},
		{"AWS_DEFAULT_REGION", key.Region},
		{"KILN_ACCOUNT_ID", string(key.Account)},
	}
	if a.json {
		m := map[string]string{}
		for _, e := range exports {
			m[e[0]] = e[1]
		}
		return a.printJSON(m)
	}
	for _, e := range exports {
		fmt.Fprintf(a.stdout, "export %s=%s\n", e[0], shellQuote(e[1]))
	}
	return nil
}

// shellQuote makes one word of s for a POSIX shell.
func shellQuote(s string) string {
	plain := strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:/._-+") == ""
	if s != "" && plain {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

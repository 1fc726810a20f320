package main

import (
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"kiln/internal/client"
)

func (a *app) logsCommand() *cobra.Command {
	var follow bool
	var since string
	c := &cobra.Command{
		Use:               "logs NAME [-f]",
		Short:             "Print a function's log",
		Args:              oneName,
		ValidArgsFunction: a.completeFunctions,
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := a.connect()
			if err != nil {
				return err
			}
			q := url.Values{}
			if follow {
				q.Set("follow", "1")
			}
			if since != "" {
				q.Set("since", since)
			}
			res, err := cl.Do(c.Context(), client.Request{Method: http.MethodGet, Path: "/kiln/v1/logs/" + url.PathEscape(args[0]), Query: q})
			if err != nil {
				return err
			}
			defer res.Body.Close()
			_, err = io.Copy(a.stdout, res.Body)
			if c.Context().Err() != nil {
				return nil // the user has seen enough
			}
			return cl.Explain(err)
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on as new lines come, until interrupted")
	c.Flags().StringVar(&since, "since", "", "only lines after this time (RFC 3339) or younger than this duration (10m)")
	return c
}

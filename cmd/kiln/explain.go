package main

import (
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"kiln/internal/client"
	"kiln/internal/pool"
)

func (a *app) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "explain FUNCTION",
		Short:             "Say why a function is or is not kept warm now",
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: a.completeFunctions,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return mistake("explain takes one function; write: kiln explain FUNCTION")
			}
			cl, err := a.connect()
			if err != nil {
				return err
			}
			var answer struct {
				Items []pool.Explanation `json:"items"`
			}
			if err := cl.JSON(c.Context(), client.Request{Path: "/kiln/v1/functions/" + url.PathEscape(args[0]) + "/explanation"}, nil, &answer); err != nil {
				return cl.Explain(err)
			}
			if a.json {
				return a.printJSON(answer)
			}
			for _, e := range answer.Items {
				if e.Fleet != "" && len(answer.Items) > 1 {
					fmt.Fprintf(a.stdout, "%s: ", e.Fleet)
				}
				fmt.Fprintln(a.stdout, e.Sentence)
			}
			return nil
		},
	}
}

package main

import (
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"kiln/internal/client"
)

func (a *app) fleetCommand() *cobra.Command {
	return group("fleet", "Stop and start fleets' managers (the operator only); `kiln ls fleets` lists them",
		a.manageCommand("stop", "stopped", "Have a fleet take no request and boot nothing; what executes goes on, and so do the other fleets"),
		a.manageCommand("start", "running", "Have a stopped fleet go on"))
}

// manageCommand makes a command that brings a fleet's manager to a state.
func (a *app) manageCommand(verb, state, short string) *cobra.Command {
	var account string
	c := &cobra.Command{Use: verb + " NAME", Short: short, Args: oneName,
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := a.connect()
			if err != nil {
				return err
			}
			req := client.Request{Method: http.MethodPut, Path: "/kiln/v1/fleets/" + url.PathEscape(args[0]), Query: url.Values{}}
			if account != "" {
				req.Query.Set("account", account)
			}
			var fleet map[string]any
			if err := cl.JSON(c.Context(), req, map[string]string{"manager": state}, &fleet); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(fleet)
			}
			a.say("the manager of fleet %s is %v", args[0], fleet["manager"])
			return nil
		}}
	c.Flags().StringVar(&account, "account", "", "whose fleet, for an account's own")
	return c
}

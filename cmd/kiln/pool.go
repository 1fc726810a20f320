package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"kiln/internal/client"
)

// poolView is of a warming pool what this command shows after a change.
type poolView struct {
	ID        string `json:"id"`
	Target    int    `json:"target"`
	Instances int    `json:"instances"`
	Demand    struct {
		Minimum int    `json:"minimum"`
		Maximum int    `json:"maximum"`
		Pinned  bool   `json:"pinned"`
		Reason  string `json:"reason"`
	} `json:"demand"`
}

func (a *app) poolCommand() *cobra.Command {
	var minimum, maximum, target int
	set := &cobra.Command{Use: "set ID [--minimum N] [--maximum N] [--target N]",
		Short: "Bound a warming pool's instances, or pin them, from now on and over restarts", Args: oneName,
		RunE: func(c *cobra.Command, args []string) error {
			body := map[string]int{}
			for name, n := range map[string]int{"minimum": minimum, "maximum": maximum, "target": target} {
				if c.Flags().Changed(name) {
					body[name] = n
				}
			}
			if len(body) == 0 {
				return mistake("say what to set: kiln pool set ID --minimum N, --maximum N or --target N")
			}
			return a.turnPool(c, http.MethodPut, args[0], body)
		}}
	set.Flags().IntVar(&minimum, "minimum", 0, "the fewest warm instances")
	set.Flags().IntVar(&maximum, "maximum", 0, "the most warm instances demand may call for")
	set.Flags().IntVar(&target, "target", 0, "so many warm instances, whatever the demand")
	reset := &cobra.Command{Use: "reset ID", Short: "Take back what was set: as configured, and by demand", Args: oneName,
		RunE: func(c *cobra.Command, args []string) error { return a.turnPool(c, http.MethodDelete, args[0], nil) }}
	ls := &cobra.Command{Use: "ls", Short: "List the pools", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.list(c, "pools", nil, 0) }}
	return group("pool", "List the pools, and set how many instances are kept warm (the operator only)", ls, set, reset)
}

// turnPool changes a pool and says how it is then. An id's slashes are part of the path.
func (a *app) turnPool(c *cobra.Command, method, id string, body any) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	var now poolView
	done := a.progress("setting " + id)
	err = cl.JSON(c.Context(), client.Request{Method: method, Path: "/kiln/v1/pools/" + id}, body, &now)
	done()
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(now)
	}
	fmt.Fprintf(a.stdout, "%s: target %d (%s), minimum %d, maximum %d, %d there\n",
		now.ID, now.Target, now.Demand.Reason, now.Demand.Minimum, now.Demand.Maximum, now.Instances)
	return nil
}

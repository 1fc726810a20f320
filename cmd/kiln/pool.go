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
	dedicate := a.dedicateCommand()
	ls := &cobra.Command{Use: "ls", Short: "List the pools", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.list(c, "pools", nil, 0) }}
	return group("pool", "List the pools, and set how many instances are kept warm (the operator only)", ls, set, reset, dedicate)
}

func (a *app) dedicateCommand() *cobra.Command {
	var configuration, fleet string
	var instances int
	var spillOver bool
	c := &cobra.Command{Use: "dedicate ACCOUNT --configuration DRIVER/RUNTIME/SHAPE --instances N [--spill-over]",
		Short: "Keep warm instances for one account; 0 takes it back", Args: oneName,
		RunE: func(c *cobra.Command, args []string) error {
			if configuration == "" || !c.Flags().Changed("instances") {
				return mistake("say what is kept: kiln pool dedicate ACCOUNT --configuration DRIVER/RUNTIME/SHAPE --instances N (`kiln ls pools` lists the configurations)")
			}
			body := map[string]any{"pool": fleet + "/warming/" + configuration, "instances": instances, "spillOver": spillOver}
			return a.changePool(c, client.Request{Method: http.MethodPut, Path: "/kiln/v1/dedicated/" + args[0]}, body)
		}}
	c.Flags().StringVar(&configuration, "configuration", "", "driver, runtime and shape, as in the id of a pool")
	c.Flags().StringVar(&fleet, "fleet", "low-volume", "the fleet they are kept in")
	c.Flags().IntVar(&instances, "instances", 0, "so many are the account's, warm until it takes them")
	c.Flags().BoolVar(&spillOver, "spill-over", false, "let the account take common instances beyond them")
	return c
}

// turnPool changes a pool. An id's slashes are part of the path.
func (a *app) turnPool(c *cobra.Command, method, id string, body any) error {
	return a.changePool(c, client.Request{Method: method, Path: "/kiln/v1/pools/" + id}, body)
}

// changePool carries a change out and says how the pool is then.
func (a *app) changePool(c *cobra.Command, r client.Request, body any) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	var now poolView
	done := a.progress("setting " + r.Path)
	err = cl.JSON(c.Context(), r, body, &now)
	done()
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(now)
	}
	if now.Demand.Reason == "" {
		fmt.Fprintf(a.stdout, "%s: %d instances, %d warm\n", now.ID, now.Target, now.Instances)
		return nil
	}
	fmt.Fprintf(a.stdout, "%s: target %d (%s), minimum %d, maximum %d, %d there\n",
		now.ID, now.Target, now.Demand.Reason, now.Demand.Minimum, now.Demand.Maximum, now.Instances)
	return nil
}

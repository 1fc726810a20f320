package main

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"kiln/internal/client"
)

func (a *app) accountCommand() *cobra.Command {
	return group("account", "Make and list accounts (the operator only)",
		&cobra.Command{Use: "create", Short: "Make an account with one key and print what a shell needs to use it", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				cl, err := a.connect()
				if err != nil {
					return err
				}
				var made struct {
					Account string `json:"account"`
				}
				req := client.Request{Method: http.MethodPost, Path: "/kiln/v1/accounts"}
				done := a.progress("making an account")
				err = cl.JSON(c.Context(), req, struct{}{}, &made)
				done()
				if err != nil {
					return err
				}
				return a.createKey(c, cl, made.Account)
			}},
		&cobra.Command{Use: "ls", Short: "List the accounts", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error { return a.list(c, "accounts", nil, 0) }})
}

func (a *app) keyCommand() *cobra.Command {
	var account, listed string
	create := &cobra.Command{Use: "create --account ID", Short: "Make an access key and print what a shell needs to use it", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if account == "" {
				return mistake("say whose key: kiln key create --account ID (`kiln account ls` lists them)")
			}
			cl, err := a.connect()
			if err != nil {
				return err
			}
			return a.createKey(c, cl, account)
		}}
	create.Flags().StringVar(&account, "account", "", "the account's twelve digits")
	ls := &cobra.Command{Use: "ls", Short: "List the access keys, without their secrets", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			q := url.Values{}
			if listed != "" {
				q.Set("account", listed)
			}
			return a.list(c, "keys", q, 0)
		}}
	ls.Flags().StringVar(&listed, "account", "", "only this account's")
	rm := &cobra.Command{Use: "rm KEY", Short: "Take an access key back: what is signed with it is refused from then on", Args: oneName,
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := a.connect()
			if err != nil {
				return err
			}
			done := a.progress("removing " + args[0])
			err = cl.JSON(c.Context(), client.Request{Method: http.MethodDelete, Path: "/kiln/v1/keys/" + url.PathEscape(args[0])}, nil, nil)
			done()
			if err == nil {
				a.say("removed %s", args[0])
			}
			return err
		}}
	return group("key", "Make, list and take back access keys (the operator only)", create, ls, rm)
}

// createKey asks for a key and prints it as kiln env does.
func (a *app) createKey(c *cobra.Command, cl *client.Client, account string) error {
	var made client.Credentials
	req := client.Request{Method: http.MethodPost, Path: "/kiln/v1/keys"}
	done := a.progress("making a key")
	err := cl.JSON(c.Context(), req, map[string]string{"account": account}, &made)
	done()
	if err != nil {
		return err
	}
	if made.AccessKeyID == "" {
		return fmt.Errorf("the server made no key for account %s; is it a Kiln of this version?", account)
	}
	return a.printExports(cl.Endpoint(), made)
}

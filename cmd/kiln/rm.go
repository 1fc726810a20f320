package main

import (
	"context"
	"net/http"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/spf13/cobra"

	"kiln/internal/client"
)

func (a *app) rmCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "rm NAME|INSTANCE|CONTAINER…",
		Short:             "Delete functions, or end instances (i-…) and containers (c-…)",
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: a.completeFunctions,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return mistake("rm takes at least one name; write: kiln rm NAME")
			}
			cl, err := a.connect()
			if err != nil {
				return err
			}
			id := regexp.MustCompile(`^[ic]-[0-9a-f]{16}$`)
			for _, name := range args {
				done := a.progress("removing " + name)
				if id.MatchString(name) {
					kind := map[byte]string{'i': "instances", 'c': "containers"}[name[0]]
					err = cl.JSON(c.Context(), client.Request{Method: http.MethodDelete, Path: "/kiln/v1/" + kind + "/" + name}, nil, nil)
				} else {
					_, err = cl.Lambda().DeleteFunction(c.Context(), &lambda.DeleteFunctionInput{FunctionName: aws.String(name)})
				}
				done()
				if err != nil {
					return cl.Explain(err)
				}
				a.say("removed %s", name)
			}
			return nil
		},
	}
}

// completionLimit bounds the call behind a press of the tab key.
const completionLimit = time.Second

// completeFunctions offers the names of functions; none when no server answers in time.
func (a *app) completeFunctions(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	cl, err := a.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(c.Context(), completionLimit)
	defer cancel()
	out, err := cl.Lambda().ListFunctions(ctx, &lambda.ListFunctionsInput{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, f := range out.Functions {
		names = append(names, aws.ToString(f.FunctionName))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

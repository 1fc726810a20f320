package main

import (
	"bytes"
	"cmp"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"kiln"
	"kiln/internal/client"
)

// maxLogLines is the most lines of a log the server gives at once.
const maxLogLines = 1000

func (a *app) logsCommand() *cobra.Command {
	var follow bool
	var since string
	var limit int
	c := &cobra.Command{
		Use:               "logs NAME [-f]",
		Short:             "Print a function's log",
		Args:              oneName,
		ValidArgsFunction: a.completeFunctions,
		RunE: func(c *cobra.Command, args []string) error {
			if limit > maxLogLines {
				return mistake("--limit is %d; the server gives %d lines at most: give --since for others, or -f for all that come", limit, maxLogLines)
			}
			ref, err := functionRef(args[0])
			if err != nil {
				return err
			}
			cl, err := a.connect()
			if err != nil {
				return err
			}
			if ref.Qualifier != "" {
				a.say("the log of all of %s: it is not kept by version", ref.Name)
			}
			wanted := cmp.Or(limit, maxLogLines)
			q := url.Values{"limit": {strconv.Itoa(wanted)}}
			ofAccount(q, cl, ref)
			if follow {
				q.Set("follow", "1")
			}
			if since != "" {
				q.Set("since", since)
			}
			res, err := cl.Do(c.Context(), client.Request{Method: http.MethodGet, Path: "/kiln/v1/logs/" + url.PathEscape(ref.Name), Query: q})
			if err != nil {
				return err
			}
			defer res.Body.Close()
			lines := &lineCounter{to: a.stdout}
			_, err = io.Copy(lines, res.Body)
			if c.Context().Err() != nil {
				return nil // the user has seen enough
			}
			if err == nil && !follow && lines.count >= wanted {
				a.say("kiln: these are the newest %d lines; there may be more: --limit shows up to %d, -f those that come", wanted, maxLogLines)
			}
			return cl.Explain(err)
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on as new lines come, until interrupted")
	c.Flags().StringVar(&since, "since", "", "only lines after this time (RFC 3339) or younger than this duration (10m)")
	c.Flags().IntVarP(&limit, "limit", "n", 100, "the most lines to print, the newest; 0 for as many as the server gives, which is "+strconv.Itoa(maxLogLines))
	return c
}

// lineCounter counts the lines that go through it.
type lineCounter struct {
	to    io.Writer
	count int
}

func (l *lineCounter) Write(b []byte) (int, error) {
	l.count += bytes.Count(b, []byte("\n"))
	return l.to.Write(b)
}

// functionRef reads a function as invoke takes it: a name, a name with a qualifier, or an ARN.
func functionRef(text string) (kiln.FunctionRef, error) {
	if text == "" {
		return kiln.FunctionRef{}, mistake("give the name of a function")
	}
	ref, ok := kiln.ParseFunctionRef(text)
	if !ok {
		return ref, mistake("%s is no function; give a name, NAME:QUALIFIER or an ARN", text)
	}
	return ref, nil
}

// ofAccount asks for another account's when the function's ARN names one, which only the operator is given.
func ofAccount(q url.Values, cl *client.Client, ref kiln.FunctionRef) {
	if ref.Account != "" && ref.Account != cl.Key().Account {
		q.Set("account", string(ref.Account))
	}
}

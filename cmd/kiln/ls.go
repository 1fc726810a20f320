package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/spf13/cobra"

	"kiln"
	"kiln/internal/client"
)

// columns gives, for each kind of thing, the members its table shows, dots going inside.
func columns(kind string) string {
	return map[string]string{
		"functions":  "name runtime handler memoryMiB timeoutSeconds state codeBytes modified",
		"nodes":      "id driver isolated limits instances containers processors version startedAt",
		"pools":      "fleet pool driver runtime shape target instances booting draining containers busy memoryUsedMiB memoryMiB",
		"instances":  "id pool state account fleet driver runtimes shape bootedAt codeCache",
		"containers": "id instance state function version pid memoryMiB",
		"executions": "times.received requestId function versionExecuted path outcome durationMs memory.used instance container",
		"events":     "time kind cause function instance container requestId",
		"fleets":     "name account manager instances instancesMax booting containers busy waiting target",
		"usage":      "account function requests fleet pinned last",
		"accounts":   "",
		"keys":       "",
	}[kind]
}

func (a *app) lsCommand() *cobra.Command {
	kinds := []string{"functions", "instances", "containers", "executions", "events", "pools", "fleets", "usage", "nodes"}
	var limit int
	var function, account, since string
	var filters []string
	c := &cobra.Command{
		Use:       "ls {" + strings.Join(kinds, "|") + "}",
		Short:     "List functions, instances, containers, executions, events, pools, fleets, usage or nodes",
		ValidArgs: kinds,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(kinds, args[0]) {
				return mistake("say what to list: kiln ls %s", strings.Join(kinds, "|"))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			q := url.Values{}
			if function != "" {
				if err := a.ofFunction(q, args[0], function); err != nil {
					return err
				}
			}
			for name, value := range map[string]string{"account": account, "since": since} {
				if value != "" {
					q.Set(name, value)
				}
			}
			for _, f := range filters {
				name, value, ok := strings.Cut(f, "=")
				if !ok {
					return mistake("--filter %s is no filter; write --filter field=value", f)
				}
				q.Set(name, value)
			}
			if args[0] == "functions" {
				return a.listFunctions(c, limit)
			}
			return a.list(c, args[0], q, limit)
		},
	}
	f := c.Flags()
	f.IntVar(&limit, "limit", 100, "the most to list, the newest; 0 lists all")
	f.StringVar(&function, "function", "", "only of this function: a name, NAME:VERSION or an ARN")
	f.StringVar(&account, "account", "", "only of this account (the operator sees all)")
	f.StringVar(&since, "since", "", "only after this time (RFC 3339)")
	f.StringArrayVar(&filters, "filter", nil, "only where field=value; may be repeated")
	return c
}

// ofFunction asks for what belongs to one function; to one version of it where the list tells versions apart.
func (a *app) ofFunction(q url.Values, kind, function string) error {
	ref, err := functionRef(function)
	if err != nil {
		return err
	}
	q.Set("function", ref.Name)
	if ref.Account != "" {
		q.Set("account", string(ref.Account))
	}
	if ref.Qualifier == "" {
		return nil
	}
	if _, err := strconv.Atoi(ref.Qualifier); kind == "executions" && (err == nil || ref.Qualifier == kiln.Latest) {
		q.Set("version", ref.Qualifier)
		return nil
	}
	a.say("%s of all of %s: they are not told apart by %s", kind, ref.Name, ref.Qualifier)
	return nil
}

// list prints a list of /kiln/v1.
func (a *app) list(c *cobra.Command, kind string, q url.Values, limit int) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	done := a.progress("listing " + kind)
	var items []json.RawMessage
	whole := true
	if kind == "events" && limit > 0 { // the one list whose oldest come first
		items, whole, err = newest(c.Context(), cl, kind, q, limit)
	} else {
		items, err = cl.List(c.Context(), kind, q, limit)
	}
	done()
	if err != nil {
		return err
	}
	if !whole {
		a.say("there are more than %d %s; those shown are not the newest: give a later --since", maxNewest, kind)
	}
	return a.printItems(kind, items)
}

// maxNewest bounds the items that are read to find the newest ones.
const maxNewest = 100_000

// newest gives the newest items of a list that begins with the oldest: it looks at the last hour, then the last day, then
// at everything, unless q says since when. whole is false when it did not get to the end.
func newest(ctx context.Context, cl *client.Client, kind string, q url.Values, limit int) (items []json.RawMessage, whole bool, err error) {
	for _, back := range []time.Duration{time.Hour, 24 * time.Hour, 0} {
		window := maps.Clone(q)
		if !q.Has("since") && back > 0 {
			window.Set("since", time.Now().Add(-back).UTC().Format(time.RFC3339))
		}
		if items, err = cl.List(ctx, kind, window, maxNewest); err != nil {
			return nil, false, err
		}
		if len(items) >= limit || q.Has("since") {
			break
		}
	}
	return items[max(len(items)-limit, 0):], len(items) < maxNewest, nil
}

func (a *app) listFunctions(c *cobra.Command, limit int) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	done := a.progress("listing functions")
	defer done()
	var items []json.RawMessage
	pages := lambda.NewListFunctionsPaginator(cl.Lambda(), &lambda.ListFunctionsInput{})
	for pages.HasMorePages() && (limit == 0 || len(items) < limit) {
		page, err := pages.NextPage(c.Context())
		if err != nil {
			return cl.Explain(err)
		}
		for _, f := range page.Functions {
			item, err := json.Marshal(map[string]any{"name": aws.ToString(f.FunctionName), "arn": aws.ToString(f.FunctionArn),
				"runtime": f.Runtime, "handler": aws.ToString(f.Handler), "memoryMiB": aws.ToInt32(f.MemorySize),
				"timeoutSeconds": aws.ToInt32(f.Timeout), "state": f.State, "codeBytes": f.CodeSize,
				"codeSha256": aws.ToString(f.CodeSha256), "modified": aws.ToString(f.LastModified)})
			if err != nil {
				return err
			}
			items = append(items, item)
		}
	}
	if limit > 0 && len(items) > limit {
		items = items[:limit]
	}
	done()
	return a.printItems("functions", items)
}

// printItems prints items as JSON or as a table with the kind's columns, or with the members of the first.
func (a *app) printItems(kind string, items []json.RawMessage) error {
	if a.json {
		if items == nil {
			items = []json.RawMessage{}
		}
		return a.printJSON(map[string]any{"items": items})
	}
	if len(items) == 0 {
		a.say("no %s", kind)
		return nil
	}
	rows := make([]map[string]any, 0, len(items))
	for _, item := range items {
		var row map[string]any
		if err := json.Unmarshal(item, &row); err != nil {
			return fmt.Errorf("the server's list of %s cannot be read: %w", kind, err)
		}
		rows = append(rows, row)
	}
	names := strings.Fields(columns(kind))
	if len(names) == 0 {
		for name := range rows[0] {
			names = append(names, name)
		}
		slices.Sort(names)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.ToUpper(strings.Join(names, "\t")))
	for _, row := range rows {
		cells := make([]string, 0, len(names))
		for _, name := range names {
			cells = append(cells, cell(member(row, name)))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// member follows a name with dots into nested objects.
func member(row map[string]any, name string) any {
	var v any = row
	for part := range strings.SplitSeq(name, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[part]
	}
	return v
}

// cell shows a value in a table: lists of words joined, lists of anything else counted, objects as JSON.
func cell(v any) string {
	switch v := v.(type) {
	case nil:
		return "-"
	case string:
		return orDash(v)
	case float64:
		return strings.TrimSuffix(fmt.Sprintf("%.3f", v), ".000")
	case []any:
		words := make([]string, 0, len(v))
		for _, item := range v {
			word, ok := item.(string)
			if !ok || len(word) > 24 {
				return fmt.Sprintf("%d items", len(v))
			}
			words = append(words, word)
		}
		return orDash(strings.Join(words, ","))
	}
	if shape, ok := v.(map[string]any); ok && shape["cpus"] != nil {
		return fmt.Sprintf("%vMiB/%vcpu", shape["memoryMiB"], shape["cpus"])
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

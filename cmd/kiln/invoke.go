package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/spf13/cobra"

	"kiln"
)

// answer is what an execution came to, as its caller sees it.
type answer struct {
	Status          int             `json:"status"`
	RequestID       string          `json:"requestId"`
	FunctionError   string          `json:"functionError,omitempty"`
	ExecutedVersion string          `json:"executedVersion,omitempty"`
	Path            string          `json:"path"`
	Fleet           string          `json:"fleet"`
	Node            string          `json:"node"`
	Instance        string          `json:"instance"`
	Container       string          `json:"container"`
	TookMs          kiln.Millis     `json:"tookMs"` // by this command's clock
	Log             string          `json:"log,omitempty"`
	Payload         json.RawMessage `json:"payload"`

	raw []byte
}

func (a *app) invokeCommand() *cobra.Command {
	var event, qualifier string
	var tail, verbose bool
	var memory int
	c := &cobra.Command{
		Use:   "invoke NAME [-d JSON|@FILE|-]",
		Short: "Call a function and print its answer",
		Example: "  kiln invoke hello -d '{\"name\": \"Ada\"}'\n  kiln invoke hello:live -d @event.json --tail\n" +
			"  echo '{}' | kiln invoke hello -d - --json",
		Args:              oneName,
		ValidArgsFunction: a.completeFunctions,
		RunE: func(c *cobra.Command, args []string) error {
			if args[0] == "" {
				return mistake("give the name of a function")
			}
			payload, err := a.readEvent(event)
			if err != nil {
				return err
			}
			cl, err := a.connect()
			if err != nil {
				return err
			}
			in := &lambda.InvokeInput{FunctionName: aws.String(args[0]), Payload: payload}
			if qualifier != "" {
				in.Qualifier = aws.String(qualifier)
			}
			if tail {
				in.LogType = types.LogTypeTail
			}
			var options []func(*lambda.Options)
			if memory > 0 {
				options = append(options, lambda.WithAPIOptions(smithyhttp.SetHeaderValue("X-Kiln-Memory", strconv.Itoa(memory))))
			}
			done := a.progress("calling " + args[0])
			start := time.Now()
			out, err := cl.Lambda().Invoke(c.Context(), in, options...)
			took := time.Since(start)
			done()
			if err != nil {
				return cl.Explain(err)
			}
			got := answer{Status: int(out.StatusCode), FunctionError: aws.ToString(out.FunctionError),
				ExecutedVersion: aws.ToString(out.ExecutedVersion), TookMs: kiln.Millis(took), raw: out.Payload}
			if res, ok := awsmiddleware.GetRawResponse(out.ResultMetadata).(*smithyhttp.Response); ok {
				got.readHeader(res.Header)
			}
			got.Log = decodeLog(aws.ToString(out.LogResult))
			return a.printAnswer(got, verbose)
		},
	}
	c.Flags().StringVarP(&event, "event", "d", "", "the event: JSON, @FILE, or - for standard input (default {})")
	c.Flags().StringVar(&qualifier, "qualifier", "", "a version or alias")
	c.Flags().BoolVar(&tail, "tail", false, "show the end of the log, on standard error")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "show the acquisition path and where it ran, on standard error")
	c.Flags().IntVar(&memory, "memory", 0, "memory for this execution, in MiB")
	return c
}

// oneName wants exactly one argument and says so plainly.
func oneName(c *cobra.Command, args []string) error {
	if len(args) == 1 {
		return nil
	}
	return mistake("%s takes one argument; write: kiln %s", c.Name(), c.Use)
}

// readEvent reads the event as -d names it. Nothing is an empty event, which arrives as {}.
func (a *app) readEvent(d string) ([]byte, error) {
	switch {
	case d == "-":
		return readBounded(a.stdin, "standard input")
	case strings.HasPrefix(d, "@"):
		f, err := os.Open(d[1:])
		if err != nil {
			return nil, mistake("cannot read the event: %s", err)
		}
		defer f.Close()
		return readBounded(f, d[1:])
	}
	return []byte(d), nil
}

func readBounded(r io.Reader, name string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, kiln.MaxPayloadBytes+1))
	if err != nil {
		return nil, mistake("cannot read the event from %s: %s", name, err)
	}
	if len(b) > kiln.MaxPayloadBytes {
		return nil, mistake("the event in %s has more than %d bytes, the most an event may have", name, kiln.MaxPayloadBytes)
	}
	return b, nil
}

// readHeader reads where an execution ran.
func (g *answer) readHeader(h http.Header) {
	g.RequestID = h.Get("X-Amzn-Requestid")
	g.Path, g.Fleet, g.Node = h.Get("X-Kiln-Acquisition-Path"), h.Get("X-Kiln-Fleet"), h.Get("X-Kiln-Node")
	g.Instance, g.Container = h.Get("X-Kiln-Instance"), h.Get("X-Kiln-Container")
}

// decodeLog reads the log tail as AWS sends it; one that cannot be read is shown as it came.
func decodeLog(s string) string {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return s
	}
	return string(b)
}

// printAnswer prints the answer on standard output and the rest on standard error. The answer of a function that failed
// goes to standard error in words, so that standard output never holds an error in an answer's place.
func (a *app) printAnswer(g answer, verbose bool) error {
	if a.json {
		g.Payload = json.RawMessage(g.raw)
		if !json.Valid(g.raw) {
			quoted, err := json.Marshal(string(g.raw))
			if err != nil {
				return err
			}
			g.Payload = quoted
		}
		if err := a.printJSON(g); err != nil {
			return err
		}
	} else {
		if g.Log != "" {
			fmt.Fprint(a.stderr, strings.TrimRight(g.Log, "\n")+"\n")
		}
		if verbose {
			a.say("path=%s fleet=%s instance=%s container=%s version=%s request=%s took=%.2fms", orDash(g.Path), orDash(g.Fleet),
				orDash(g.Instance), orDash(g.Container), orDash(g.ExecutedVersion), orDash(g.RequestID), float64(g.TookMs)/1e6)
		}
	}
	if g.FunctionError != "" {
		a.say("kiln: the function failed (%s): %s", g.FunctionError, failureText(g.raw))
		return errFunctionFailed
	}
	if a.json {
		return nil
	}
	if _, err := a.stdout.Write(g.raw); err != nil {
		return err
	}
	if isTerminal(a.stdout) {
		fmt.Fprintln(a.stdout)
	}
	return nil
}

// failureText puts a function's error into words: type, message and trace.
func failureText(raw []byte) string {
	var f struct {
		Type    string   `json:"errorType"`
		Message string   `json:"errorMessage"`
		Trace   []string `json:"stackTrace"`
		Lines   []string `json:"trace"`
	}
	if json.Unmarshal(raw, &f) != nil || (f.Type == "" && f.Message == "") {
		return string(raw)
	}
	var text strings.Builder
	text.WriteString(strings.TrimPrefix(f.Type+": ", ": ") + f.Message)
	for _, line := range append(f.Trace, f.Lines...) {
		text.WriteString("\n  " + strings.TrimRight(line, "\n"))
	}
	return text.String()
}

// notFound reports whether the server said that there is no such thing.
func notFound(err error) bool {
	_, is := errors.AsType[*types.ResourceNotFoundException](err)
	return is
}

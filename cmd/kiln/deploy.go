package main

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/spf13/cobra"

	"kiln/internal/client"
)

// How often the state of a function that is being made ready is asked for, and for how long.
const (
	activeEvery  = 50 * time.Millisecond
	activeWithin = 2 * time.Minute
)

// busyTries bounds how often a change is tried while others change the same function.
const busyTries = 20

// wishes are what the flags of deploy ask for; empty and zero values leave things as they are.
type wishes struct {
	name, runtime, handler, description, architecture string
	memory, timeout                                   int32
	environment                                       map[string]string
}

func (a *app) deployCommand() *cobra.Command {
	var w wishes
	var env []string
	c := &cobra.Command{
		Use:   "deploy DIR|ZIP|FILE",
		Short: "Create a function, or give it new code, and wait until it can be called",
		Long: "Packs a folder or a single file, or takes a zip as it is, and registers it. Runtime and handler are guessed from\n" +
			"what is there and the guess is told; a function that exists keeps what is not given.",
		Example: "  kiln deploy ./hello\n  kiln deploy handler.py --name greet --memory 256 --env GREETING=hi\n  kiln deploy ./bin/program --name fast",
		Args:    oneName,
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			if w.environment, err = parseEnv(env); err != nil {
				return err
			}
			return a.deploy(c.Context(), args[0], w)
		},
	}
	f := c.Flags()
	f.StringVar(&w.name, "name", "", "the function's name (default: from the path)")
	f.StringVar(&w.runtime, "runtime", "", "AWS's identifier, e.g. python3.12, nodejs22.x, provided.al2023")
	f.StringVar(&w.handler, "handler", "", "what to call, e.g. lambda_function.lambda_handler")
	f.StringVar(&w.architecture, "architecture", "", "x86_64 or arm64 (default: what a program is built for, otherwise the server's)")
	f.StringVar(&w.description, "description", "", "a sentence about it")
	f.Int32Var(&w.memory, "memory", 0, "memory in MiB (128 unless given)")
	f.Int32Var(&w.timeout, "timeout", 0, "the most an execution may take, in seconds (3 unless given)")
	f.StringArrayVar(&env, "env", nil, "a variable, NAME=value; may be repeated; replaces all there were")
	return c
}

// parseEnv reads NAME=value texts. Nil when there are none.
func parseEnv(texts []string) (map[string]string, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	m := make(map[string]string, len(texts))
	for _, t := range texts {
		name, value, ok := strings.Cut(t, "=")
		if !ok || name == "" {
			return nil, mistake("--env %s is no variable; write --env NAME=value", t)
		}
		m[name] = value
	}
	return m, nil
}

func (a *app) deploy(ctx context.Context, from string, w wishes) error {
	p, err := pack(from)
	if err != nil {
		return err
	}
	if w.name == "" && p.name != p.told {
		a.say("calling it %s: a name has letters, digits, - and _, 64 at most; say otherwise with --name", orDash(p.name))
	}
	w.name = cmp.Or(w.name, p.name)
	if w.name == "" {
		return mistake("the path gives no name for the function; give --name")
	}
	w.architecture = cmp.Or(w.architecture, p.architecture)
	cl, err := a.connect()
	if err != nil {
		return err
	}
	done := a.progress("deploying " + w.name)
	defer done()
	d := &deployment{app: a, client: cl, lambda: cl.Lambda(), packed: p, wishes: w}
	if err := d.register(ctx); err != nil {
		return cl.Explain(err)
	}
	now, err := d.active(ctx)
	if err != nil {
		return cl.Explain(err)
	}
	done()
	if a.json {
		return a.printJSON(map[string]any{"function": w.name, "arn": aws.ToString(now.FunctionArn), "runtime": now.Runtime,
			"handler": aws.ToString(now.Handler), "memoryMiB": aws.ToInt32(now.MemorySize), "timeoutSeconds": aws.ToInt32(now.Timeout),
			"codeSha256": aws.ToString(now.CodeSha256), "codeBytes": now.CodeSize})
	}
	a.say("%s is active: %s, handler %s, %d MiB, %d s, %d bytes of code", w.name, now.Runtime, aws.ToString(now.Handler),
		aws.ToInt32(now.MemorySize), aws.ToInt32(now.Timeout), now.CodeSize)
	_, err = a.stdout.Write([]byte(aws.ToString(now.FunctionArn) + "\n"))
	return err
}

// deployment is one function being created or changed.
type deployment struct {
	app    *app
	client *client.Client
	lambda *lambda.Client
	packed *packed
	wishes
}

func (d *deployment) create(ctx context.Context) error {
	runtime, handler, err := d.app.guess(ctx, d.client, d.packed, d.runtime, d.handler)
	if err != nil {
		return err
	}
	in := &lambda.CreateFunctionInput{
		FunctionName: &d.name,
		Role:         aws.String("arn:aws:iam::" + string(d.client.Key().Account) + ":role/kiln"),
		Code:         &types.FunctionCode{ZipFile: d.packed.zip},
		Runtime:      types.Runtime(runtime),
		Handler:      &handler,
	}
	if d.architecture != "" {
		in.Architectures = []types.Architecture{types.Architecture(d.architecture)}
	}
	if d.memory > 0 {
		in.MemorySize = &d.memory
	}
	if d.timeout > 0 {
		in.Timeout = &d.timeout
	}
	if d.description != "" {
		in.Description = &d.description
	}
	if d.environment != nil {
		in.Environment = &types.Environment{Variables: d.environment}
	}
	_, err = d.lambda.CreateFunction(ctx, in)
	return err
}

// register creates the function, or changes it when it exists: also when somebody creates it in between.
func (d *deployment) register(ctx context.Context) error {
	was, err := d.configuration(ctx)
	if notFound(err) {
		d.app.say("creating %s", d.name)
		if err = d.create(ctx); !conflict(err, "already exist") {
			return err
		}
		if was, err = d.active(ctx); err != nil { // the other one's is being made ready
			return err
		}
	}
	if err != nil {
		return err
	}
	d.app.say("updating %s", d.name)
	return d.update(ctx, was)
}

// conflict reports whether the server refused because of the function's state, in words that hold part.
func conflict(err error, part string) bool {
	e, is := errors.AsType[*types.ResourceConflictException](err)
	return is && strings.Contains(e.ErrorMessage(), part)
}

// patiently calls do, and calls it again after whatever change of the function another made it fail is done.
func (d *deployment) patiently(ctx context.Context, do func() error) error {
	for range busyTries {
		err := do()
		if !conflict(err, "cannot be performed at this time") {
			return err
		}
		if _, err := d.active(ctx); err != nil {
			return err
		}
	}
	return mistake("others keep changing %s; try again later", d.name)
}

// settle gives the runtime and the handler a function has after its update: what was asked for, otherwise what it has,
// as long as the package holds the handler's file, otherwise what is there.
func (d *deployment) settle(ctx context.Context, was *lambda.GetFunctionConfigurationOutput) (runtime, handler string, err error) {
	runtime, handler = cmp.Or(d.runtime, string(was.Runtime)), cmp.Or(d.handler, aws.ToString(was.Handler))
	if d.runtime != "" && d.handler != "" || handlerFile(d.packed.files, familyOf(runtime), handler) != "" {
		return runtime, handler, nil
	}
	if _, found, err := guess(d.packed, runtime, d.handler); err == nil && d.handler == "" {
		d.app.say("taking handler %s: %s is not in this package; say otherwise with --handler", found, handler)
		return runtime, found, nil
	}
	found, foundHandler, err := d.app.guess(ctx, d.client, d.packed, d.runtime, d.handler)
	switch {
	case err == nil:
		return found, foundHandler, nil
	case d.handler != "":
		return runtime, handler, nil // the user's word
	}
	return "", "", mistake("%s exists and calls %s, which is not in this package; give --handler, or --name for another function", d.name, handler)
}

// update gives new code, then what else was asked for.
func (d *deployment) update(ctx context.Context, was *lambda.GetFunctionConfigurationOutput) error {
	in := &lambda.UpdateFunctionConfigurationInput{FunctionName: &d.name}
	runtime, handler, err := d.settle(ctx, was)
	if err != nil {
		return err
	}
	more := false
	if runtime != string(was.Runtime) {
		in.Runtime, more = types.Runtime(runtime), true
	}
	if handler != aws.ToString(was.Handler) {
		in.Handler, more = &handler, true
	}
	if d.memory > 0 {
		in.MemorySize, more = &d.memory, true
	}
	if d.timeout > 0 {
		in.Timeout, more = &d.timeout, true
	}
	if d.description != "" {
		in.Description, more = &d.description, true
	}
	if d.environment != nil {
		in.Environment, more = &types.Environment{Variables: d.environment}, true
	}
	code := &lambda.UpdateFunctionCodeInput{FunctionName: &d.name, ZipFile: d.packed.zip}
	if d.architecture != "" {
		code.Architectures = []types.Architecture{types.Architecture(d.architecture)}
	}
	err = d.patiently(ctx, func() error { _, err := d.lambda.UpdateFunctionCode(ctx, code); return err })
	if err != nil || !more {
		return err
	}
	if _, err := d.active(ctx); err != nil {
		return err
	}
	return d.patiently(ctx, func() error { _, err := d.lambda.UpdateFunctionConfiguration(ctx, in); return err })
}

func (d *deployment) configuration(ctx context.Context) (*lambda.GetFunctionConfigurationOutput, error) {
	return d.lambda.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &d.name})
}

// active waits until the function can be called and its last change is done.
func (d *deployment) active(ctx context.Context) (*lambda.GetFunctionConfigurationOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, activeWithin)
	defer cancel()
	ticker := time.NewTicker(activeEvery)
	defer ticker.Stop()
	for {
		now, err := d.configuration(ctx)
		if err != nil {
			return nil, err
		}
		switch {
		case now.State == types.StateFailed:
			return nil, mistake("%s cannot be made ready: %s", d.name, aws.ToString(now.StateReason))
		case now.LastUpdateStatus == types.LastUpdateStatusFailed:
			return nil, mistake("the change of %s failed: %s", d.name, aws.ToString(now.LastUpdateStatusReason))
		case now.State == types.StateActive && now.LastUpdateStatus != types.LastUpdateStatusInProgress:
			return now, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-ticker.C:
		}
	}
}

// guess finds runtime and handler unless given, prefers a runtime the server's instances hold, and tells what it took.
func (a *app) guess(ctx context.Context, cl *client.Client, p *packed, runtime, handler string) (string, string, error) {
	given, givenHandler := runtime, handler
	runtime, handler, err := guess(p, runtime, handler)
	if err != nil {
		return "", "", err
	}
	if given == "" {
		runtime = held(ctx, cl, runtime)
	}
	if given == "" || givenHandler == "" {
		a.say("taking runtime %s and handler %s; say otherwise with --runtime and --handler", runtime, handler)
	}
	return runtime, handler, nil
}

// held gives the runtime of that language the server's instances or pools hold already; otherwise the one this machine
// has, where the server may run too; runtime itself when none tells.
func held(ctx context.Context, cl *client.Client, runtime string) string {
	language := familyOf(runtime)
	if language == "provided" {
		return runtime
	}
	for _, kind := range []string{"instances", "pools"} {
		var page struct {
			Items []struct {
				Runtimes []string `json:"runtimes"`
				Runtime  string   `json:"runtime"`
			} `json:"items"`
		}
		req := client.Request{Method: "GET", Path: "/kiln/v1/" + kind, Query: url.Values{"limit": {"100"}}}
		if cl.JSON(ctx, req, nil, &page) != nil {
			continue
		}
		for _, item := range page.Items {
			for _, r := range append(item.Runtimes, item.Runtime) {
				if name := identifier(r); familyOf(name) == language {
					return name
				}
			}
		}
	}
	return cmp.Or(installed(ctx, language), runtime)
}

package node

import (
	"context"
	"maps"
	"strconv"
	"time"

	"kiln"
)

// binding brings the code and makes the binding of b: limits, folder, and the environment the function sees.
func (n *Node) binding(ctx context.Context, runtime kiln.Runtime, b *Bind) (*kiln.Binding, error) {
	dir, err := n.attach(ctx, b)
	if err != nil {
		return nil, err
	}
	return &kiln.Binding{
		Version:     b.Version,
		Amounts:     b.Amounts,
		Environment: n.environment(runtime, b, time.Now()),
		CodeDir:     dir,
		InitLimit:   kiln.InitLimit,
	}, nil
}

// environment gives the variables of AWS Lambda's execution environment and the user's own on top; what is reserved, the
// registry has refused before. Source: AWS Lambda Developer Guide, "Defined runtime environment variables".
func (n *Node) environment(runtime kiln.Runtime, b *Bind, now time.Time) map[string]string {
	v := b.Version
	env := map[string]string{
		"_HANDLER":                        v.Handler,
		"AWS_REGION":                      n.config.Region,
		"AWS_DEFAULT_REGION":              n.config.Region,
		"AWS_LAMBDA_FUNCTION_NAME":        v.Function,
		"AWS_LAMBDA_FUNCTION_VERSION":     v.Number,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(b.Amounts.MemoryMiB),
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
		"AWS_LAMBDA_LOG_GROUP_NAME":       "/aws/lambda/" + v.Function,
		"AWS_LAMBDA_LOG_STREAM_NAME":      now.UTC().Format("2006/01/02/") + "[" + v.Number + "]" + n.random(16),
		"LAMBDA_TASK_ROOT":                "/var/task",
		"LAMBDA_RUNTIME_DIR":              "/var/runtime",
		"LANG":                            "en_US.UTF-8",
		"PATH":                            "/usr/local/bin:/usr/bin:/bin:/opt/bin",
		"LD_LIBRARY_PATH":                 "/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
		"TZ":                              ":UTC",
	}
	switch {
	case v.Provider != "":
		env["AWS_LAMBDA_INITIALIZATION_TYPE"] = "lambda-managed-instances"
	case b.Provisioned:
		env["AWS_LAMBDA_INITIALIZATION_TYPE"] = "provisioned-concurrency"
	}
	if runtime.Kind == kiln.RuntimeProvided {
		// A compiled Go function cannot see its cgroup; without this it would run as many threads as the node has
		// processors and be held back by its own limit.
		env["GOMAXPROCS"] = strconv.Itoa(max(1, (b.Amounts.MilliCPUs+999)/1000))
	} else {
		env["AWS_EXECUTION_ENV"] = "AWS_Lambda_" + v.Runtime
	}
	if n := v.Slots(); n > 1 { // how AWS's runtime interface clients are told (Lambda Managed Instances)
		env["AWS_LAMBDA_MAX_CONCURRENCY"] = strconv.Itoa(n)
	}
	maps.Copy(env, v.Environment)
	return env
}

// emit tells what happened to the code or the container of b.
func (n *Node) emit(kind kiln.EventKind, cause string, b *Bind) {
	n.config.emit(kiln.Event{
		Time: kiln.Time{Time: time.Now()}, Kind: kind, Cause: cause,
		RequestID: b.RequestID, Account: b.Version.Account, Function: b.Version.Function, Version: b.Version.Number,
		Package: b.Version.Package, Node: n.config.ID, Instance: b.Instance, Container: b.Container,
	})
}

func (c *Config) emit(e kiln.Event) {
	if c.Emit != nil {
		c.Emit(e)
	}
}

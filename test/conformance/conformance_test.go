// Package conformance shows that Kiln is AWS Lambda to a stranger: unmodified SDKs, AWS's command-line tool and functions
// written for Lambda meet what AWS's model and documentation promise them.
package conformance

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/smithy-go"

	"kiln/test/kilntest"
)

// shared is the server of all tests here.
var shared = kilntest.Shared{Options: kilntest.Options{Settings: map[string]string{
	"instances.shapes":  `[{"memory":1024,"cpus":2},{"memory":3072,"cpus":3}]`,
	"instances.max":     "48",
	"warming.instances": "1",
}}}

func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }

// account gives a fresh account on the shared server.
func account(t *testing.T) *kilntest.Account {
	t.Helper()
	return shared.Server(t).NewAccount(t)
}

// isError demands an error that the SDK sees as T, and gives it.
func isError[T error](t *testing.T, err error) T {
	t.Helper()
	var wanted T
	if !errors.As(err, &wanted) {
		t.Fatalf("the SDK sees %T %v, want %T", errors.Unwrap(err), err, wanted)
	}
	return wanted
}

// isCode demands an error with a code that AWS's model does not have.
func isCode(t *testing.T, err error, code string) smithy.APIError {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code {
		t.Fatalf("the SDK sees %v, want the code %s", err, code)
	}
	return api
}

// within bounds a test's calls.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// named is a call's function name.
func named(name string) *string { return aws.String(name) }

// python gives a small Python function.
func python(name, source string) kilntest.Function {
	return kilntest.Function{Name: name, Runtime: kilntest.PythonRuntime, Handler: "f.handler", MemoryMiB: 256, TimeoutSeconds: 20,
		Files: map[string][]byte{"f.py": []byte(source)}}
}

const greet = "def handler(event, context):\n    return {'hello': event.get('name', 'nobody')}\n"

// invoke invokes by the SDK.
func invoke(t *testing.T, client *lambda.Client, in *lambda.InvokeInput) *lambda.InvokeOutput {
	t.Helper()
	out, err := client.Invoke(within(t, time.Minute), in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

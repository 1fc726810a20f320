package conformance

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln/test/kilntest"
)

// failure is a failed function's payload, in the forms of all languages.
type failure struct {
	ErrorType, ErrorMessage, RequestID string
	StackTrace                         []any
	Trace                              []string
	Cause                              any
}

// fails invokes and demands a failed function.
func fails(t *testing.T, a *kilntest.Account, name, payload string) (failure, *kilntest.Answer) {
	t.Helper()
	answer := a.Invoke(kilntest.Invocation{Function: name, Payload: payload, Tail: true})
	if answer.Status != http.StatusOK || answer.FunctionError() != "Unhandled" {
		t.Fatalf("%s %s: answer %d, function error %q: %s", name, payload, answer.Status, answer.FunctionError(), answer.Body)
	}
	var f failure
	answer.JSON(&f)
	return f, answer
}

// wants compares a failure's type and message; a message of "…" at its end is a beginning.
func wants(t *testing.T, what string, f failure, kind, message string) {
	t.Helper()
	begin, open := strings.CutSuffix(message, "…")
	if f.ErrorType != kind || f.ErrorMessage != message && !(open && strings.HasPrefix(f.ErrorMessage, begin)) {
		t.Errorf("%s: %s %q, want %s %q", what, f.ErrorType, f.ErrorMessage, kind, message)
	}
}

func tail(t *testing.T, answer *kilntest.Answer) string {
	t.Helper()
	log, err := base64.StdEncoding.DecodeString(answer.Header.Get("X-Amz-Log-Result"))
	if err != nil {
		t.Fatal(err)
	}
	return string(log)
}

func contract(t *testing.T, language string) kilntest.Function {
	t.Helper()
	f := kilntest.Function{Name: "contract", MemoryMiB: 256, TimeoutSeconds: 10, Handler: "contract.handler"}
	if language == "python" {
		f.Runtime, f.Files = kilntest.PythonRuntime, map[string][]byte{"contract.py": kilntest.Guest(t, "contract.py")}
		return f
	}
	if _, err := exec.LookPath("node"); err != nil {
		kilntest.Skip(t, "there is no node on this machine")
	}
	f.Runtime = kilntest.NodeRuntime
	f.Files = map[string][]byte{"contract.mjs": kilntest.Guest(t, "contract.mjs"), "common.js": kilntest.Guest(t, "common.js")}
	return f
}

// Python: errors with type, message and trace; what cannot be said in JSON; ends of the process; the next request after
// each finds a working function. // R1 R3
func TestPythonErrors(t *testing.T) {
	a := account(t)
	a.Deploy(contract(t, "python"))
	f, answer := fails(t, a, "contract", `{"do":"raise"}`)
	wants(t, "raise", f, "Custom", "it broke")
	if f.RequestID != answer.RequestID() || len(f.StackTrace) < 2 || !strings.Contains(fmt.Sprint(f.StackTrace...), `/contract.py", line`) {
		t.Errorf("request %q, trace %v", f.RequestID, f.StackTrace)
	}
	if log := tail(t, answer); !strings.Contains(log, "[ERROR] Custom: it broke") || !strings.Contains(log, "Traceback (most recent call last):") {
		t.Errorf("log:\n%s", log)
	}
	f, _ = fails(t, a, "contract", `{"do":"unserialisable"}`)
	wants(t, "unserialisable", f, "Runtime.MarshalError", "Unable to marshal response: Object of type set is not JSON serializable")
	for payload, status := range map[string]string{
		`{"do":"die","status":3}`: "Runtime exited with error: exit status 3",
		`{"do":"die","status":0}`: "Runtime exited without providing a reason",
	} {
		f, answer := fails(t, a, "contract", payload)
		wants(t, payload, f, "Runtime.ExitError", "RequestId: "+answer.RequestID()+" Error: "+status)
		a.Invoke(kilntest.Invocation{Function: "contract"}).OK()
	}
	f, answer = fails(t, a, "contract", `{"do":"exit","status":1}`)
	wants(t, "sys.exit", f, "Runtime.ExitError", "RequestId: "+answer.RequestID()+" Error: Runtime exited with error: exit status 1")
	if got := a.Invoke(kilntest.Invocation{Function: "contract", Payload: `{"do":"none"}`}).OK(); string(got.Body) != "null" {
		t.Errorf("None is answered as %s", got.Body)
	}
	unicode := a.Invoke(kilntest.Invocation{Function: "contract", Payload: `{"do":"unicode","text":"żółw 🐢"}`}).OK()
	var got struct{ Text, Echo string }
	unicode.JSON(&got)
	if got.Text != "grüße 世界 🔥" || got.Echo != "żółw 🐢" {
		t.Errorf("unicode came back as %s", unicode.Body)
	}
}

// given is what a handler finds in its context.
type given struct {
	Request, Function, Version, ARN, Group, Stream string
	Memory                                         any
	Remaining                                      int
	Custom                                         map[string]string
}

// Python and Node.js: the context object has AWS's members with the values of this request. // R4
func TestContextMembers(t *testing.T) {
	for _, language := range []string{"python", "node"} {
		t.Run(language, func(t *testing.T) {
			a := account(t)
			a.Deploy(contract(t, language))
			answer := a.Invoke(kilntest.Invocation{Function: "contract", Qualifier: "$LATEST", Payload: `{"do":"context"}`, ClientContext: `{"custom":{"colour":"red"}}`}).OK()
			var c given
			answer.JSON(&c)
			for what, same := range map[string]bool{
				"request":   c.Request == answer.RequestID(),
				"function":  c.Function == "contract",
				"version":   c.Version == "$LATEST",
				"arn":       c.ARN == "arn:aws:lambda:us-east-1:"+a.ID+":function:contract:$LATEST",
				"memory":    fmt.Sprint(c.Memory) == "256",
				"group":     c.Group == "/aws/lambda/contract",
				"stream":    regexp.MustCompile(`^\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}$`).MatchString(c.Stream),
				"remaining": c.Remaining > 5000 && c.Remaining <= 10_000,
				"custom":    c.Custom["colour"] == "red",
			} {
				if !same {
					t.Errorf("%s: %s", what, answer.Body)
				}
			}
		})
	}
}

// A function finds AWS's variables and its own, and none of the server's. // R6 R42
func TestEnvironmentOfFunctions(t *testing.T) {
	kilntest.NeedContainer(t)
	a := account(t)
	f := contract(t, "python")
	f.Environment = map[string]string{"MINE": "yes"}
	a.Deploy(f)
	var env map[string]string
	a.Invoke(kilntest.Invocation{Function: "contract", Payload: `{"do":"environment"}`}).OK().JSON(&env)
	for name, value := range map[string]string{
		"MINE": "yes", "_HANDLER": "contract.handler", "AWS_LAMBDA_FUNCTION_NAME": "contract", "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256", "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/contract", "AWS_REGION": "us-east-1",
		"AWS_DEFAULT_REGION": "us-east-1", "LAMBDA_TASK_ROOT": "/var/task", "LAMBDA_RUNTIME_DIR": "/var/runtime", "TZ": ":UTC",
		"AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand", "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11",
	} {
		if env[name] != value {
			t.Errorf("%s is %q, want %q", name, env[name], value)
		}
	}
	if !strings.Contains(env["AWS_LAMBDA_RUNTIME_API"], ":") || env["AWS_LAMBDA_LOG_STREAM_NAME"] == "" || env["PATH"] == "" {
		t.Errorf("incomplete: %v", env)
	}
	for name, value := range env {
		if strings.HasPrefix(name, "KILN_") || strings.Contains(value, a.Secret) || strings.Contains(value, a.Server.Data) {
			t.Errorf("%s shows something of the server", name)
		}
	}
}

// The log's tail has the function's lines, of both streams and of the language's logging, between START and END, and a
// REPORT whose numbers fit. // R18
func TestLogLines(t *testing.T) {
	for _, language := range []string{"python", "node"} {
		t.Run(language, func(t *testing.T) {
			a := account(t)
			a.Deploy(contract(t, language))
			for n := range 2 {
				answer := a.Invoke(kilntest.Invocation{Function: "contract", Payload: `{"do":"log"}`, Tail: true}).OK()
				log := tail(t, answer)
				wanted := []string{"START RequestId: " + answer.RequestID() + " Version: $LATEST\n", "printed line\n", "END RequestId: " + answer.RequestID() + "\n", "REPORT RequestId: " + answer.RequestID() + "\t"}
				at := -1
				for _, part := range wanted {
					next := strings.Index(log, part)
					if next <= at {
						t.Errorf("%q is not there, or not in its place:\n%s", part, log)
					}
					at = next
				}
				if !strings.Contains(log, "to stderr") || language == "python" && !strings.Contains(log, "[WARNING]") {
					t.Errorf("lines are missing:\n%s", log)
				}
				report := regexp.MustCompile(`(?m)^REPORT RequestId: \S+\tDuration: (\d+\.\d\d) ms\tBilled Duration: (\d+) ms\tMemory Size: 256 MB\tMax Memory Used: (\d+) MB\t(Init Duration: \d+\.\d\d ms\t)?$`)
				got := report.FindStringSubmatch(log)
				if got == nil || (got[4] != "") != (n == 0) {
					t.Errorf("execution %d: REPORT is not AWS's:\n%s", n, log)
				}
			}
		})
	}
}

// Past its time limit a function is ended with AWS's text, at its time limit, and the next request finds a fresh one.
// // R1
func TestTimeout(t *testing.T) {
	a := account(t)
	f := contract(t, "python")
	f.TimeoutSeconds = 1
	a.Deploy(f)
	a.Invoke(kilntest.Invocation{Function: "contract"}).OK()
	late, answer := fails(t, a, "contract", `{"do":"sleep","seconds":30}`)
	if took := answer.Got.Sub(answer.Sent); took < 950*time.Millisecond || took > 20*time.Second {
		t.Errorf("it was ended after %s", took)
	}
	wants(t, "timeout", late, "Sandbox.Timedout", "RequestId: "+answer.RequestID()+" Error: Task timed out after 1.00 seconds")
	if log := tail(t, answer); !strings.Contains(log, "Task timed out after 1.00 seconds") || !strings.Contains(log, "Status: timeout") {
		t.Errorf("log:\n%s", log)
	}
	again := a.Invoke(kilntest.Invocation{Function: "contract"}).OK()
	if again.Container() == answer.Container() {
		t.Errorf("container %s went on after its time limit", again.Container())
	}
}

// Code that cannot be started fails with AWS's error type and message, and is not a failure of the server; put right, it
// runs. // R1
func TestInitFailures(t *testing.T) {
	cases := map[string]struct{ runtime, handler, file, source, kind, message string }{
		"py-no-module":  {kilntest.PythonRuntime, "absent.handler", "f.py", greet, "Runtime.ImportModuleError", "Unable to import module 'absent': No module named 'absent'"},
		"py-no-import":  {kilntest.PythonRuntime, "f.handler", "f.py", "import nothing_of_the_kind\n", "Runtime.ImportModuleError", "Unable to import module 'f': No module named 'nothing_of_the_kind'"},
		"py-no-handler": {kilntest.PythonRuntime, "f.absent", "f.py", greet, "Runtime.HandlerNotFound", "Handler 'absent' missing on module 'f'"},
		"py-syntax":     {kilntest.PythonRuntime, "f.handler", "f.py", "def handler(event context):\n", "Runtime.UserCodeSyntaxError", "Syntax error in module 'f': …"},
		"py-malformed":  {kilntest.PythonRuntime, "nodots", "f.py", greet, "Runtime.MalformedHandlerName", "Bad handler 'nodots': not enough values to unpack (expected 2, got 1)"},
		"py-raises":     {kilntest.PythonRuntime, "f.handler", "f.py", "raise ValueError('at import')\n", "ValueError", "at import"},
		"py-exits":      {kilntest.PythonRuntime, "f.handler", "f.py", "import os\nos._exit(7)\n", "Runtime.ExitError", "RequestId: …"},
		"js-no-module":  {kilntest.NodeRuntime, "absent.handler", "f.js", "exports.handler = 1", "Runtime.ImportModuleError", "Error: Cannot find module 'absent'…"},
		"js-no-handler": {kilntest.NodeRuntime, "f.absent", "f.js", "exports.handler = async () => 1", "Runtime.HandlerNotFound", "f.absent is undefined or not exported"},
		"js-syntax":     {kilntest.NodeRuntime, "f.handler", "f.js", "exports.handler = (", "Runtime.UserCodeSyntaxError", "SyntaxError: …"},
		"js-malformed":  {kilntest.NodeRuntime, "nodots", "f.js", "exports.handler = 1", "Runtime.MalformedHandlerName", "Bad handler…"},
		"js-throws":     {kilntest.NodeRuntime, "f.handler", "f.js", "throw new TypeError('at load')", "TypeError", "at load"},
		"no-bootstrap":  {kilntest.ProvidedRuntime, "x", "other", "nothing to run", "Runtime.InvalidEntrypoint", "RequestId: …"},
		"script-exits":  {kilntest.ProvidedRuntime, "x", "bootstrap", "#!/bin/sh\nexit 9\n", "Runtime.ExitError", "RequestId: …"},
	}
	names := make([]string, 0, len(cases))
	for name := range cases {
		names = append(names, name)
	}
	slices.Sort(names)
	a := account(t)
	for _, name := range names {
		c := cases[name]
		t.Run(name, func(t *testing.T) {
			if c.runtime == kilntest.NodeRuntime {
				contract(t, "node") // skips where there is no node
			}
			a.Deploy(kilntest.Function{Name: name, Runtime: c.runtime, Handler: c.handler, MemoryMiB: 256, TimeoutSeconds: 10, Files: map[string][]byte{c.file: []byte(c.source)}})
			f, answer := fails(t, a, name, `{}`)
			wants(t, name, f, c.kind, c.message)
			if e := a.Execution(answer.RequestID()); e.Outcome != "init" && e.Outcome != "crash" && e.Outcome != "error" {
				t.Errorf("outcome %q", e.Outcome)
			}
		})
	}
}

// An initialisation beyond its ten seconds is repeated within the first request under the function's own limit, or ends
// with it: never does a caller wait without bound. // R1
func TestInitTimeout(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	a := account(t)
	f := python("slow-init", "import time\ntime.sleep(60)\n")
	f.TimeoutSeconds = 2
	a.Deploy(f)
	_, answer := fails(t, a, "slow-init", `{}`)
	if took := answer.Got.Sub(answer.Sent); took > 16*time.Second {
		t.Errorf("it took %s", took)
	}
}

// Node.js: thrown errors, rejections nobody caught, process.exit, callbacks, CommonJS and undefined. // R1
func TestNodeErrors(t *testing.T) {
	a := account(t)
	a.Deploy(contract(t, "node"))
	f, answer := fails(t, a, "contract", `{"do":"throw"}`)
	wants(t, "throw", f, "Custom", "it broke")
	if len(f.Trace) < 2 || f.Trace[0] != "Custom: it broke" || !strings.Contains(strings.Join(f.Trace, "\n"), "/contract.mjs:") {
		t.Errorf("trace %v", f.Trace)
	}
	if log := tail(t, answer); !strings.Contains(log, "ERROR\tInvoke Error") {
		t.Errorf("log:\n%s", log)
	}
	fails(t, a, "contract", `{"do":"throw-string"}`)
	f, _ = fails(t, a, "contract", `{"do":"unhandled"}`)
	wants(t, "unhandled", f, "Runtime.UnhandledPromiseRejection", "Custom: nobody caught it")
	f, _ = fails(t, a, "contract", `{"do":"exit","status":4}`)
	if f.ErrorType != "Runtime.ExitError" && f.ErrorType != "Runtime.NodeJsExit" {
		t.Errorf("exit: %+v", f)
	}
	if got := a.Invoke(kilntest.Invocation{Function: "contract", Payload: `{"do":"undefined"}`}).OK(); string(got.Body) != "null" && len(got.Body) != 0 {
		t.Errorf("undefined is answered as %q", got.Body)
	}
	for name, handler := range map[string]string{"callback": "contract.callback", "common": "common.handler"} {
		g := contract(t, "node")
		g.Name, g.Handler = name, handler
		a.Deploy(g)
		a.Invoke(kilntest.Invocation{Function: name, Payload: `{"x":1}`}).OK()
	}
	f, _ = fails(t, a, "callback", `{"fail":true}`)
	wants(t, "callback", f, "Custom", "by callback")
	open := a.Invoke(kilntest.Invocation{Function: "callback", Payload: `{"open":true}`}).OK()
	if took := open.Got.Sub(open.Sent); took > 10*time.Second {
		t.Errorf("with the event loop not empty it took %s", took)
	}
	log := tail(t, a.Invoke(kilntest.Invocation{Function: "contract", Payload: `{"do":"log"}`, Tail: true}).OK())
	if !regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\t[0-9a-f-]{36}\tINFO\tprinted line`).MatchString(log) {
		t.Errorf("console.log is not AWS's form:\n%s", log)
	}
}

// aws-lambda-go, unchanged: answers, context, errors, panics, exits. // R1
func TestLambdaGo(t *testing.T) {
	a := account(t)
	a.Deploy(kilntest.Function{Name: "awsgo", Runtime: kilntest.ProvidedRuntime, Handler: "bootstrap", MemoryMiB: 256, TimeoutSeconds: 10,
		Files: map[string][]byte{"bootstrap": kilntest.GoGuest(t, "awsgo")}})
	answer := a.Invoke(kilntest.Invocation{Function: "awsgo", Payload: `{"name":"gopher"}`, ClientContext: `{"custom":{"colour":"red"}}`, Tail: true}).OK()
	var got struct {
		Greeting, RequestID, ARN, Function, Version, LogGroup, LogStream string
		RemainMs                                                         int64
		MemoryMB                                                         int
		Custom                                                           map[string]string
		TraceInEnv                                                       bool
	}
	answer.JSON(&got)
	if got.Greeting != "hello gopher" || got.RequestID != answer.RequestID() || got.ARN != "arn:aws:lambda:us-east-1:"+a.ID+":function:awsgo" ||
		got.Function != "awsgo" || got.Version != "$LATEST" || got.MemoryMB != 256 || got.LogGroup != "/aws/lambda/awsgo" || got.LogStream == "" ||
		got.RemainMs < 5000 || got.RemainMs > 10_000 || got.Custom["colour"] != "red" || !got.TraceInEnv {
		t.Errorf("answer %s", answer.Body)
	}
	if !strings.Contains(tail(t, answer), "greeting gopher") {
		t.Errorf("log:\n%s", tail(t, answer))
	}
	f, _ := fails(t, a, "awsgo", `{"fail":"as asked"}`)
	wants(t, "error", f, "errorString", "as asked")
	f, _ = fails(t, a, "awsgo", `{"panic":"in panic"}`)
	wants(t, "panic", f, "string", "in panic")
	a.Invoke(kilntest.Invocation{Function: "awsgo", Payload: `{"name":"again"}`}).OK()
	f, left := fails(t, a, "awsgo", `{"exit":5}`)
	wants(t, "exit", f, "Runtime.ExitError", "RequestId: "+left.RequestID()+" Error: Runtime exited with error: exit status 5")
	a.Invoke(kilntest.Invocation{Function: "awsgo", Payload: `{"name":"once more"}`}).OK()
}

// A handler of another name in the module is found, and its string is answered as JSON. // R1
func TestStringIsJSON(t *testing.T) {
	a := account(t)
	f := contract(t, "python")
	f.Name, f.Handler = "text", "contract.text"
	a.Deploy(f)
	answer := a.Invoke(kilntest.Invocation{Function: "text"}).OK()
	var text string
	if err := json.Unmarshal(answer.Body, &text); err != nil || text != "plain text" {
		t.Errorf("a string is answered as %s", answer.Body)
	}
}

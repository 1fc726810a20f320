package images

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"kiln"
	"kiln/internal/runtimeapi"
)

// guest is an interpreter with our bootstrap, talking to a session.
type guest struct {
	t       testing.TB
	session *runtimeapi.Session
	cmd     *exec.Cmd
	n       int

	mu  sync.Mutex
	out bytes.Buffer // guarded by mu
}

func (g *guest) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.out.Write(b)
}

// prepare starts the interpreter of a language and waits until it asks for its binding. nil without one.
func prepare(t testing.TB, language string) *guest {
	t.Helper()
	i, err := Find(t.Context(), Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := i.Lookup(map[string]string{"python": "python3.12", "nodejs": "nodejs22.x"}[language], Nearest)
	if err != nil {
		if os.Getenv("KILN_REQUIRE_RUNTIMES") != "" {
			t.Fatal(err)
		}
		t.Skipf("NOT TESTED HERE: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{t: t, session: runtimeapi.New(runtimeapi.Config{})}
	args := strings.Fields(strings.ReplaceAll(strings.Join(r.Command, " "), "/var/runtime", r.BootstrapDir))
	g.cmd = exec.Command(args[0], args[1:]...)
	g.cmd.Env = []string{"AWS_LAMBDA_RUNTIME_API=" + l.Addr().String(), "PATH=/usr/bin"}
	g.cmd.Stdout, g.cmd.Stderr = g, g
	var wg sync.WaitGroup
	wg.Go(func() { _ = g.session.Serve(l) })
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	wg.Go(func() {
		_ = g.cmd.Wait()
		g.session.Exited(kiln.Exit{Status: g.cmd.ProcessState.String()})
	})
	t.Cleanup(func() {
		g.session.Close()
		_ = g.cmd.Process.Kill()
		wg.Wait()
	})
	select {
	case <-g.session.Prepared():
	case <-time.After(30 * time.Second):
		t.Fatal("not prepared")
	}
	return g
}

// bind makes a package of files and binds it.
func (g *guest) bind(handler string, files map[string]string, env ...string) kiln.InitResult {
	g.t.Helper()
	dir := g.t.TempDir()
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			g.t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			g.t.Fatal(err)
		}
	}
	all := map[string]string{"LAMBDA_TASK_ROOT": dir, "TZ": ":UTC", "AWS_LAMBDA_FUNCTION_NAME": "fn", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
		"AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "AWS_LAMBDA_LOG_STREAM_NAME": "stream", "AWS_LAMBDA_LOG_GROUP_NAME": "group"}
	for _, e := range env {
		k, v, _ := strings.Cut(e, "=")
		all[k] = v
	}
	return g.session.Bind(g.t.Context(), all, handler, 20*time.Second)
}

const requestID = "11111111-2222-4333-8444-555555555555"

// execute has the guest execute an event.
func (g *guest) execute(event string) kiln.Answer {
	return g.session.Execute(context.WithoutCancel(g.t.Context()), &kiln.Delivery{RequestID: requestID, Payload: []byte(event),
		Deadline: time.Now().Add(10 * time.Second), ARN: "arn:aws:lambda:us-east-1:000000000000:function:fn",
		ClientContext: `{"custom":{"k":"ü"},"client":{"app_title":"t"}}`, TraceID: "Root=1"})
}

// written waits until the guest has written part.
func (g *guest) written(part string) {
	g.t.Helper()
	for limit := time.After(10 * time.Second); ; {
		g.mu.Lock()
		out := g.out.String()
		g.mu.Unlock()
		if strings.Contains(out, part) {
			return
		}
		tick := time.NewTimer(5 * time.Millisecond)
		select {
		case <-tick.C:
		case <-limit:
			g.t.Errorf("wrote %q, want %q", out, part)
			return
		}
	}
}

// wantBody checks an error's body: its type, part of its message, and that it has the named list of frames.
func wantBody(t *testing.T, f *kiln.Failure, kind, message, frames string) map[string]any {
	t.Helper()
	if f == nil {
		t.Errorf("no failure, want %s", kind)
		return nil
	}
	var body map[string]any
	if err := json.Unmarshal(f.Payload, &body); err != nil {
		t.Errorf("body %q: %v", f.Payload, err)
	}
	if _, ok := body[frames].([]any); f.Type != kind || body["errorType"] != kind || !strings.Contains(body["errorMessage"].(string), message) || !ok {
		t.Errorf("got %s %s; want %s %q", f.Type, f.Payload, kind, message)
	}
	return body
}

// initCase is code that cannot be loaded and what its caller is told.
type initCase struct {
	handler       string
	files         map[string]string
	kind, message string
}

func testInit(t *testing.T, language, frames string, cases []initCase) {
	for _, c := range cases {
		g := prepare(t, language)
		r := g.bind(c.handler, c.files)
		wantBody(t, r.Failure, c.kind, c.message, frames)
		if r.Failure != nil && r.Failure.Outcome != kiln.OutcomeInit {
			t.Errorf("outcome %s", r.Failure.Outcome)
		}
	}
}

// Python code that cannot be loaded is told with AWS's names and texts.
func TestPythonInit(t *testing.T) {
	testInit(t, "python", "stackTrace", []initCase{
		{"app.handler", nil, "Runtime.ImportModuleError", "Unable to import module 'app': No module named 'app'"},
		{"app.handler", map[string]string{"app.py": "import nothing_such"}, "Runtime.ImportModuleError", "Unable to import module 'app': No module named 'nothing_such'"},
		{"app.handler", map[string]string{"app.py": "import apt_pkg"}, "Runtime.ImportModuleError", "No module named"}, // the host's packages stay out
		{"app.handler", map[string]string{"app.py": "x = 1"}, "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"},
		{"app", map[string]string{"app.py": ""}, "Runtime.MalformedHandlerName", "Bad handler 'app': not enough values to unpack (expected 2, got 1)"},
		{"app.handler", map[string]string{"app.py": "def x(:\n"}, "Runtime.UserCodeSyntaxError", "Syntax error in module 'app': invalid syntax (app.py, line 1)"},
		{"app.handler", map[string]string{"app.py": "raise KeyError('k')"}, "KeyError", "'k'"},
	})
	g := prepare(t, "python")
	if r := g.bind("app.handler", map[string]string{"app.py": "import sys\nsys.exit(3)"}); r.Failure == nil || r.Failure.Type != "Runtime.ExitError" {
		t.Errorf("exit: %+v", r.Failure)
	}
}

const pythonApp = `
import asyncio, datetime, decimal, json, logging, os, sys
logging.getLogger().setLevel(logging.INFO)
async def coroutine(event, context):
    return 1
def handler(event, context):
    do = event.get("do")
    if do == "raise":
        raise ValueError("boom")
    if do == "marshal":
        return {1, 2}
    if do == "coroutine":
        return coroutine(event, context)
    if do == "exit":
        sys.exit(event.get("status", 0))
    logging.info("logged")
    print("printed", end="")
    c = context
    return [c.aws_request_id, c.function_name, c.function_version, c.memory_limit_in_mb, c.log_group_name, c.log_stream_name,
        c.invoked_function_arn, c.client_context.custom["k"], c.client_context.client.app_title, c.identity.cognito_identity_id,
        9000 < c.get_remaining_time_in_millis() <= 10000, os.environ["_X_AMZN_TRACE_ID"], "ü", decimal.Decimal("1.5"), __name__]
`

// Python's handler sees AWS's context, logs in AWS's form, and its errors are AWS's; the package may be in folders.
func TestPython(t *testing.T) {
	for _, where := range []string{"app", "a/b/app"} {
		g := prepare(t, "python")
		if r := g.bind(where+".handler", map[string]string{where + ".py": pythonApp}, "AWS_EXECUTION_ENV=AWS_Lambda_python3.12"); r.Failure != nil {
			t.Fatalf("%s", r.Failure.Payload)
		}
		a := g.execute("{}")
		want := `["` + requestID + `", "fn", "$LATEST", "128", "group", "stream", "arn:aws:lambda:us-east-1:000000000000:function:fn", "ü", "t", null, true, "Root=1", "ü", 1.5, "` +
			strings.ReplaceAll(where, "/", ".") + `"]`
		if string(a.Payload) != want {
			t.Errorf("answer %s\nwant %s", a.Payload, want)
		}
		g.written("[INFO]\t20")
		g.written("Z\t" + requestID + "\tlogged\n")
		g.written("printed") // without a line's end, and before the answer
		body := wantBody(t, g.execute(`{"do":"raise"}`).Failure, "ValueError", "boom", "stackTrace")
		frames := body["stackTrace"].([]any)
		if len(frames) != 1 || !strings.Contains(frames[0].(string), "/app.py\", line 9, in handler\n    raise ValueError(\"boom\")") || body["requestId"] != requestID {
			t.Errorf("body %v", body)
		}
		g.written("[ERROR] ValueError: boom\nTraceback (most recent call last):\n")
		wantBody(t, g.execute(`{"do":"marshal"}`).Failure, "Runtime.MarshalError", "Unable to marshal response: Object of type set is not JSON serializable", "stackTrace")
		wantBody(t, g.execute(`{"do":"coroutine"}`).Failure, "Runtime.MarshalError", "Object of type coroutine is not JSON serializable", "stackTrace")
		if a := g.execute(`{"do":"exit"}`); a.Failure == nil || !a.Lost || !strings.Contains(string(a.Payload), "Runtime exited without providing a reason") {
			t.Errorf("exit: %s", a.Payload)
		}
	}
}

// Node.js code that cannot be loaded is told with AWS's names and texts.
func TestNodeInit(t *testing.T) {
	testInit(t, "nodejs", "trace", []initCase{
		{"index.handler", nil, "Runtime.ImportModuleError", "Error: Cannot find module 'index'"},
		{"index.handler", map[string]string{"index.js": "require('nothing-such')"}, "Runtime.ImportModuleError", "Cannot find module 'nothing-such'"},
		{"index.handler", map[string]string{"index.mjs": "import 'nothing-such'"}, "Runtime.ImportModuleError", "Cannot find package 'nothing-such'"},
		{"index.handler", map[string]string{"index.js": "exports.other = 1"}, "Runtime.HandlerNotFound", "index.handler is undefined or not exported"},
		{"index.handler", map[string]string{"index.js": "exports.handler = 1"}, "Runtime.HandlerNotFound", "index.handler is not a function"},
		{"index", map[string]string{"index.js": ""}, "Runtime.MalformedHandlerName", "Bad handler"},
		{"../index.handler", nil, "Runtime.MalformedHandlerName", "is not a valid handler name"},
		{"index.handler", map[string]string{"index.js": "function ("}, "Runtime.UserCodeSyntaxError", "SyntaxError: "},
		{"index.handler", map[string]string{"index.js": "throw new TypeError('early')"}, "TypeError", "early"},
		{"index.handler", map[string]string{"index.mjs": "await new Promise(() => {})"}, "Runtime.NodeJsExit", "unexpected Node.js exit code"},
	})
	g := prepare(t, "nodejs")
	if r := g.bind("index.handler", map[string]string{"index.js": "process.exit(3)"}); r.Failure == nil || r.Failure.Type != "Runtime.ExitError" {
		t.Errorf("exit: %+v", r.Failure)
	}
}

const nodeApp = `
const handler = async (event, context) => {
  if (event.do === 'raise') throw new RangeError('boom');
  if (event.do === 'string') throw 'text';
  if (event.do === 'undefined') return undefined;
  if (event.do === 'circular') { const o = {}; o.o = o; return o; }
  if (event.do === 'never') await new Promise(() => {});
  if (event.do === 'reject') { Promise.reject(new Error('stray')); await new Promise((r) => setTimeout(r, 5000)); }
  if (event.do === 'uncaught') { setTimeout(() => { throw new Error('late'); }, 1); await new Promise((r) => setTimeout(r, 5000)); }
  if (event.do === 'exit') process.exit(event.status);
  console.log('logged %d', 1, { a: 1 });
  console.error('worse');
  const c = context;
  return [c.awsRequestId, c.functionName, c.functionVersion, c.memoryLimitInMB, c.logGroupName, c.logStreamName, c.invokedFunctionArn,
    c.clientContext.custom.k, c.getRemainingTimeInMillis() > 9000, process.env._X_AMZN_TRACE_ID, 'ü', c.callbackWaitsForEmptyEventLoop];
};
const later = (event, context, callback) => {
  context.callbackWaitsForEmptyEventLoop = !event.now;
  setTimeout(() => { globalThis.ran = true; }, 50);
  callback(event.fail ? new Error('called back') : null, 'first');
  callback(null, 'second');
};
const ran = (event, context) => context.succeed(globalThis.ran === true);
const failed = (event, context) => context.fail(new Error('old way'));
const silent = () => 'ignored';
const stream = awslambda.streamifyResponse(async (event, out, context) => {
  out = awslambda.HttpResponseStream.from(out, { statusCode: 201 });
  out.write('a'); out.write('b'); out.end();
});
`

// Node.js's handler sees AWS's context, logs in AWS's form, and its errors are AWS's; CommonJS and ES modules, by their
// name or by their package's type, in folders and nested.
func TestNode(t *testing.T) {
	commonjs, esm := "\nexports.ns = { handler }; Object.assign(exports, { handler, later, ran, failed, silent, stream });", "\nexport { handler };"
	for _, c := range []struct {
		handler string
		files   map[string]string
	}{
		{"index.handler", map[string]string{"index.js": nodeApp + commonjs}},
		{"a/b/index.ns.handler", map[string]string{"a/b/index.cjs": nodeApp + commonjs}},
		{"index.handler", map[string]string{"index.mjs": nodeApp + esm}},
		{"src/index.handler", map[string]string{"src/index.js": nodeApp + esm, "package.json": `{"type":"module"}`}},
	} {
		g := prepare(t, "nodejs")
		if r := g.bind(c.handler, c.files); r.Failure != nil {
			t.Fatalf("%s: %s", c.handler, r.Failure.Payload)
		}
		want := `["` + requestID + `","fn","$LATEST","128","group","stream","arn:aws:lambda:us-east-1:000000000000:function:fn","ü",true,"Root=1","ü",true]`
		if a := g.execute("{}"); string(a.Payload) != want {
			t.Errorf("answer %s\nwant %s", a.Payload, want)
		}
		g.written("Z\t" + requestID + "\tINFO\tlogged 1 { a: 1 }\n")
		g.written("Z\t" + requestID + "\tERROR\tworse\n")
	}
	g := prepare(t, "nodejs")
	g.bind("index.handler", map[string]string{"index.js": nodeApp + commonjs})
	wantBody(t, g.execute(`{"do":"raise"}`).Failure, "RangeError", "boom", "trace")
	g.written("\tERROR\tInvoke Error \t{\"errorType\":\"RangeError\",\"errorMessage\":\"boom\",\"stack\":[")
	wantBody(t, g.execute(`{"do":"string"}`).Failure, "string", "text", "trace")
	wantBody(t, g.execute(`{"do":"circular"}`).Failure, "Error", "Unable to stringify response body", "trace")
	for _, do := range []string{"undefined", "never"} {
		if a := g.execute(`{"do":"` + do + `"}`); string(a.Payload) != "null" || a.Failure != nil {
			t.Errorf("%s: %s", do, a.Payload)
		}
	}
	if a := g.execute(`{"do":"exit","status":7}`); !a.Lost || !strings.Contains(string(a.Payload), "Runtime exited with error: exit status 7") {
		t.Errorf("exit: %s", a.Payload)
	}
	for do, kind := range map[string]string{"reject": "Runtime.UnhandledPromiseRejection", "uncaught": "Error"} {
		g := prepare(t, "nodejs")
		g.bind("index.handler", map[string]string{"index.js": nodeApp + commonjs})
		wantBody(t, g.execute(`{"do":"`+do+`"}`).Failure, kind, "", "trace")
	}
}

// Callbacks wait for an empty event loop unless told not to, once; a handler that gives nothing answers null; a stream
// is gathered.
func TestNodeCallbacks(t *testing.T) {
	files := map[string]string{"index.js": nodeApp + "\nlet next; exports.handler = (e, c, cb) => ({ handler, later, ran, failed, silent, stream })[e.call](e, c, cb); exports.stream = stream;"}
	g := prepare(t, "nodejs")
	g.bind("index.handler", files)
	for _, c := range []struct{ event, want string }{
		{`{"call":"later","now":true}`, `"first"`}, {`{"call":"ran"}`, `false`},
		{`{"call":"later"}`, `"first"`}, {`{"call":"ran"}`, `true`}, {`{"call":"silent"}`, `null`},
	} {
		if a := g.execute(c.event); string(a.Payload) != c.want {
			t.Errorf("%s: %s, want %s", c.event, a.Payload, c.want)
		}
	}
	wantBody(t, g.execute(`{"call":"later","fail":true}`).Failure, "Error", "called back", "trace")
	wantBody(t, g.execute(`{"call":"failed"}`).Failure, "Error", "old way", "trace")
	g = prepare(t, "nodejs")
	g.bind("index.stream", files)
	if a := g.execute(`{}`); string(a.Payload) != "{\"statusCode\":201}\x00\x00\x00\x00\x00\x00\x00\x00ab" {
		t.Errorf("stream: %q", a.Payload)
	}
}

// Events and answers at the limit pass through both bootstraps byte for byte. R3
func TestLarge(t *testing.T) {
	for language, file := range map[string][2]string{"python": {"app.py", "def handler(e, c): return e"}, "nodejs": {"app.js", "exports.handler = async (e) => e"}} {
		t.Run(language, func(t *testing.T) {
			g := prepare(t, language)
			g.bind("app.handler", map[string]string{file[0]: file[1]})
			for _, size := range []int{0, 1, 3000, 4096, 16384, 70000, 6<<20 - 2} {
				want := `"` + strings.Repeat("x", size) + `"`
				if a := g.execute(want); string(a.Payload) != want {
					t.Errorf("size %d: %d bytes, %+v", size, len(a.Payload), a.Failure)
				}
			}
			if a := g.execute(`"` + strings.Repeat("\\u0001", 1200000) + `"`); a.Failure == nil || a.Failure.Type != "Function.ResponseSizeTooLarge" {
				t.Errorf("over the limit: %d bytes", len(a.Payload))
			}
			if a := g.execute(`1`); string(a.Payload) != "1" {
				t.Errorf("afterwards: %+v", a)
			}
		})
	}
}

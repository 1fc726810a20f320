package rows

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"kiln"
	"kiln/test/kilntest"
)

// Code that was registered runs by its name alone, in each language, in the form it was registered with; a name nobody
// registered is AWS's 404. // R1
func TestRegisteredCodeRunsByName(t *testing.T) {
	languages(t, func(t *testing.T, language string) {
		a := account(t)
		a.Deploy(kilntest.Probe(t, language, "named").Constant("code-no-01"))
		a.Deploy(kilntest.Probe(t, language, "other").Constant("code-no-02"))
		arn := "arn:aws:lambda:us-east-1:" + a.ID + ":function:named"
		for _, name := range []string{"named", a.ID + ":function:named", arn, arn + ":$LATEST"} {
			if f := a.Invoke(kilntest.Invocation{Function: name}).Facts(); f.Constant != "code-no-01" {
				t.Errorf("%s ran the code with the constant %q", name, f.Constant)
			}
		}
		if f := a.Invoke(kilntest.Invocation{Function: "other"}).Facts(); f.Constant != "code-no-02" {
			t.Errorf("other ran the code with the constant %q", f.Constant)
		}
		a.Invoke(kilntest.Invocation{Function: "nobody"}).Refused(http.StatusNotFound, "ResourceNotFoundException")
	})
}

// A request that carries its code runs it in a process that was up before the request, and nothing of it is registered.
// // R2
func TestRequestCarriesItsCode(t *testing.T) {
	a := account(t)
	operator := a.Server.Operator(t)
	waitWarm(t, operator, "python")
	probe := kilntest.Probe(t, "python", "").Constant("carried-01").Unique()
	answer := run(t, a, probe.Zip(t), `{"marker":"x"}`, url.Values{"runtime": {probe.Runtime}, "handler": {probe.Handler}, "memory": {"384"}, "timeout": {"9"}})
	f := answer.Facts()
	if f.Constant != "carried-01" || f.MemorySize != "384" || f.MemoryLimit < 384<<20 {
		t.Errorf("it ran with constant %q, %s MB, limit %d", f.Constant, f.MemorySize, f.MemoryLimit)
	}
	if f.ProcessAt > kilntest.Seconds(answer.Sent)+slack.Seconds() {
		t.Errorf("its process began %.3f s after the request was sent", f.ProcessAt-kilntest.Seconds(answer.Sent))
	}
	if answer.Container() != f.Hostname {
		t.Errorf("the answer names container %q, the code ran in %q", answer.Container(), f.Hostname)
	}
	for _, who := range []*kilntest.Account{a, operator} {
		functions, err := who.Lambda().ListFunctions(context.Background(), &lambda.ListFunctionsInput{})
		if err != nil {
			t.Fatal(err)
		}
		for _, fn := range functions.Functions {
			t.Errorf("account %s lists %s", who.ID, aws.ToString(fn.FunctionName))
		}
	}
	run(t, a, []byte("not a zip"), `{}`, url.Values{"runtime": {probe.Runtime}, "handler": {probe.Handler}}).clientError(t)
}

// `kiln run` does the same from a shell: the answer alone on standard output. // R2
func TestRunCommand(t *testing.T) {
	a := account(t)
	folder := t.TempDir()
	source := "def handler(event, context):\n    return {'said': event['word'], 'again': event['word'] * 2}\n"
	if err := os.WriteFile(filepath.Join(folder, "lambda_function.py"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := a.Command(ctx, "run", folder, "--runtime", kilntest.PythonRuntime, "--handler", "lambda_function.handler", "-d", `{"word":"yes"}`)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("kiln run: %v: %s%s", err, out, stderr(err))
	}
	var answer struct{ Said, Again string }
	if err := json.Unmarshal(out, &answer); err != nil || answer.Again != "yesyes" {
		t.Errorf("standard output is not the answer alone (%v): %s", err, out)
	}
}

// The payload reaches the code byte for byte: empty as {}, whatever JSON allows, and the greatest there may be; what is
// not JSON, or greater, is refused and does not run. // R3
func TestArgumentsByteForByte(t *testing.T) {
	a := account(t)
	echo := kilntest.Probe(t, "go", "echo")
	echo.Environment = map[string]string{"MODE": "echo"}
	a.Deploy(echo)
	big := `"` + strings.Repeat("0123456789abcdef", kiln.MaxPayloadBytes/16) + "0123456789"
	big = big[:kiln.MaxPayloadBytes-1] + `"`
	for name, payload := range map[string]string{
		"object":  `{"a" : [1,2.50, null ,true],"b":"\u00e9"}`,
		"spaces":  " \n{ }\t",
		"number":  `12345678901234567890.000100`,
		"string":  `"just a string"`,
		"null":    `null`,
		"unicode": `{"text":"grüße 世界 🔥 \ud83d\ude00 ` + "\u2028" + `"}`,
		"doubled": `{"a":1,"a":2}`,
		"6 MB":    big,
	} {
		if got := a.Invoke(kilntest.Invocation{Function: "echo", Payload: payload}).OK(); string(got.Body) != payload {
			t.Errorf("%s: sent %d bytes, got %d back, and not the same", name, len(payload), len(got.Body))
		}
	}
	if got := a.Invoke(kilntest.Invocation{Function: "echo"}).OK(); string(got.Body) != "{}" {
		t.Errorf("an empty payload arrived as %q", got.Body)
	}
	for _, payload := range []string{"{", "not json", `{"a":1} x`, "\xff\xfe", `{'a':1}`} {
		a.Invoke(kilntest.Invocation{Function: "echo", Payload: payload}).Refused(http.StatusBadRequest, "InvalidRequestContentException")
	}
	a.Invoke(kilntest.Invocation{Function: "echo", Payload: big + " "}).Refused(http.StatusRequestEntityTooLarge, "RequestTooLargeException")
}

// The same, as Python and Node.js see it after parsing. // R3
func TestArgumentsInManagedLanguages(t *testing.T) {
	for _, language := range []string{"python", "node"} {
		t.Run(language, func(t *testing.T) {
			a := account(t)
			name := a.Probe(language, "echo")
			text := strings.Repeat("grüße 世界 🔥 ", 1000)
			payload, err := json.Marshal(map[string]any{"text": text, "list": []any{1.5, nil, true}})
			if err != nil {
				t.Fatal(err)
			}
			f := a.Invoke(kilntest.Invocation{Function: name, Payload: string(payload)}).Facts()
			if got, err := json.Marshal(f.Event); err != nil || !bytes.Equal(got, payload) {
				t.Errorf("the event came back changed: %s", got)
			}
			if f := a.Invoke(kilntest.Invocation{Function: name}).Facts(); fmt.Sprint(f.Event) != "map[]" {
				t.Errorf("an empty payload arrived as %v", f.Event)
			}
			// 5.9 MB in: the answer holds the event and the facts, and must stay below the 6 MB an answer may have.
			big := `{"x":"` + strings.Repeat("y", 5_900_000) + `"}`
			if f := a.Invoke(kilntest.Invocation{Function: name, Payload: big}).Facts(); len(fmt.Sprint(f.Event)) < 5_900_000 {
				t.Errorf("of 5.9 MB %d arrived", len(fmt.Sprint(f.Event)))
			}
		})
	}
}

// A request may ask for an amount of its own, by header or client context: the code reads a limit of at least that, and
// a silent request after it gets the registered amount again. // R4
func TestRequestStatesItsAmount(t *testing.T) {
	languages(t, func(t *testing.T, language string) {
		a := account(t)
		name := a.Probe(language, "asks")
		silent := a.Invoke(kilntest.Invocation{Function: name}).Facts()
		asks := map[int]kilntest.Invocation{
			384: {Function: name, Header: map[string]string{"X-Kiln-Memory": "384"}},
			512: {Function: name, ClientContext: `{"custom":{"kiln:memory":"512"}}`},
			640: {Function: name, ClientContext: `{"custom":{"kiln:memory":640}}`},
		}
		for asked, in := range asks {
			answer := a.Invoke(in)
			f := answer.Facts()
			if f.MemoryLimit < int64(asked)<<20 || f.MemoryLimit > int64(asked)<<20*5/4 {
				t.Errorf("%d MiB asked for, the code reads a limit of %d MiB", asked, f.MemoryLimit>>20)
			}
			if f.Hostname == silent.Hostname {
				t.Errorf("%d MiB asked for, and it ran in the container with %d", asked, silent.MemoryLimit>>20)
			}
			if e := a.Execution(answer.RequestID()); e.Memory.Asked != asked || int64(e.Memory.Allocated)<<20 != f.MemoryLimit {
				t.Errorf("the record says asked %d, allocated %d; the code reads %d MiB", e.Memory.Asked, e.Memory.Allocated, f.MemoryLimit>>20)
			}
		}
		if f := a.Invoke(kilntest.Invocation{Function: name}).Facts(); f.MemoryLimit != silent.MemoryLimit {
			t.Errorf("a silent request after them runs with %d MiB", f.MemoryLimit>>20)
		}
		for _, wrong := range []string{"0", "-1", "1", "many", "99999999"} {
			in := kilntest.Invocation{Function: name, Header: map[string]string{"X-Kiln-Memory": wrong}}
			a.Invoke(in).Refused(http.StatusBadRequest, "InvalidParameterValueException")
		}
	})
}

// The amount given at registration is the limit the code reads, in memory and, by the same fraction, in processor time.
// // R5
func TestRegisteredAmountHolds(t *testing.T) {
	languages(t, func(t *testing.T, language string) {
		a := account(t)
		for _, memory := range []int{128, 512, 2048} {
			f := kilntest.Probe(t, language, fmt.Sprintf("with-%d", memory))
			f.MemoryMiB = memory
			a.Deploy(f)
			got := a.Invoke(kilntest.Invocation{Function: f.Name}).Facts()
			if got.MemoryLimit != int64(memory)<<20 || got.MemorySize != fmt.Sprint(memory) {
				t.Errorf("registered with %d MiB, the code reads %d MiB and AWS_LAMBDA_FUNCTION_MEMORY_SIZE=%s", memory, got.MemoryLimit>>20, got.MemorySize)
			}
			want := 2 * float64(memory) / 1024 // of the first shape of the shared server
			if memory > 1024 {
				want = 3 * float64(memory) / 3072
			}
			if got.CPUs < want*0.9 || got.CPUs > want*1.1 {
				t.Errorf("registered with %d MiB, the code reads %g CPUs, want %g", memory, got.CPUs, want)
			}
		}
	})
}

// The language fixed at registration picks an instance on which that very interpreter was running before the request:
// this machine's kernel shows the process, its program and its start. // R6 R22
func TestLanguageIsHeldBeforeTheRequest(t *testing.T) {
	programs := map[string]string{"python": "python", "node": "node"}
	kilntest.NeedContainer(t)
	s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"warming.instances": "1"}})
	operator := s.Operator(t)
	for language, program := range programs {
		t.Run(language, func(t *testing.T) {
			a := s.NewAccount(t)
			name := a.Probe(language, "fixed")
			before := waitWarm(t, operator, language)
			prepared := operator.Containers()
			answer := a.Invoke(kilntest.Invocation{Function: name})
			f := answer.Facts()
			instance, ok := byBoot(t, before, f.MachineID)
			if !ok {
				t.Fatalf("it ran on %s, which was not warm before the request", f.MachineID)
			}
			if !instance.Holds(language) {
				t.Errorf("a %s function ran on an instance that held %v", language, instance.Runtimes)
			}
			if f.ProcessAt > kilntest.Seconds(answer.Sent)+slack.Seconds() {
				t.Errorf("the interpreter began %.3f s after the request was sent", f.ProcessAt-kilntest.Seconds(answer.Sent))
			}
			for _, c := range prepared {
				if c.ID != f.Hostname || c.Pid == 0 {
					continue
				}
				p := s.Process(t, c.Pid)
				if !strings.HasPrefix(filepath.Base(p.Exe), program) || p.StartedAt > kilntest.Seconds(answer.Sent) {
					t.Errorf("process %d of the container is %s, begun %.3f s before the request", c.Pid, p.Exe, kilntest.Seconds(answer.Sent)-p.StartedAt)
				}
				return
			}
			t.Errorf("container %s was not listed as prepared before the request: %+v", f.Hostname, prepared)
		})
	}
}

// HTTP triggers executions: by AWS's SDK, and by curl with its own implementation of the signature. // R7
func TestHTTPTriggers(t *testing.T) {
	a := account(t)
	name := a.Probe("python", "triggered")
	out, err := a.Lambda().Invoke(context.Background(), &lambda.InvokeInput{FunctionName: aws.String(name), Payload: []byte(`{"by":"sdk"}`), LogType: types.LogTypeTail})
	if err != nil {
		t.Fatal(err)
	}
	var f kilntest.Facts
	if err := json.Unmarshal(out.Payload, &f); err != nil || f.Count != 1 || out.StatusCode != 200 || aws.ToString(out.ExecutedVersion) != "$LATEST" {
		t.Errorf("the SDK got %d, version %q: %s", out.StatusCode, aws.ToString(out.ExecutedVersion), out.Payload)
	}
	curl, err := exec.LookPath("curl")
	if err != nil {
		kilntest.Skip(t, "there is no curl on this machine")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, curl, "-sS", "-i", "--aws-sigv4", "aws:amz:us-east-1:lambda", "--user", a.Key+":"+a.Secret,
		"-H", "Content-Type: application/json", "-d", `{"by":"curl"}`, a.Server.URL+"/2015-03-31/functions/"+name+"/invocations")
	text, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(text), `"by": "curl"`) && !strings.Contains(string(text), `"by":"curl"`) {
		t.Errorf("curl: %v: %s", err, text)
	}
	lower := strings.ToLower(string(text))
	for _, header := range []string{"x-kiln-acquisition-path: container", "x-kiln-instance: i-", "x-kiln-container: c-", "x-kiln-fleet: low-volume", "x-kiln-node: ", "x-amz-executed-version: $latest", "x-amzn-requestid: "} {
		if !strings.Contains(lower, header) {
			t.Errorf("curl's answer has no %q:\n%s", header, text)
		}
	}
}

// Command-line tools trigger executions with the same result: AWS's own and kiln's. // R8
func TestCommandLineTriggers(t *testing.T) {
	a := account(t)
	name := a.Probe("python", "by-tool")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := a.Command(ctx, "invoke", name, "-d", `{"tool":"kiln"}`).Output()
	if err != nil {
		t.Fatalf("kiln invoke: %v: %s%s", err, out, stderr(err))
	}
	var byKiln, byAWS kilntest.Facts
	if err := json.Unmarshal(out, &byKiln); err != nil || fmt.Sprint(byKiln.Event) != "map[tool:kiln]" {
		t.Errorf("kiln invoke printed (%v) %s", err, out)
	}
	if err := a.Command(ctx, "invoke", "nobody").Run(); exitCode(err) != 1 && exitCode(err) != 2 {
		t.Errorf("kiln invoke of nobody: %v", err)
	}
	const tool = "/usr/bin/aws"
	if _, err := os.Stat(tool); err != nil {
		kilntest.Skip(t, "there is no %s (Debian: awscli)", tool)
	}
	file := filepath.Join(t.TempDir(), "answer")
	cmd := exec.CommandContext(ctx, tool, "--endpoint-url", a.Server.URL, "lambda", "invoke", "--function-name", name,
		"--payload", base64.StdEncoding.EncodeToString([]byte(`{"tool":"aws"}`)), file)
	cmd.Env = append(a.Environ(), "PATH=/usr/bin:/bin", "HOME="+t.TempDir())
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("aws lambda invoke: %v: %s", err, text)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &byAWS); err != nil || fmt.Sprint(byAWS.Event) != "map[tool:aws]" {
		t.Errorf("aws lambda invoke gave (%v) %s", err, text)
	}
	sameContainer(t, byKiln, byAWS)
	if byAWS.Count != byKiln.Count+1 {
		t.Errorf("counter %d, then %d", byKiln.Count, byAWS.Count)
	}
}

// A package may bring libraries of its language, native libraries and programs. // R17
func TestPackageBringsLibraries(t *testing.T) {
	a := account(t)
	native, err := nativeLibrary()
	if err != nil {
		kilntest.Skip(t, "there is no libz on this machine: %v", err)
	}
	a.Deploy(kilntest.Function{Name: "packaged", Runtime: kilntest.PythonRuntime, Handler: "packaged.handler", TimeoutSeconds: 20, MemoryMiB: 256,
		Files: map[string][]byte{
			"packaged.py":         kilntest.Guest(t, "packaged.py"),
			"brought/__init__.py": nil,
			"brought/library.py":  []byte("def word():\n    return 'from the library'\n"),
			"native/libz.so.1":    native,
			"bin/tool":            kilntest.GoGuest(t, "tool"),
		}})
	var got struct {
		Library, Path, Zlib, Program string
		Mapped                       bool
	}
	a.Invoke(kilntest.Invocation{Function: "packaged"}).OK().JSON(&got)
	if got.Library != "from the library" || got.Path != "/var/task/brought/library.py" {
		t.Errorf("the library said %q from %s", got.Library, got.Path)
	}
	if got.Zlib == "" || !got.Mapped {
		t.Errorf("the native library said %q, mapped from the package: %t", got.Zlib, got.Mapped)
	}
	if got.Program != "tool says: from the package" {
		t.Errorf("the program said %q", got.Program)
	}
}

// The caller gets the log's tail if, and only if, it asks for it. // R18
func TestLogTailOnRequest(t *testing.T) {
	languages(t, func(t *testing.T, language string) {
		a := account(t)
		name := a.Probe(language, "talks")
		word := "line-of-" + language
		with := a.Invoke(kilntest.Invocation{Function: name, Payload: `{"print":"` + word + `"}`, Tail: true}).OK()
		log, err := base64.StdEncoding.DecodeString(with.Header.Get("X-Amz-Log-Result"))
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{word, "START RequestId: " + with.RequestID() + " Version: $LATEST\n", "END RequestId: " + with.RequestID() + "\n", "REPORT RequestId: " + with.RequestID() + "\tDuration: ", "Memory Size: 256 MB\t", "Init Duration: "} {
			if !strings.Contains(string(log), part) {
				t.Errorf("the tail has no %q:\n%s", part, log)
			}
		}
		without := a.Invoke(kilntest.Invocation{Function: name, Payload: `{"print":"again"}`}).OK()
		if tail, has := without.Header["X-Amz-Log-Result"]; has {
			t.Errorf("a tail nobody asked for: %q", tail)
		}
		long := a.Invoke(kilntest.Invocation{Function: name, Payload: `{"print":"` + strings.Repeat("x", 10_000) + `"}`, Tail: true}).OK()
		log, err = base64.StdEncoding.DecodeString(long.Header.Get("X-Amz-Log-Result"))
		if err != nil || len(log) > 4096 || !strings.Contains(string(log), "REPORT RequestId: "+long.RequestID()) {
			t.Errorf("of a long log the tail has %d bytes (%v): %.300s", len(log), err, log)
		}
	})
}

// refusal is an answer that is checked by its status alone.
type refusal struct{ *kilntest.Answer }

func (r refusal) clientError(t *testing.T) {
	t.Helper()
	if r.Status < 400 || r.Status > 499 {
		t.Errorf("answer %d, want a client error: %.300s", r.Status, r.Body)
	}
}

// run sends code with its request.
func run(t *testing.T, a *kilntest.Account, zip []byte, event string, query url.Values) refusal {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	code, err := form.CreateFormFile("code", "code.zip")
	if err == nil {
		_, err = code.Write(zip)
	}
	if err == nil {
		err = form.WriteField("event", event)
	}
	if err == nil {
		err = form.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return refusal{a.Do(kilntest.Call{Method: http.MethodPost, Path: "/kiln/v1/run", Query: query, Service: "kiln",
		Header: map[string]string{"Content-Type": form.FormDataContentType()}, Body: body.Bytes()})}
}

// nativeLibrary reads a small native library that every Debian has.
func nativeLibrary() ([]byte, error) {
	found, err := filepath.Glob("/usr/lib/*-linux-gnu/libz.so.1")
	if err != nil || len(found) == 0 {
		return nil, os.ErrNotExist
	}
	return os.ReadFile(found[0])
}

func stderr(err error) string {
	if exit, ok := err.(*exec.ExitError); ok {
		return string(exit.Stderr)
	}
	return ""
}

func exitCode(err error) int {
	if exit, ok := err.(*exec.ExitError); ok {
		return exit.ExitCode()
	}
	return 0
}

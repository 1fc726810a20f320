package main

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kiln"
	"kiln/internal/client"
)

// stranger is a server that answers as written down, and remembers what it was asked.
type stranger struct {
	*httptest.Server
	mu      sync.Mutex
	asked   []string          // guarded by mu: "METHOD /path?query"
	bodies  map[string][]byte // guarded by mu: by the same
	answers map[string]func(w http.ResponseWriter)
	data    string
}

func newStranger(t *testing.T, answers map[string]func(http.ResponseWriter)) *stranger {
	s := &stranger{answers: answers, bodies: map[string][]byte{}, data: t.TempDir()}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	put(t, filepath.Join(s.data, client.AddressFile), client.Address{Endpoint: s.URL, PID: 1})
	put(t, filepath.Join(s.data, client.CredentialsFile), client.Credentials{AccessKeyID: "AKIDTEST", SecretAccessKey: "it's", Account: kiln.DefaultAccount, Region: "us-east-1"})
	return s
}

func (s *stranger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := r.Method + " " + r.URL.RequestURI()
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.asked = append(s.asked, key)
	s.bodies[key] = body
	s.mu.Unlock()
	if !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=AKIDTEST/") {
		http.Error(w, `{"message":"not signed"}`, http.StatusForbidden)
		return
	}
	answer, ok := s.answers[key]
	if !ok {
		w.Header().Set("X-Amzn-Errortype", "ResourceNotFoundException")
		http.Error(w, `{"Message":"there is no such thing: `+key+`"}`, http.StatusNotFound)
		return
	}
	answer(w)
}

// body gives what came with a request.
func (s *stranger) body(key string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bodies[key]
}

func put(t *testing.T, path string, v any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// call runs one command line with no environment but env.
func call(t *testing.T, stdin string, env map[string]string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	a := &app{stdin: strings.NewReader(stdin), stdout: &out, stderr: &err, getenv: func(n string) string { return env[n] }}
	for name, value := range env {
		a.environ = append(a.environ, name+"="+value)
	}
	status = a.run(context.Background(), args)
	return status, out.String(), err.String()
}

func say(s string, header ...string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		io.WriteString(w, s)
	}
}

// TestInvoke shows that the answer alone is on standard output, and what the three statuses stand for.
func TestInvoke(t *testing.T) {
	const at = "POST /2015-03-31/functions/f/invocations"
	s := newStranger(t, map[string]func(http.ResponseWriter){at: say(`{"a":1}`, "X-Kiln-Acquisition-Path", "container", "X-Amzn-Requestid", "r1")})
	status, out, errs := call(t, `{"x":2}`, nil, "invoke", "f", "-d", "-", "-v", "--data", s.data)
	if status != 0 || out != `{"a":1}` || !strings.Contains(errs, "path=container") || string(s.body(at)) != `{"x":2}` {
		t.Errorf("status %d, out %q, err %q, event %q", status, out, errs, s.body(at))
	}
	status, out, _ = call(t, "", nil, "invoke", "f", "--json", "--data", s.data)
	var got answer
	if err := json.Unmarshal([]byte(out), &got); err != nil || status != 0 || got.RequestID != "r1" || got.Path != "container" {
		t.Errorf("status %d, %v, %s", status, err, out)
	}

	s.answers[at] = say(`{"errorType":"ValueError","errorMessage":"no","stackTrace":["  line 1\n"]}`, "X-Amz-Function-Error", "Unhandled")
	status, out, errs = call(t, "", nil, "invoke", "f", "--data", s.data)
	if status != 1 || out != "" || !strings.Contains(errs, "the function failed (Unhandled): ValueError: no\n    line 1") {
		t.Errorf("status %d, out %q, err %q", status, out, errs)
	}

	for _, args := range [][]string{
		{"invoke", "missing", "--data", s.data}, {"invoke", "--data", s.data}, {"invoke", "f", "--no-such-flag"}, {"nonsense"},
		{"invoke", "f", "-d", "@/nowhere/at/all", "--data", s.data}, {"invoke", "f", "--data", t.TempDir()},
		{"invoke", "f", "--endpoint", "http://127.0.0.1:1", "--data", s.data}, {"ls", "everything"}, {"account", "nonsense"}, {"key", "create", "--data", s.data},
	} {
		if status, out, errs := call(t, "", nil, args...); status != 2 || out != "" || !strings.HasPrefix(errs, "kiln: ") {
			t.Errorf("%v: status %d, out %q, err %q", args, status, out, errs)
		}
	}
}

// TestEnv shows that what env prints is for a shell, and that without a server it says what to do.
func TestEnv(t *testing.T) {
	s := newStranger(t, nil)
	status, out, errs := call(t, "", nil, "env", "--data", s.data)
	want := "export AWS_ENDPOINT_URL=" + s.URL + "\nexport AWS_ACCESS_KEY_ID=AKIDTEST\nexport AWS_SECRET_ACCESS_KEY='it'\\''s'\n" +
		"export AWS_REGION=us-east-1\nexport AWS_DEFAULT_REGION=us-east-1\nexport KILN_ACCOUNT_ID=000000000000\n"
	if status != 0 || out != want {
		t.Errorf("status %d, err %q, out:\n%swant:\n%s", status, errs, out, want)
	}
	if errs != "" {
		t.Errorf("told %q of a server that answers", errs)
	}
	s.Close()
	if status, out, errs := call(t, "", nil, "env", "--data", s.data); status != 0 || out != want || !strings.Contains(errs, "does not answer") {
		t.Errorf("of a server that is gone: status %d, out %q, err %q", status, out, errs)
	}
	if status, _, errs := call(t, "", nil, "env", "--data", t.TempDir()); status != 2 || !strings.Contains(errs, "start one with `kiln serve --data") {
		t.Errorf("status %d, err %q", status, errs)
	}
}

// TestServerFound shows where the server and the key come from, the nearer first.
func TestServerFound(t *testing.T) {
	at := "GET /kiln/v1/nodes?limit=100"
	s := newStranger(t, map[string]func(http.ResponseWriter){at: say(`{"items":[{"id":"n"}]}`)})
	aws := map[string]string{"AWS_ACCESS_KEY_ID": "AKIDOFAWS", "AWS_SECRET_ACCESS_KEY": "x"}
	own := map[string]string{"AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_SECRET_ACCESS_KEY": "x", "AWS_ENDPOINT_URL": s.URL, "KILN_DATA": t.TempDir()}
	for name, row := range map[string]struct {
		env  map[string]string
		args []string
	}{
		"data flag beats a key for AWS": {aws, []string{"--data", s.data}},
		"variable of the data folder":   {map[string]string{"KILN_DATA": s.data}, nil},
		"data folder beats AWS's key":   {map[string]string{"KILN_DATA": s.data, "AWS_ACCESS_KEY_ID": "AKIDOFAWS", "AWS_SECRET_ACCESS_KEY": "x"}, nil},
		"environment alone":             {own, nil},
		"endpoint flag":                 {map[string]string{"KILN_DATA": s.data}, []string{"--endpoint", s.URL}},
	} {
		if status, out, errs := call(t, "", row.env, append([]string{"ls", "nodes"}, row.args...)...); status != 0 || !strings.Contains(out, "n") {
			t.Errorf("%s: status %d, out %q, err %q", name, status, out, errs)
		}
	}
}

// TestDeploy shows that a new function is created with what was guessed, and that the guess is told.
func TestDeploy(t *testing.T) {
	const create, get = "POST /2015-03-31/functions", "GET /2015-03-31/functions/hello-there/configuration"
	const active = `{"FunctionArn":"arn:x","State":"Active","LastUpdateStatus":"Successful","Runtime":"python3.12","Handler":"app.go"}`
	s := newStranger(t, map[string]func(http.ResponseWriter){"GET /kiln/v1/pools?limit=100": say(`{"items":[{"runtime":"nodejs22"},{"runtime":"python3.12"}]}`)})
	s.answers[create] = func(w http.ResponseWriter) { s.answers[get] = say(active); io.WriteString(w, active) }
	dir := filepath.Join(t.TempDir(), "hello there")
	writeTree(t, dir, map[string]string{"app.py": "def go(event, context):\n    return 1\n", "lib/a.py": "", "__pycache__/x": "", ".git/x": ""})
	status, out, errs := call(t, "", nil, "deploy", dir, "--data", s.data, "--env", "A=b=c", "--memory", "256")
	if status != 0 || out != "arn:x\n" || !strings.Contains(errs, "taking runtime python3.12 and handler app.go") {
		t.Fatalf("status %d, out %q, err %q", status, out, errs)
	}
	var sent struct {
		FunctionName, Runtime, Handler string
		MemorySize                     int
		Architectures                  []string
		Environment                    struct{ Variables map[string]string }
		Code                           struct{ ZipFile []byte }
	}
	if err := json.Unmarshal(s.body(create), &sent); err != nil {
		t.Fatal(err)
	}
	if sent.Architectures != nil { // the server takes its own: a script runs on either
		t.Errorf("sent the architectures %q, which nobody gave", sent.Architectures)
	}
	if sent.FunctionName != "hello-there" || sent.Runtime != "python3.12" || sent.Handler != "app.go" || sent.MemorySize != 256 || sent.Environment.Variables["A"] != "b=c" {
		t.Errorf("sent %+v", sent)
	}
	r, err := zip.NewReader(bytes.NewReader(sent.Code.ZipFile), int64(len(sent.Code.ZipFile)))
	if err != nil || len(r.File) != 2 || r.File[0].Name != "app.py" || r.File[1].Name != "lib/a.py" {
		t.Errorf("the zip: %v, %v", err, r)
	}
}

// TestDeployArchitecture shows that a program's machine is told, and that the user's word is stronger.
func TestDeployArchitecture(t *testing.T) {
	const create, get = "POST /2015-03-31/functions", "GET /2015-03-31/functions/prog/configuration"
	const active = `{"FunctionArn":"arn:x","State":"Active","LastUpdateStatus":"Successful"}`
	program := filepath.Join(t.TempDir(), "prog")
	elf := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 20)...)
	elf[18] = 183
	if err := os.WriteFile(program, elf, 0o755); err != nil {
		t.Fatal(err)
	}
	for flags, want := range map[string]string{"": `["arm64"]`, "--architecture=x86_64": `["x86_64"]`} {
		s := newStranger(t, map[string]func(http.ResponseWriter){})
		s.answers[create] = func(w http.ResponseWriter) { s.answers[get] = say(active); io.WriteString(w, active) }
		if status, _, errs := call(t, "", nil, append([]string{"deploy", program, "--data", s.data}, strings.Fields(flags)...)...); status != 0 {
			t.Errorf("status %d, err %q", status, errs)
		}
		if body := string(s.body(create)); !strings.Contains(body, `"Architectures":`+want) {
			t.Errorf("%q: %s is missing in %.300s", flags, want, body)
		}
	}
}

// TestProgress shows that every command that asks a slow server says so after a second.
func TestProgress(t *testing.T) {
	for _, args := range [][]string{{"rm", "f"}, {"rm", "i-0123456789abcdef"}, {"account", "create"}, {"account", "ls"},
		{"key", "create", "--account", "1"}, {"key", "ls"}, {"key", "rm", "AKID"}, {"ls", "events"}, {"ls", "functions"}, {"invoke", "f"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			told := &teller{told: make(chan struct{})}
			s := newStranger(t, nil)
			s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				select {
				case <-told.told:
				case <-time.After(10 * time.Second):
				}
				http.Error(w, `{"message":"slow"}`, http.StatusInternalServerError)
			})
			a := &app{stdin: strings.NewReader(""), stdout: io.Discard, stderr: told, getenv: func(string) string { return "" }}
			a.run(t.Context(), append(args, "--data", s.data))
			select {
			case <-told.told:
			default:
				t.Error("nothing was told")
			}
		})
	}
}

// teller closes told when a progress line is written.
type teller struct {
	once sync.Once
	told chan struct{}
}

func (w *teller) Write(b []byte) (int, error) {
	if strings.Contains(string(b), "…") {
		w.once.Do(func() { close(w.told) })
	}
	return len(b), nil
}

// TestEventsShowTheNewest shows that a limit cuts the oldest events, although the server lists them oldest first, and
// that the last hour is looked at first.
func TestEventsShowTheNewest(t *testing.T) {
	s := newStranger(t, nil)
	var asked []string
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		asked = append(asked, q.Get("since"))
		from := 0
		if q.Get("next") != "" {
			from = 500
		}
		if since, err := time.Parse(time.RFC3339, q.Get("since")); err == nil && time.Since(since) < 2*time.Hour {
			io.WriteString(w, `{"items":[{"kind":"event 999"}]}`)
			return
		}
		var items []string
		for i := range 500 {
			items = append(items, fmt.Sprintf(`{"kind":"event %d"}`, from+i))
		}
		next := map[int]string{0: "n", 500: ""}[from]
		fmt.Fprintf(w, `{"items":[%s],"next":%q}`, strings.Join(items, ","), next)
	})
	status, out, errs := call(t, "", nil, "ls", "events", "--limit", "2", "--data", s.data)
	if status != 0 || !strings.Contains(out, "event 998") || !strings.Contains(out, "event 999") || strings.Contains(out, "event 997") {
		t.Errorf("status %d, err %q, out:\n%s", status, errs, out)
	}
	if len(asked) != 3 || asked[0] == "" || asked[1] == "" || asked[1] != asked[2] {
		t.Errorf("asked since %q", asked)
	}
	_, out, _ = call(t, "", nil, "ls", "events", "--limit", "1", "--data", s.data)
	if len(asked) != 4 || !strings.Contains(out, "event 999") {
		t.Errorf("the last hour is not enough: asked since %q", asked)
	}
}

// TestRun shows that run sends code and event as the two parts of one request. // R2
func TestRun(t *testing.T) {
	const at = "POST /kiln/v1/run?handler=f.handler&memory=512&runtime=nodejs22.x"
	s := newStranger(t, map[string]func(http.ResponseWriter){at: say(`7`, "X-Amz-Executed-Version", "$LATEST"),
		"GET /kiln/v1/instances?limit=100": say(`{"items":[{"runtimes":["nodejs23"]},{"runtimes":["nodejs22"]}]}`)})
	file := filepath.Join(t.TempDir(), "f.mjs")
	writeTree(t, filepath.Dir(file), map[string]string{"f.mjs": "export const handler = async () => 7;\n"})
	status, out, errs := call(t, "", nil, "run", file, "-d", `{"e":1}`, "--memory", "512", "--data", s.data)
	if status != 0 || out != "7" {
		t.Fatalf("status %d, out %q, err %q", status, out, errs)
	}
	if b := string(s.body(at)); !strings.Contains(b, `name="code"`) || !strings.Contains(b, "\r\n\r\n{\"e\":1}\r\n") {
		t.Errorf("sent %q", b)
	}
}

// TestPack shows that equal content gives equal bytes, that a program becomes bootstrap, and that links stay inside.
func TestPack(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	for _, dir := range []string{one, two} {
		writeTree(t, dir, map[string]string{"b.py": "x", "a/c.py": "y"})
	}
	p, err := pack(one)
	if err != nil {
		t.Fatal(err)
	}
	q, err := pack(two)
	if err != nil || !bytes.Equal(p.zip, q.zip) {
		t.Errorf("equal folders give different zips (%v)", err)
	}
	program := filepath.Join(t.TempDir(), "prog")
	if err := os.WriteFile(program, append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 20)...), 0o755); err != nil {
		t.Fatal(err)
	}
	p, err = pack(program)
	if err != nil || p.name != "prog" || len(p.files) != 1 || p.files[0] != "bootstrap" || p.architecture != "" {
		t.Errorf("a program packs as %+v, %v", p, err)
	}
	for machine, want := range map[byte]string{62: "x86_64", 183: "arm64"} {
		elf := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 20)...)
		elf[18] = machine
		if got := architectureOf(elf); got != want {
			t.Errorf("a program for machine %d is for %q, want %q", machine, got, want)
		}
	}
	pipe := filepath.Join(two, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]string{pipe: "is no file or folder", two: "it is no file"} {
		if _, err := pack(from); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a pipe, by %s: %v", from, err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(one, "out")); err != nil {
		t.Fatal(err)
	}
	if _, err := pack(one); kiln.KindOf(err) != kiln.KindInvalid {
		t.Errorf("a link out of the folder: %v", err)
	}
}

// TestGuess shows which runtime and handler are taken for what is there.
func TestGuess(t *testing.T) {
	for name, row := range map[string]struct {
		files            map[string]string
		runtime, handler string // given
		want             string // empty: a mistake
	}{
		"AWS's own name":     {map[string]string{"lambda_function.py": "def lambda_handler(e, c): pass", "other.py": ""}, "", "", "python3.12 lambda_function.lambda_handler"},
		"async handler":      {map[string]string{"handler.py": "async def handler(event, context):\n  pass"}, "", "", "python3.12 handler.handler"},
		"typed handler":      {map[string]string{"x.py": "def helper(a):\n  pass\ndef go(event: dict, context) -> int:\n  pass"}, "", "", "python3.12 x.go"},
		"module":             {map[string]string{"index.mjs": "export const handler = 1"}, "", "", "nodejs22.x index.handler"},
		"one export":         {map[string]string{"index.js": "exports.main = async () => 1"}, "", "", "nodejs22.x index.main"},
		"program":            {map[string]string{"bootstrap": "#!/bin/sh"}, "", "", "provided.al2023 bootstrap"},
		"runtime given":      {map[string]string{"index.mjs": "", "app.py": "def handler(e, c): pass"}, "python3.9", "", "python3.9 app.handler"},
		"both given":         {map[string]string{"x": ""}, "python3.9", "a.b", "python3.9 a.b"},
		"handler given":      {map[string]string{"foo.py": "", "app.js": ""}, "", "foo.handler", "python3.12 foo.handler"},
		"nothing tells":      {map[string]string{"a.py": "", "b.py": ""}, "", "", ""},
		"nothing there fits": {map[string]string{"readme.md": ""}, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeTree(t, dir, row.files)
			p, err := pack(dir)
			if err != nil {
				t.Fatal(err)
			}
			runtime, handler, err := guess(p, row.runtime, row.handler)
			if got := strings.TrimSpace(runtime + " " + handler); got != row.want || (err != nil) != (row.want == "") {
				t.Errorf("got %q, %v, want %q", got, err, row.want)
			}
		})
	}
}

// TestConfig shows that every key is printed with its variable, and that a mistake in the environment is told.
func TestConfig(t *testing.T) {
	env := map[string]string{"HOME": "/h", "KILN_INSTANCES_MAX": "7"}
	status, out, errs := call(t, "", env, "config")
	if status != 0 || !strings.Contains(out, "instances.max") || !strings.Contains(out, "KILN_RETENTION_CONTAINER") {
		t.Errorf("status %d, err %q, out:\n%s", status, errs, out)
	}
	_, out, _ = call(t, "", env, "config", "--json")
	if !strings.Contains(out, `"value": "7"`) {
		t.Errorf("the value set is not shown:\n%s", out)
	}
	env["KILN_INSTANCES_MAX"] = "no"
	if status, _, errs := call(t, "", env, "config"); status != 2 || !strings.Contains(errs, "instances.max") {
		t.Errorf("status %d, err %q", status, errs)
	}
}

func writeTree(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNeedsRoot shows that only drivers of containers are refused to those who are not root.
func TestNeedsRoot(t *testing.T) {
	for driver, want := range map[string]bool{"auto": true, "container": true, "process": false, "gvisor": false} {
		if err := needsRoot(driver, 1000); (err != nil) != want {
			t.Errorf("%s: %v", driver, err)
		}
		if err := needsRoot(driver, 0); err != nil {
			t.Errorf("%s as root: %v", driver, err)
		}
	}
}

// TestDeployUpdate shows what an update keeps: runtime and handler, unless the package does not hold the handler's file;
// and that it waits for a change somebody else makes, or for a function somebody else creates.
func TestDeployUpdate(t *testing.T) {
	const create, get = "POST /2015-03-31/functions", "GET /2015-03-31/functions/f/configuration"
	const code, configuration = "PUT /2015-03-31/functions/f/code", "PUT /2015-03-31/functions/f/configuration"
	const was = `{"FunctionArn":"arn:x","State":"Active","LastUpdateStatus":"Successful","Runtime":"python3.9","Handler":"app.go"}`
	refuse := func(message string, then func()) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			then()
			w.Header().Set("X-Amzn-Errortype", "ResourceConflictException")
			w.WriteHeader(http.StatusConflict)
			fmt.Fprintf(w, `{"Type":"User","Message":%q}`, message)
		}
	}
	for name, row := range map[string]struct {
		files  map[string]string
		flags  string
		busy   bool // an update is in progress
		raced  bool // somebody creates it in between
		status int
		want   string // of the new configuration; empty: none is sent
		told   string
	}{
		"keeps":            {files: map[string]string{"app.py": "", "index.mjs": ""}, told: "updating f"},
		"another file":     {files: map[string]string{"main.py": "def handler(e, c): pass"}, want: `{"Handler":"main.handler"}`, told: "app.go is not in this package"},
		"another language": {files: map[string]string{"index.mjs": "export const handler = 1"}, want: `"Runtime":"nodejs`, told: "taking runtime nodejs"},
		"nothing fits":     {files: map[string]string{"readme.md": ""}, status: 2, told: "f exists and calls app.go, which is not in this package"},
		"handler given":    {files: map[string]string{"readme.md": ""}, flags: "--handler x.y", want: `{"Handler":"x.y"}`},
		"busy":             {files: map[string]string{"app.py": ""}, busy: true},
		"raced":            {files: map[string]string{"app.py": "def go(e, c): pass"}, raced: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStranger(t, map[string]func(http.ResponseWriter){get: say(was), code: say(was), configuration: say(was)})
			if row.busy {
				s.answers[code] = refuse("The operation cannot be performed at this time. An update is in progress for resource: x", func() { s.answers[code] = say(was) })
			}
			if row.raced {
				delete(s.answers, get)
				s.answers[create] = refuse("Function already exist: f", func() { s.answers[get] = say(was) })
			}
			dir := t.TempDir()
			writeTree(t, dir, row.files)
			args := append([]string{"deploy", dir, "--name", "f", "--data", s.data}, strings.Fields(row.flags)...)
			status, _, errs := call(t, "", nil, args...)
			raced := strings.Contains(errs, "creating f\n") && strings.Contains(errs, "updating f\n")
			if status != row.status || raced != row.raced || !strings.Contains(errs, row.told) {
				t.Errorf("status %d, err %q", status, errs)
			}
			if sent := string(s.body(configuration)); !strings.Contains(sent, row.want) || (row.want == "") != (sent == "") {
				t.Errorf("sent %s", sent)
			}
		})
	}
}

// TestLogs shows how many lines are asked for, that a log that was cut is told of, and how a function may be named.
func TestLogs(t *testing.T) {
	s := newStranger(t, map[string]func(http.ResponseWriter){
		"GET /kiln/v1/logs/f?limit=2":                            say("a\nb\n"),
		"GET /kiln/v1/logs/f?limit=1000":                         say("a\nb\n"),
		"GET /kiln/v1/logs/f?account=000000000001&limit=2":       say("c\n"),
		"GET /kiln/v1/executions?function=f&limit=100&version=7": say(`{"items":[]}`),
		"GET /kiln/v1/executions?function=f&limit=100":           say(`{"items":[]}`),
	})
	for line, want := range map[string]string{
		"logs f -n 2":                     "these are the newest 2 lines",
		"logs f --limit 0":                "",
		"logs f:live -n 2":                "all of f",
		"logs f -n 1001":                  "1000 lines at most",
		"logs f -n -1":                    "give at least 1",
		"logs a.b":                        "is no function",
		"logs":                            "takes one argument",
		"ls executions --function f:7":    "no executions",
		"ls executions --function f:live": "all of f",
		"logs arn:aws:lambda:us-east-1:000000000001:function:f -n 2": "",
	} {
		status, out, errs := call(t, "", nil, append(strings.Fields(line), "--data", s.data)...)
		if mistaken := strings.HasPrefix(errs, "kiln: ") && out == ""; !strings.Contains(errs, want) || want == "" && (errs != "" || out == "") || mistaken != (status == 2) {
			t.Errorf("%s: status %d, out %q, err %q", line, status, out, errs)
		}
	}
}

// TestEmptyFlags shows that a value nobody can mean is refused before anything is asked of a server.
func TestEmptyFlags(t *testing.T) {
	for _, args := range [][]string{{"invoke", ""}, {"logs", ""}, {"invoke", "f", "--memory", "0"}, {"run", "x", "--timeout", "-1"}, {"deploy", "x", "--timeout", "0"},
		{"deploy", "x", "--handler", ""}, {"deploy", "x", "--name", ""}, {"run", "x", "--handler="}, {"ls", "events", "--limit", "-1"}} {
		if status, out, errs := call(t, "", nil, append(args, "--data", t.TempDir())...); status != 2 || out != "" || !strings.Contains(errs, "give ") {
			t.Errorf("%q: status %d, out %q, err %q", args, status, out, errs)
		}
	}
}

// TestTold shows which identifier of AWS's an interpreter is taken for by its version.
func TestTold(t *testing.T) {
	for _, row := range [][3]string{{"python", "Python 3.11.2\n", "python3.11"}, {"nodejs", "v22.1.0\n", "nodejs22.x"}, {"nodejs", "v23.1.0\n", ""}, {"python", "?", ""}} {
		if got := told(row[0], row[1]); got != row[2] {
			t.Errorf("%q: %q, want %q", row[1], got, row[2])
		}
	}
}

// TestServeRefused shows that what keeps a server from starting is said in words, with the system's own.
func TestServeRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	writeTree(t, filepath.Dir(file), map[string]string{"file": ""})
	if status, _, errs := call(t, "", nil, "serve", "--driver", "process", "--data", file); status != 2 || !strings.Contains(errs, "is a file, not a folder") {
		t.Errorf("status %d, err %q", status, errs)
	}
	_, err := net.Listen("tcp", "127.0.0.1:99999")
	if said := explained(kiln.Wrap(kiln.KindUnavailable, "server: listen", "cannot listen", err)); !strings.HasPrefix(said, "cannot listen: ") {
		t.Errorf("said %q of %v", said, err)
	}
}

package kilntest

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"kiln/test/guests"
)

// Role is a role that no one looks at.
const Role = "arn:aws:iam::000000000000:role/function"

// ActiveWithin bounds the time from create to active.
const ActiveWithin = 10 * time.Second

// Function is what a test deploys.
type Function struct {
	Name, Runtime, Handler string
	// Files is the package's content. "bootstrap" and what is under "bin/" is executable.
	Files map[string][]byte
	// MemoryMiB, TimeoutSeconds: 0 leaves AWS's defaults.
	MemoryMiB, TimeoutSeconds int
	Environment, Tags         map[string]string
}

// The identifiers of the runtimes the tests use. python3.11 and nodejs20.x are what Debian 12 and its like carry.
const (
	PythonRuntime   = "python3.11"
	NodeRuntime     = "nodejs20.x"
	ProvidedRuntime = "provided.al2023"
)

// Probe gives the function that tells where it is, in one of the languages "python", "node" and "go": see Facts.
func Probe(tb testing.TB, language, name string) Function {
	tb.Helper()
	switch language {
	case "python":
		return Function{Name: name, Runtime: PythonRuntime, Handler: "probe.handler", MemoryMiB: 256, TimeoutSeconds: 30,
			Files: map[string][]byte{"probe.py": Guest(tb, "probe.py")}}
	case "node":
		if _, err := exec.LookPath("node"); err != nil {
			Skip(tb, "there is no node on this machine")
		}
		return Function{Name: name, Runtime: NodeRuntime, Handler: "probe.handler", MemoryMiB: 256, TimeoutSeconds: 30,
			Files: map[string][]byte{"probe.mjs": Guest(tb, "probe.mjs")}}
	case "go":
		return Function{Name: name, Runtime: ProvidedRuntime, Handler: "bootstrap", MemoryMiB: 256, TimeoutSeconds: 30,
			Files: map[string][]byte{"bootstrap": GoGuest(tb, "probe")}}
	}
	tb.Fatalf("there is no probe in %q", language)
	return Function{}
}

// Facts is what a probe says of the place it runs in, read from the kernel and not from Kiln.
type Facts struct {
	MachineID   string  `json:"machineId"`   // /etc/machine-id
	Hostname    string  `json:"hostname"`    // gethostname
	Pid         int     `json:"pid"`         // as the code sees it
	Count       int     `json:"count"`       // executions of this process
	Constant    string  `json:"constant"`    // compiled into the code
	MemoryLimit int64   `json:"memoryLimit"` // bytes, of its own cgroup
	CPUs        float64 `json:"cpus"`        // quota by period of its own cgroup; -1 for none
	ProcessAt   float64 `json:"processAt"`   // when this process was started, in seconds since 1970
	LoadedAt    float64 `json:"loadedAt"`    // when the code was loaded
	BeganAt     float64 `json:"beganAt"`     // when this execution began
	EndedAt     float64 `json:"endedAt"`     // when this execution ended
	Marker      string  `json:"marker"`      // what /tmp/marker held
	MemorySize  string  `json:"memorySize"`  // AWS_LAMBDA_FUNCTION_MEMORY_SIZE
	Interfaces  string  `json:"interfaces"`  // names of /proc/net/dev, by spaces
	Event       any     `json:"event"`       // as it arrived
}

// Facts demands a successful answer of a probe.
func (n *Answer) Facts() Facts {
	n.tb.Helper()
	n.OK()
	var f Facts
	n.JSON(&f)
	if f.MachineID == "" || f.Hostname == "" || f.Count == 0 {
		n.tb.Fatalf("not the answer of a probe: %s", clip(n.Body))
	}
	return f
}

// TryFacts is Facts for any goroutine of the test.
func (n *Answer) TryFacts() (f Facts, err error) {
	if err := n.Failure(); err != nil {
		return f, err
	}
	if err := json.Unmarshal(n.Body, &f); err != nil || f.Count == 0 {
		return f, fmt.Errorf("not the answer of a probe (%v): %s", err, clip(n.Body))
	}
	return f, nil
}

// Seconds gives an instant as probes tell it.
func Seconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

// Guest gives the source of a test function.
func Guest(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := guests.Files.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// goGuests gives each compiled guest, the main package test/guests/NAME, built once a run.
var goGuests = map[string]func() ([]byte, error){
	"probe": goGuest("probe"),
	"awsgo": goGuest("awsgo"),
	"tool":  goGuest("tool"),
}

func goGuest(name string) func() ([]byte, error) {
	return sync.OnceValues(func() ([]byte, error) {
		dir, err := os.MkdirTemp("", "kilntest-guest-")
		if err != nil {
			return nil, err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		path := filepath.Join(dir, name)
		if err := GoBuild("kiln/test/guests/"+name, path); err != nil {
			return nil, err
		}
		return os.ReadFile(path)
	})
}

// GoGuest gives a compiled test function: "probe", "awsgo" or "tool".
func GoGuest(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := goGuests[name]()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// placeholder is what a probe's constant is before a test compiles its own in.
const placeholder = "@CONSTANT@"

// Constant gives a copy of a probe with a constant of its own compiled in: ten letters, for it takes the place of others
// in a binary.
func (f Function) Constant(text string) Function {
	if len(text) != len(placeholder) {
		panic(fmt.Sprintf("kilntest: the constant %q has not %d bytes", text, len(placeholder)))
	}
	files := maps.Clone(f.Files)
	for name, b := range files {
		files[name] = bytes.ReplaceAll(b, []byte(placeholder), []byte(text))
	}
	f.Files = files
	return f
}

// Zip packs the function's files in a fixed order.
func (f Function) Zip(tb testing.TB) []byte {
	tb.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	names := make([]string, 0, len(f.Files))
	for name := range f.Files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate}
		h.SetMode(0o644)
		if name == "bootstrap" || strings.HasPrefix(name, "bin/") {
			h.SetMode(0o755)
		}
		file, err := w.CreateHeader(h)
		if err == nil {
			_, err = file.Write(f.Files[name])
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// Unique gives a copy with a file of its own in the package, so that no other function has the same digest.
func (f Function) Unique() Function {
	f.Files = maps.Clone(f.Files)
	f.Files["unique-"+rand.Text()] = []byte(f.Name)
	return f
}

// Input is the function as AWS's client creates it.
func (f Function) Input(tb testing.TB) *lambda.CreateFunctionInput {
	tb.Helper()
	in := &lambda.CreateFunctionInput{FunctionName: aws.String(f.Name), Runtime: types.Runtime(f.Runtime), Handler: aws.String(f.Handler),
		Role: aws.String(Role), Code: &types.FunctionCode{ZipFile: f.Zip(tb)}}
	if f.MemoryMiB != 0 {
		in.MemorySize = aws.Int32(int32(f.MemoryMiB))
	}
	if f.TimeoutSeconds != 0 {
		in.Timeout = aws.Int32(int32(f.TimeoutSeconds))
	}
	in.Tags = f.Tags
	if f.Environment != nil {
		in.Environment = &types.Environment{Variables: f.Environment}
	}
	return in
}

// Deploy creates a function with a package of its own and waits until it is active.
func (a *Account) Deploy(f Function) {
	a.tb.Helper()
	f = f.Unique()
	if _, err := a.Lambda().CreateFunction(context.Background(), f.Input(a.tb)); err != nil {
		a.tb.Fatalf("create %s: %v", f.Name, err)
	}
	a.WaitActive(f.Name)
}

// WaitActive waits until a function can be invoked and its last update has ended.
func (a *Account) WaitActive(name string) {
	a.tb.Helper()
	client := a.Lambda()
	Eventually(a.tb, ActiveWithin, func() error {
		c, err := client.GetFunctionConfiguration(context.Background(), &lambda.GetFunctionConfigurationInput{FunctionName: aws.String(name)})
		if err != nil {
			return err
		}
		if c.State != types.StateActive || c.LastUpdateStatus != types.LastUpdateStatusSuccessful {
			return fmt.Errorf("%s is %s (%s), last update %s", name, c.State, aws.ToString(c.StateReason), c.LastUpdateStatus)
		}
		return nil
	})
}

// Pin tags a function with the fleet that is to serve it.
func (a *Account) Pin(function, fleet string) {
	a.tb.Helper()
	if err := a.TryPin(function, fleet); err != nil {
		a.tb.Fatal(err)
	}
}

// TryPin is Pin for a fleet that may be refused.
func (a *Account) TryPin(function, fleet string) error {
	_, err := a.Lambda().TagResource(a.tb.Context(), &lambda.TagResourceInput{
		Resource: aws.String("arn:aws:lambda:" + a.Region + ":" + a.ID + ":function:" + function),
		Tags:     map[string]string{"kiln:fleet": fleet}})
	return err
}

// Probe deploys a probe and gives back its name.
func (a *Account) Probe(language, name string) string {
	a.tb.Helper()
	a.Deploy(Probe(a.tb, language, name))
	return name
}

func base64Text(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

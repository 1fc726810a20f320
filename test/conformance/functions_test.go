package conformance

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"kiln/test/kilntest"
)

// A function's life by AWS's Go SDK: created pending, active by the waiter, every member as given or AWS's default,
// read, changed, listed, deleted. // R1 R5 R6
func TestFunctionLife(t *testing.T) {
	a := account(t)
	client, ctx := a.Lambda(), within(t, time.Minute)
	f := python("life", greet)
	f.MemoryMiB, f.TimeoutSeconds = 0, 0
	in := f.Input(t)
	in.Description = aws.String("what it does")
	in.Environment = &types.Environment{Variables: map[string]string{"STAGE": "test"}}
	zip := in.Code.ZipFile
	sum := sha256.Sum256(zip)
	created, err := client.CreateFunction(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	if created.State != types.StatePending && created.State != types.StateActive {
		t.Errorf("state after create: %s", created.State)
	}
	waiter := lambda.NewFunctionActiveV2Waiter(client)
	got, err := waiter.WaitForOutput(ctx, &lambda.GetFunctionInput{FunctionName: named("life")}, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	c := got.Configuration
	for what, same := range map[string]bool{
		"name":          aws.ToString(c.FunctionName) == "life",
		"arn":           aws.ToString(c.FunctionArn) == "arn:aws:lambda:us-east-1:"+a.ID+":function:life",
		"runtime":       string(c.Runtime) == kilntest.PythonRuntime,
		"role":          aws.ToString(c.Role) == kilntest.Role,
		"handler":       aws.ToString(c.Handler) == "f.handler",
		"description":   aws.ToString(c.Description) == "what it does",
		"timeout":       aws.ToInt32(c.Timeout) == 3,
		"memory":        aws.ToInt32(c.MemorySize) == 128,
		"version":       aws.ToString(c.Version) == "$LATEST",
		"size":          c.CodeSize == int64(len(zip)),
		"sha256":        aws.ToString(c.CodeSha256) == base64.StdEncoding.EncodeToString(sum[:]),
		"package type":  c.PackageType == types.PackageTypeZip,
		"architectures": len(c.Architectures) == 1 && c.Architectures[0] == types.ArchitectureX8664,
		"storage":       c.EphemeralStorage != nil && aws.ToInt32(c.EphemeralStorage.Size) == 512,
		"tracing":       c.TracingConfig != nil && c.TracingConfig.Mode == types.TracingModePassThrough,
		"environment":   c.Environment != nil && c.Environment.Variables["STAGE"] == "test",
		"state":         c.State == types.StateActive && c.LastUpdateStatus == types.LastUpdateStatusSuccessful,
		"revision":      aws.ToString(c.RevisionId) != "",
		"modified":      regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000$`).MatchString(aws.ToString(c.LastModified)),
		"log group":     c.LoggingConfig != nil && aws.ToString(c.LoggingConfig.LogGroup) == "/aws/lambda/life" && c.LoggingConfig.LogFormat == types.LogFormatText,
		"snap start":    c.SnapStart != nil && c.SnapStart.ApplyOn == types.SnapStartApplyOnNone,
	} {
		if !same {
			t.Errorf("%s is not as given or by default: %+v", what, c)
		}
	}
	if got := download(t, aws.ToString(got.Code.Location)); !bytes.Equal(got, zip) {
		t.Errorf("Code.Location serves %d bytes, not the %d of the zip", len(got), len(zip))
	}
	if _, err := client.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: named("life")}); err != nil {
		t.Fatal(err)
	}
	_, err = client.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: named("life")})
	gone := isError[*types.ResourceNotFoundException](t, err)
	if want := "Function not found: arn:aws:lambda:us-east-1:" + a.ID + ":function:life"; gone.ErrorMessage() != want {
		t.Errorf("message %q, want %q", gone.ErrorMessage(), want)
	}
}

func download(t *testing.T, url string) []byte {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("GET Code.Location: %d %v %.300s", res.StatusCode, err, b)
	}
	return b
}

// Changes of code and configuration: the waiter sees the update end, later requests run the new, every change has a new
// revision, and one that names an old revision is refused with 412. // R1
func TestFunctionChanges(t *testing.T) {
	a := account(t)
	client, ctx := a.Lambda(), within(t, time.Minute)
	a.Deploy(python("changes", "def handler(event, context):\n    return 'one'\n"))
	before, err := client.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: named("changes")})
	if err != nil {
		t.Fatal(err)
	}
	if out := invoke(t, client, &lambda.InvokeInput{FunctionName: named("changes")}); string(out.Payload) != `"one"` {
		t.Errorf("answer %s", out.Payload)
	}
	two := python("changes", "import os\ndef handler(event, context):\n    return 'two ' + os.environ.get('MOOD', '')\n")
	code := &lambda.UpdateFunctionCodeInput{FunctionName: named("changes"), ZipFile: two.Zip(t)}
	dry := *code
	dry.DryRun = true
	if _, err := client.UpdateFunctionCode(ctx, &dry); err != nil {
		t.Errorf("dry run: %v", err)
	}
	updated, err := client.UpdateFunctionCode(ctx, code)
	if err != nil {
		t.Fatal(err)
	}
	waitUpdated(t, client, "changes")
	if aws.ToString(updated.RevisionId) == aws.ToString(before.RevisionId) || aws.ToString(updated.CodeSha256) == aws.ToString(before.CodeSha256) {
		t.Errorf("revision or digest did not change: %+v", updated)
	}
	_, err = client.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: named("changes"),
		RevisionId: before.RevisionId, Description: aws.String("late")})
	isError[*types.PreconditionFailedException](t, err)
	if _, err := client.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: named("changes"),
		Environment: &types.Environment{Variables: map[string]string{"MOOD": "bright"}}, MemorySize: aws.Int32(384)}); err != nil {
		t.Fatal(err)
	}
	waitUpdated(t, client, "changes")
	if out := invoke(t, client, &lambda.InvokeInput{FunctionName: named("changes")}); string(out.Payload) != `"two bright"` {
		t.Errorf("answer after both changes: %s", out.Payload)
	}
	after, err := client.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: named("changes")})
	if err != nil {
		t.Fatal(err)
	}
	if aws.ToInt32(after.MemorySize) != 384 || aws.ToInt32(after.Timeout) != 20 || aws.ToString(after.CodeSha256) != aws.ToString(updated.CodeSha256) {
		t.Errorf("after the change of two members: %+v", after)
	}
}

func waitUpdated(t *testing.T, client *lambda.Client, name string) {
	t.Helper()
	waiter := lambda.NewFunctionUpdatedV2Waiter(client)
	if err := waiter.Wait(within(t, time.Minute), &lambda.GetFunctionInput{FunctionName: named(name)}, 20*time.Second); err != nil {
		t.Fatal(err)
	}
}

// The list of functions comes in pages, each function once, and of this account alone. // R1
func TestFunctionsListedByPages(t *testing.T) {
	a, other := account(t), account(t)
	ctx := within(t, time.Minute)
	var want []string
	for n := range 7 {
		name := fmt.Sprintf("page-%d", n)
		want = append(want, name)
		if _, err := a.Lambda().CreateFunction(ctx, python(name, greet).Input(t)); err != nil {
			t.Fatal(err)
		}
	}
	other.Deploy(python("not-yours", greet))
	var got []string
	pages := lambda.NewListFunctionsPaginator(a.Lambda(), &lambda.ListFunctionsInput{MaxItems: aws.Int32(3)})
	count := 0
	for ; pages.HasMorePages() && count < 20; count++ {
		page, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Functions) > 3 {
			t.Errorf("a page of %d", len(page.Functions))
		}
		for _, f := range page.Functions {
			got = append(got, aws.ToString(f.FunctionName))
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) || count != 3 {
		t.Errorf("%d pages give %v", count, got)
	}
}

// Errors are what AWS's SDK makes types of, with AWS's texts. // R1
func TestErrorShapes(t *testing.T) {
	a := account(t)
	client, ctx := a.Lambda(), within(t, time.Minute)
	a.Deploy(python("there", greet))
	_, err := client.CreateFunction(ctx, python("there", greet).Input(t))
	exists := isError[*types.ResourceConflictException](t, err)
	if exists.ErrorMessage() != "Function already exist: there" || aws.ToString(exists.Type) != "User" {
		t.Errorf("conflict: %q of type %q", exists.ErrorMessage(), aws.ToString(exists.Type))
	}
	_, err = client.Invoke(ctx, &lambda.InvokeInput{FunctionName: named("absent")})
	absent := isError[*types.ResourceNotFoundException](t, err)
	if !strings.HasPrefix(absent.ErrorMessage(), "Function not found: arn:aws:lambda:us-east-1:"+a.ID+":function:absent") {
		t.Errorf("absent: %q", absent.ErrorMessage())
	}
	_, err = client.Invoke(ctx, &lambda.InvokeInput{FunctionName: named("there"), Qualifier: aws.String("7")})
	isError[*types.ResourceNotFoundException](t, err)
	_, err = client.Invoke(ctx, &lambda.InvokeInput{FunctionName: named("there"), Payload: []byte("{")})
	isError[*types.InvalidRequestContentException](t, err)

	for what, change := range map[string]func(*lambda.CreateFunctionInput){
		"broken zip": func(in *lambda.CreateFunctionInput) { in.Code.ZipFile = []byte("no zip") },
		"no code":    func(in *lambda.CreateFunctionInput) { in.Code = &types.FunctionCode{} },
		"no handler": func(in *lambda.CreateFunctionInput) { in.Handler = nil },
		"reserved": func(in *lambda.CreateFunctionInput) {
			in.Environment = &types.Environment{Variables: map[string]string{"AWS_REGION": "x"}}
		},
		"runtime":      func(in *lambda.CreateFunctionInput) { in.Runtime = "cobol85" },
		"much memory":  func(in *lambda.CreateFunctionInput) { in.MemorySize = aws.Int32(20000) },
		"long timeout": func(in *lambda.CreateFunctionInput) { in.Timeout = aws.Int32(4000) },
		"big environment": func(in *lambda.CreateFunctionInput) {
			in.Environment = &types.Environment{Variables: map[string]string{"A": strings.Repeat("x", 5000)}}
		},
	} {
		in := python("wrong", greet).Input(t)
		change(in)
		if _, err := client.CreateFunction(ctx, in); err == nil {
			t.Errorf("%s: it was let in", what)
		} else if !strings.Contains(err.Error(), "InvalidParameterValueException") && !strings.Contains(err.Error(), "ValidationException") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A value outside the model's constraints is refused with AWS's own sentence. // R1
func TestValidationText(t *testing.T) {
	a := account(t)
	client, ctx := a.Lambda(), within(t, time.Minute)
	in := python("small", greet).Input(t)
	in.MemorySize = aws.Int32(64)
	_, err := client.CreateFunction(ctx, in)
	const memory = "1 validation error detected: Value '64' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128"
	if text := isCode(t, err, "ValidationException").ErrorMessage(); text != memory {
		t.Errorf("got  %q\nwant %q", text, memory)
	}
	in.Timeout, in.Handler = aws.Int32(0), aws.String("two words")
	_, err = client.CreateFunction(ctx, in)
	text := isCode(t, err, "ValidationException").ErrorMessage()
	for _, part := range []string{"3 validation errors detected: ", "Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1",
		"Value 'two words' at 'handler' failed to satisfy constraint: Member must satisfy regular expression pattern: ", "; "} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in %q", part, text)
		}
	}
}

// A function that is answered as active can be invoked with the next call, and waiters are content. // R1
func TestActiveAtOnce(t *testing.T) {
	a := account(t)
	client, ctx := a.Lambda(), within(t, time.Minute)
	created, err := client.CreateFunction(ctx, python("at-once", greet).Input(t))
	if err != nil || created.State != types.StateActive || created.LastUpdateStatus != types.LastUpdateStatusSuccessful {
		t.Fatal(created, err)
	}
	invoke(t, client, &lambda.InvokeInput{FunctionName: named("at-once")})
	waiter := lambda.NewFunctionActiveV2Waiter(client)
	if err := waiter.Wait(ctx, &lambda.GetFunctionInput{FunctionName: named("at-once")}, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	invoke(t, client, &lambda.InvokeInput{FunctionName: named("at-once")})
}

// What is not served yet is answered 501 with a sentence that names it, and the SDK tries it once. // R1
func TestUnservedIsNotRetried(t *testing.T) {
	a := account(t)
	a.Deploy(python("there", greet))
	tries := &counter{next: http.DefaultTransport}
	client := a.Lambda(func(o *lambda.Options) { o.HTTPClient = &http.Client{Transport: tries} })
	ctx := within(t, time.Minute)
	calls := map[string]func() error{
		"ListLayers": func() error { _, err := client.ListLayers(ctx, &lambda.ListLayersInput{}); return err },
		"ListEventSourceMappings": func() error {
			_, err := client.ListEventSourceMappings(ctx, &lambda.ListEventSourceMappingsInput{})
			return err
		},
		"ListCodeSigningConfigs": func() error {
			_, err := client.ListCodeSigningConfigs(ctx, &lambda.ListCodeSigningConfigsInput{})
			return err
		},
	}
	for name, call := range calls {
		tries.count = 0
		api := isCode(t, call(), "UnknownOperationException")
		if !strings.Contains(api.ErrorMessage(), name) || tries.count != 1 || tries.status != http.StatusNotImplemented {
			t.Errorf("%s: %d after %d tries: %q", name, tries.status, tries.count, api.ErrorMessage())
		}
	}
	unknown := a.Do(kilntest.Call{Method: http.MethodGet, Path: "/2015-03-31/nothing/of/the/kind"})
	if unknown.Status != http.StatusNotFound || !strings.Contains(unknown.Header.Get("Content-Type"), "json") {
		t.Errorf("an unknown route: %d %s %s", unknown.Status, unknown.Header.Get("Content-Type"), unknown.Body)
	}
}

// counter counts the requests of an SDK and remembers the last status.
type counter struct {
	next          http.RoundTripper
	count, status int // of one goroutine
}

func (c *counter) RoundTrip(req *http.Request) (*http.Response, error) {
	c.count++
	res, err := c.next.RoundTrip(req)
	if err == nil {
		c.status = res.StatusCode
	}
	return res, err
}

// Every answer has AWS's request id, paths are taken with and without a trailing slash, and escaped names are read.
// // R1 R7
func TestWireForms(t *testing.T) {
	a := account(t)
	a.Deploy(python("wire", greet))
	arn := "arn%3Aaws%3Alambda%3Aus-east-1%3A" + a.ID + "%3Afunction%3Awire"
	for _, path := range []string{"/2015-03-31/functions/", "/2015-03-31/functions", "/2015-03-31/functions/wire", "/2015-03-31/functions/" + arn,
		"/2015-03-31/functions/wire%3A%24LATEST", "/2016-08-19/account-settings/", "/2015-03-31/functions/wire/versions"} {
		answer := a.Do(kilntest.Call{Method: http.MethodGet, Path: path})
		if answer.Status != http.StatusOK || answer.RequestID() == "" {
			t.Errorf("GET %s: %d, request id %q: %s", path, answer.Status, answer.RequestID(), answer.Body)
		}
	}
	nobody := a.Do(kilntest.Call{Method: http.MethodGet, Path: "/2015-03-31/functions/nobody"})
	if nobody.RequestID() == "" || nobody.Header.Get("X-Amzn-Errortype") != "ResourceNotFoundException" {
		t.Errorf("an error's headers: %v", nobody.Header)
	}
	if _, err := a.Lambda().GetFunction(context.Background(), &lambda.GetFunctionInput{FunctionName: aws.String("wire"), Qualifier: aws.String("$LATEST")}); err != nil {
		t.Error(err)
	}
}

package conformance

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"kiln/test/kilntest"
)

// Invoke by the SDK: an answer with its version and log, a dry run that runs nothing, and a failing function that is a
// result and not an error. // R7 R18
func TestInvoke(t *testing.T) {
	a := account(t)
	client := a.Lambda()
	a.Deploy(python("invoked", "count = 0\ndef handler(event, context):\n    global count\n    count += 1\n    if event.get('fail'):\n        raise ValueError('as asked')\n    return count\n"))
	out := invoke(t, client, &lambda.InvokeInput{FunctionName: named("invoked"), LogType: types.LogTypeTail})
	if out.StatusCode != 200 || string(out.Payload) != "1" || aws.ToString(out.ExecutedVersion) != "$LATEST" || out.FunctionError != nil {
		t.Errorf("%d %s version %q error %q", out.StatusCode, out.Payload, aws.ToString(out.ExecutedVersion), aws.ToString(out.FunctionError))
	}
	if log, err := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult)); err != nil || !strings.Contains(string(log), "REPORT RequestId: ") {
		t.Errorf("log %q (%v)", log, err)
	}
	dry := invoke(t, client, &lambda.InvokeInput{FunctionName: named("invoked"), InvocationType: types.InvocationTypeDryRun})
	if dry.StatusCode != http.StatusNoContent || len(dry.Payload) != 0 {
		t.Errorf("dry run: %d %s", dry.StatusCode, dry.Payload)
	}
	if out := invoke(t, client, &lambda.InvokeInput{FunctionName: named("invoked")}); string(out.Payload) != "2" {
		t.Errorf("the dry run ran: counter %s", out.Payload)
	}
	failed := invoke(t, client, &lambda.InvokeInput{FunctionName: named("invoked"), Payload: []byte(`{"fail":true}`)})
	if failed.StatusCode != 200 || aws.ToString(failed.FunctionError) != "Unhandled" {
		t.Errorf("a failing function: %d, error %q", failed.StatusCode, aws.ToString(failed.FunctionError))
	}
	var body struct{ ErrorType, ErrorMessage string }
	if err := json.Unmarshal(failed.Payload, &body); err != nil || body.ErrorType != "ValueError" || body.ErrorMessage != "as asked" {
		t.Errorf("its payload (%v): %s", err, failed.Payload)
	}
	wrong := a.Invoke(kilntest.Invocation{Function: "invoked", Type: "Sometimes"})
	if wrong.Status != http.StatusBadRequest {
		t.Errorf("an invocation type nobody knows: %d %s", wrong.Status, wrong.Body)
	}
}

// Versions are immutable: published ones go on running the code and configuration they had, whatever becomes of
// $LATEST. // R1
func TestVersions(t *testing.T) {
	a := account(t)
	client, ctx := a.Lambda(), within(t, time.Minute)
	a.Deploy(python("versioned", "import os\ndef handler(event, context):\n    return 'one ' + context.function_version\n"))
	first := publish(t, client, "versioned")
	if again := publish(t, client, "versioned"); aws.ToString(again.Version) != "1" {
		t.Errorf("nothing changed, and version %s was published", aws.ToString(again.Version))
	}
	two := python("versioned", "def handler(event, context):\n    return 'two ' + context.function_version\n")
	if _, err := client.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: named("versioned"), ZipFile: two.Zip(t)}); err != nil {
		t.Fatal(err)
	}
	waitUpdated(t, client, "versioned")
	second := publish(t, client, "versioned")
	if aws.ToString(first.Version) != "1" || aws.ToString(second.Version) != "2" || !strings.HasSuffix(aws.ToString(second.FunctionArn), ":versioned:2") {
		t.Errorf("versions %q and %q, arn %q", aws.ToString(first.Version), aws.ToString(second.Version), aws.ToString(second.FunctionArn))
	}
	for qualifier, want := range map[string]string{"1": "one 1", "2": "two 2", "$LATEST": "two $LATEST"} {
		out := invoke(t, client, &lambda.InvokeInput{FunctionName: named("versioned"), Qualifier: aws.String(qualifier)})
		if string(out.Payload) != strconv.Quote(want) || aws.ToString(out.ExecutedVersion) != qualifier {
			t.Errorf("%s: %s by version %q", qualifier, out.Payload, aws.ToString(out.ExecutedVersion))
		}
	}
	var listed []string
	pages := lambda.NewListVersionsByFunctionPaginator(client, &lambda.ListVersionsByFunctionInput{FunctionName: named("versioned"), MaxItems: aws.Int32(2)})
	for pages.HasMorePages() && len(listed) < 20 {
		page, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range page.Versions {
			listed = append(listed, aws.ToString(v.Version))
		}
	}
	if strings.Join(listed, " ") != "$LATEST 1 2" {
		t.Errorf("listed: %v", listed)
	}
	if _, err := client.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: named("versioned"), Qualifier: aws.String("1")}); err != nil {
		t.Error(err)
	}
	_, err := client.Invoke(ctx, &lambda.InvokeInput{FunctionName: named("versioned"), Qualifier: aws.String("1")})
	isError[*types.ResourceNotFoundException](t, err)
	invoke(t, client, &lambda.InvokeInput{FunctionName: named("versioned"), Qualifier: aws.String("2")})
}

func publish(t *testing.T, client *lambda.Client, name string) *lambda.PublishVersionOutput {
	t.Helper()
	out, err := client.PublishVersion(within(t, time.Minute), &lambda.PublishVersionInput{FunctionName: named(name)})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Aliases name versions, move, and share requests by weight; a version an alias names cannot be deleted. // R1
func TestAliases(t *testing.T) {
	a := account(t)
	client, ctx := a.Lambda(), within(t, 2*time.Minute)
	a.Deploy(python("aliased", "def handler(event, context):\n    return ['one', context.invoked_function_arn]\n"))
	publish(t, client, "aliased")
	two := python("aliased", "def handler(event, context):\n    return ['two', context.invoked_function_arn]\n")
	if _, err := client.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: named("aliased"), ZipFile: two.Zip(t)}); err != nil {
		t.Fatal(err)
	}
	waitUpdated(t, client, "aliased")
	publish(t, client, "aliased")
	made, err := client.CreateAlias(ctx, &lambda.CreateAliasInput{FunctionName: named("aliased"), Name: aws.String("live"), FunctionVersion: aws.String("1"), Description: aws.String("d")})
	if err != nil {
		t.Fatal(err)
	}
	arn := "arn:aws:lambda:us-east-1:" + a.ID + ":function:aliased:live"
	if aws.ToString(made.AliasArn) != arn || aws.ToString(made.RevisionId) == "" {
		t.Errorf("made %+v", made)
	}
	_, err = client.CreateAlias(ctx, &lambda.CreateAliasInput{FunctionName: named("aliased"), Name: aws.String("live"), FunctionVersion: aws.String("1")})
	isError[*types.ResourceConflictException](t, err)
	_, err = client.CreateAlias(ctx, &lambda.CreateAliasInput{FunctionName: named("aliased"), Name: aws.String("lost"), FunctionVersion: aws.String("9")})
	isError[*types.ResourceNotFoundException](t, err)
	out := invoke(t, client, &lambda.InvokeInput{FunctionName: named("aliased"), Qualifier: aws.String("live")})
	if aws.ToString(out.ExecutedVersion) != "1" || !strings.Contains(string(out.Payload), `"one"`) || !strings.Contains(string(out.Payload), arn) {
		t.Errorf("live ran version %q: %s", aws.ToString(out.ExecutedVersion), out.Payload)
	}
	_, err = client.UpdateAlias(ctx, &lambda.UpdateAliasInput{FunctionName: named("aliased"), Name: aws.String("live"),
		RoutingConfig: &types.AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{"2": 0.5}}})
	if err != nil {
		t.Fatal(err)
	}
	ran := map[string]int{}
	for range 60 {
		out := invoke(t, client, &lambda.InvokeInput{FunctionName: named("aliased:live")})
		word := string(out.Payload)[2:5]
		if want := map[string]string{"1": "one", "2": "two"}[aws.ToString(out.ExecutedVersion)]; want != word {
			t.Errorf("version %s said %q", aws.ToString(out.ExecutedVersion), word)
		}
		ran[word]++
	}
	// Fewer than 10 of 60 at one half: by chance once in 30 million runs.
	if ran["one"] < 10 || ran["two"] < 10 {
		t.Errorf("at weight 0.5 of 60 requests ran %v", ran)
	}
	aliasEnds(t, client)
}

// aliasEnds moves the alias, lists it and deletes it.
func aliasEnds(t *testing.T, client *lambda.Client) {
	t.Helper()
	ctx := within(t, time.Minute)
	_, err := client.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: named("aliased"), Qualifier: aws.String("1")})
	isError[*types.ResourceConflictException](t, err)
	moved, err := client.UpdateAlias(ctx, &lambda.UpdateAliasInput{FunctionName: named("aliased"), Name: aws.String("live"),
		FunctionVersion: aws.String("2"), RoutingConfig: &types.AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{}}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := client.GetAlias(ctx, &lambda.GetAliasInput{FunctionName: named("aliased"), Name: aws.String("live")})
	if err != nil || aws.ToString(got.FunctionVersion) != "2" || aws.ToString(got.RevisionId) != aws.ToString(moved.RevisionId) || aws.ToString(got.Description) != "d" {
		t.Errorf("moved to %+v (%v)", got, err)
	}
	if got != nil && got.RoutingConfig != nil && len(got.RoutingConfig.AdditionalVersionWeights) != 0 {
		t.Errorf("weights are still there: %+v", got.RoutingConfig)
	}
	list, err := client.ListAliases(ctx, &lambda.ListAliasesInput{FunctionName: named("aliased"), FunctionVersion: aws.String("2")})
	if err != nil || len(list.Aliases) != 1 {
		t.Errorf("aliases of version 2: %+v (%v)", list, err)
	}
	if _, err := client.DeleteAlias(ctx, &lambda.DeleteAliasInput{FunctionName: named("aliased"), Name: aws.String("live")}); err != nil {
		t.Error(err)
	}
	_, err = client.GetAlias(ctx, &lambda.GetAliasInput{FunctionName: named("aliased"), Name: aws.String("live")})
	isError[*types.ResourceNotFoundException](t, err)
}

// The account's settings are AWS's quotas and count what is there. // R1
func TestAccountSettings(t *testing.T) {
	a := account(t)
	a.Deploy(python("counted", greet))
	got, err := a.Lambda().GetAccountSettings(within(t, time.Minute), &lambda.GetAccountSettingsInput{})
	if err != nil {
		t.Fatal(err)
	}
	if got.AccountLimit == nil || got.AccountLimit.ConcurrentExecutions != 1000 || got.AccountLimit.CodeSizeZipped != 52428800 || got.AccountLimit.CodeSizeUnzipped != 262144000 {
		t.Errorf("limits %+v", got.AccountLimit)
	}
	if got.AccountUsage == nil || got.AccountUsage.FunctionCount != 1 || got.AccountUsage.TotalCodeSize == 0 {
		t.Errorf("usage %+v", got.AccountUsage)
	}
}

// STS says who one is. // R15
func TestCallerIdentity(t *testing.T) {
	a := account(t)
	client := sts.New(sts.Options{BaseEndpoint: aws.String(a.Server.URL), Region: a.Region, Credentials: a.Credentials()})
	got, err := client.GetCallerIdentity(within(t, time.Minute), &sts.GetCallerIdentityInput{})
	if err != nil {
		t.Fatal(err)
	}
	if aws.ToString(got.Account) != a.ID || !strings.HasPrefix(aws.ToString(got.Arn), "arn:aws:") || aws.ToString(got.UserId) == "" {
		t.Errorf("identity %+v", got)
	}
}

// A signature in the query is as good as one in the headers, until it has expired. // R15
func TestPresigned(t *testing.T) {
	a := account(t)
	a.Deploy(python("presigned", greet))
	get := func(expires string, at time.Time) (int, string) {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, a.Server.URL+"/2015-03-31/functions/presigned/configuration?X-Amz-Expires="+expires, nil)
		if err != nil {
			t.Fatal(err)
		}
		const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
		url, _, err := v4.NewSigner().PresignHTTP(context.Background(), aws.Credentials{AccessKeyID: a.Key, SecretAccessKey: a.Secret}, req, empty, "lambda", a.Region, at)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(b)
	}
	if status, body := get("300", time.Now()); status != http.StatusOK || !strings.Contains(body, `"presigned"`) {
		t.Errorf("presigned: %d %s", status, body)
	}
	if status, body := get("60", time.Now().Add(-10*time.Minute)); status != http.StatusForbidden {
		t.Errorf("expired: %d %s", status, body)
	}
}

// `kiln env` and `kiln key create` print what a shell needs; a further key of an account is as good as its first. // R15
func TestKeys(t *testing.T) {
	s := shared.Server(t)
	a := s.NewAccount(t)
	if a.Endpoint != s.URL || a.Region != "us-east-1" || len(a.ID) != 12 {
		t.Errorf("endpoint %q, region %q, account %q; the server is at %s", a.Endpoint, a.Region, a.ID, s.URL)
	}
	if operator := s.Operator(t); operator.ID != "000000000000" {
		t.Errorf("the default account is %q", operator.ID)
	}
	text, err := s.CLI("key", "create", "--account", a.ID, "--data", s.Data)
	if err != nil || !strings.Contains(text, a.ID) || strings.Contains(text, a.Key) {
		t.Fatalf("kiln key create: %v: %s", err, text)
	}
	exported := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		exported[name] = strings.Trim(value, `"'`)
	}
	answer := a.Do(kilntest.Call{Method: http.MethodGet, Path: "/2015-03-31/functions", Key: exported["AWS_ACCESS_KEY_ID"], Secret: exported["AWS_SECRET_ACCESS_KEY"]})
	answer.OK()
	revoked := exported["AWS_ACCESS_KEY_ID"]
	if text, err := s.CLI("key", "rm", revoked, "--data", s.Data); err != nil {
		t.Errorf("kiln key rm: %v: %s", err, text)
	}
	refused := a.Do(kilntest.Call{Method: http.MethodGet, Path: "/2015-03-31/functions", Key: revoked, Secret: exported["AWS_SECRET_ACCESS_KEY"]})
	if refused.Status != http.StatusForbidden || !strings.Contains(refused.Header.Get("X-Amzn-Errortype"), "UnrecognizedClientException") {
		t.Errorf("a key taken back: %d %s", refused.Status, refused.Body)
	}
	if stranger := a.Do(kilntest.Call{Method: http.MethodDelete, Path: "/kiln/v1/keys/" + a.Key, Service: "kiln"}); stranger.Status != http.StatusForbidden {
		t.Errorf("no operator takes a key back: %d %s", stranger.Status, stranger.Body)
	}
	if other, err := s.CLI("account", "create", "--data", s.Data); err != nil || strings.Contains(other, a.ID) {
		t.Errorf("another account: %v %s", err, other)
	}
}

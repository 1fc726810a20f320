package conformance

import (
	"bytes"
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// Reserved concurrency by the SDK: put, got, in GetFunction and in the account's settings, deleted; too much is refused
// with AWS's text, a version or an alias has none, and one without is answered empty. // R36
func TestReservedConcurrency(t *testing.T) {
	a := account(t)
	client, ctx := a.Lambda(), within(t, time.Minute)
	a.Deploy(python("kept", greet))
	reserved := func() *int32 {
		t.Helper()
		got, err := client.GetFunctionConcurrency(ctx, &lambda.GetFunctionConcurrencyInput{FunctionName: named("kept")})
		if err != nil {
			t.Fatal(err)
		}
		return got.ReservedConcurrentExecutions
	}
	if n := reserved(); n != nil {
		t.Errorf("reserved before anything was: %d", *n)
	}
	put, err := client.PutFunctionConcurrency(ctx, &lambda.PutFunctionConcurrencyInput{FunctionName: named("kept"), ReservedConcurrentExecutions: aws.Int32(900)})
	if err != nil || aws.ToInt32(put.ReservedConcurrentExecutions) != 900 || aws.ToInt32(reserved()) != 900 {
		t.Errorf("put %+v (%v)", put, err)
	}
	_, err = client.PutFunctionConcurrency(ctx, &lambda.PutFunctionConcurrencyInput{FunctionName: named("kept"), ReservedConcurrentExecutions: aws.Int32(901)})
	if e := isError[*types.InvalidParameterValueException](t, err); e.ErrorMessage() !=
		"Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100]." {
		t.Errorf("message %q", e.ErrorMessage())
	}
	_, err = client.PutFunctionConcurrency(ctx, &lambda.PutFunctionConcurrencyInput{FunctionName: named("kept:1"), ReservedConcurrentExecutions: aws.Int32(1)})
	isError[*types.InvalidParameterValueException](t, err)
	got, err := client.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: named("kept")})
	if err != nil || got.Concurrency == nil || aws.ToInt32(got.Concurrency.ReservedConcurrentExecutions) != 900 {
		t.Errorf("GetFunction tells %+v (%v)", got.Concurrency, err)
	}
	limits, err := client.GetAccountSettings(ctx, &lambda.GetAccountSettingsInput{})
	if err != nil || limits.AccountLimit.ConcurrentExecutions != 1000 || aws.ToInt32(limits.AccountLimit.UnreservedConcurrentExecutions) != 100 {
		t.Errorf("GetAccountSettings tells %+v (%v)", limits.AccountLimit, err)
	}
	if _, err := client.DeleteFunctionConcurrency(ctx, &lambda.DeleteFunctionConcurrencyInput{FunctionName: named("kept")}); err != nil || reserved() != nil {
		t.Errorf("after delete: %v", err)
	}
	_, err = client.GetFunctionConcurrency(ctx, &lambda.GetFunctionConcurrencyInput{FunctionName: named("absent")})
	isError[*types.ResourceNotFoundException](t, err)
}

// Permissions by the SDK: statements and policies in AWS's JSON, revisions, and AWS's errors. // R14
func TestPermissions(t *testing.T) {
	a := account(t)
	client, ctx := a.Lambda(), within(t, time.Minute)
	a.Deploy(python("shared", greet))
	get := func() (*lambda.GetPolicyOutput, error) {
		return client.GetPolicy(ctx, &lambda.GetPolicyInput{FunctionName: named("shared")})
	}
	_, err := get()
	isError[*types.ResourceNotFoundException](t, err)
	in := lambda.AddPermissionInput{FunctionName: named("shared"), StatementId: aws.String("bucket"), Action: aws.String("lambda:InvokeFunction"),
		Principal: aws.String("s3.amazonaws.com"), SourceArn: aws.String("arn:aws:s3:::bucket"), SourceAccount: aws.String("111122223333")}
	added, err := client.AddPermission(ctx, &in)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"Sid":"bucket","Effect":"Allow","Principal":{"Service":"s3.amazonaws.com"},"Action":"lambda:InvokeFunction","Resource":"arn:aws:lambda:us-east-1:` +
		a.ID + `:function:shared","Condition":{"ArnLike":{"AWS:SourceArn":"arn:aws:s3:::bucket"},"StringEquals":{"AWS:SourceAccount":"111122223333"}}}`
	if got := aws.ToString(added.Statement); got != want {
		t.Errorf("statement %s\nwant      %s", got, want)
	}
	_, err = client.AddPermission(ctx, &in)
	isError[*types.ResourceConflictException](t, err)
	policy, err := get()
	if err != nil || aws.ToString(policy.Policy) != `{"Version":"2012-10-17","Id":"default","Statement":[`+want+`]}` {
		t.Errorf("policy %+v (%v)", policy, err)
	}
	second := lambda.AddPermissionInput{FunctionName: named("shared"), StatementId: aws.String("second"), Action: aws.String("lambda:InvokeFunction"),
		Principal: aws.String("111122223333"), RevisionId: aws.String("stale")}
	_, err = client.AddPermission(ctx, &second)
	isError[*types.PreconditionFailedException](t, err)
	second.RevisionId = policy.RevisionId
	if _, err := client.AddPermission(ctx, &second); err != nil {
		t.Error(err)
	}
	second.Principal, second.StatementId, second.RevisionId = aws.String("nobody"), aws.String("third"), nil
	_, err = client.AddPermission(ctx, &second)
	isError[*types.InvalidParameterValueException](t, err)
	for _, id := range []string{"bucket", "second"} {
		if _, err := client.RemovePermission(ctx, &lambda.RemovePermissionInput{FunctionName: named("shared"), StatementId: aws.String(id)}); err != nil {
			t.Error(err)
		}
	}
	_, err = client.RemovePermission(ctx, &lambda.RemovePermissionInput{FunctionName: named("shared"), StatementId: aws.String("bucket")})
	isError[*types.ResourceNotFoundException](t, err)
	_, err = get()
	isError[*types.ResourceNotFoundException](t, err)
}

// Tags by the SDK, by the function's ARN. // R1
func TestTags(t *testing.T) {
	a := account(t)
	client, ctx := a.Lambda(), within(t, time.Minute)
	a.Deploy(python("tagged", greet))
	arn := aws.String("arn:aws:lambda:us-east-1:" + a.ID + ":function:tagged")
	has := func(want map[string]string) {
		t.Helper()
		got, err := client.ListTags(ctx, &lambda.ListTagsInput{Resource: arn})
		if err != nil || !maps.Equal(got.Tags, want) {
			t.Errorf("tags %+v (%v), want %v", got, err, want)
		}
	}
	has(nil)
	if _, err := client.TagResource(ctx, &lambda.TagResourceInput{Resource: arn, Tags: map[string]string{"a": "1", "b": "2", "c d": "ü"}}); err != nil {
		t.Fatal(err)
	}
	has(map[string]string{"a": "1", "b": "2", "c d": "ü"})
	if _, err := client.UntagResource(ctx, &lambda.UntagResourceInput{Resource: arn, TagKeys: []string{"a", "c d", "absent"}}); err != nil {
		t.Fatal(err)
	}
	has(map[string]string{"b": "2"})
	got, err := client.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: named("tagged")})
	if err != nil || !maps.Equal(got.Tags, map[string]string{"b": "2"}) {
		t.Errorf("GetFunction tells %v (%v)", got.Tags, err)
	}
	_, err = client.ListTags(ctx, &lambda.ListTagsInput{Resource: aws.String(*arn + ":live")})
	isError[*types.InvalidParameterValueException](t, err)
	_, err = client.ListTags(ctx, &lambda.ListTagsInput{Resource: aws.String(*arn + "-absent")})
	isError[*types.ResourceNotFoundException](t, err)
}

// AWS's own command-line tool, Debian's package, reserves, grants, tags and makes a URL. // R7 R14 R36
func TestCommandLineManages(t *testing.T) {
	a := account(t)
	a.Deploy(python("managed", greet))
	call := func(args ...string) map[string]any {
		t.Helper()
		cmd := tool(t, a, "/usr/bin/aws", "awscli", append([]string{"--endpoint-url", a.Server.URL, "--output", "json", "lambda"}, args...)...)
		var errors bytes.Buffer
		cmd.Stderr = &errors
		out, err := cmd.Output()
		got := map[string]any{}
		if err == nil && len(bytes.TrimSpace(out)) > 0 {
			err = json.Unmarshal(out, &got)
		}
		if err != nil {
			t.Fatalf("aws lambda %s: %v: %s", strings.Join(args, " "), err, errors.String())
		}
		return got
	}
	arn := "arn:aws:lambda:us-east-1:" + a.ID + ":function:managed"
	if got := call("put-function-concurrency", "--function-name", "managed", "--reserved-concurrent-executions", "5"); got["ReservedConcurrentExecutions"] != 5.0 {
		t.Errorf("reserved %v", got)
	}
	call("delete-function-concurrency", "--function-name", "managed")
	call("tag-resource", "--resource", arn, "--tags", "stage=test")
	if got := call("list-tags", "--resource", arn); got["Tags"].(map[string]any)["stage"] != "test" {
		t.Errorf("tags %v", got)
	}
	call("untag-resource", "--resource", arn, "--tag-keys", "stage")
	call("add-permission", "--function-name", "managed", "--statement-id", "page", "--action", "lambda:InvokeFunctionUrl", "--principal", "*", "--function-url-auth-type", "NONE")
	if got := call("get-policy", "--function-name", "managed"); !strings.Contains(got["Policy"].(string), `"lambda:FunctionUrlAuthType":"NONE"`) {
		t.Errorf("policy %v", got)
	}
	made := call("create-function-url-config", "--function-name", "managed", "--auth-type", "NONE")
	if got := call("get-function-url-config", "--function-name", "managed"); got["FunctionUrl"] != made["FunctionUrl"] || got["AuthType"] != "NONE" {
		t.Errorf("made %v, got %v", made, got)
	}
	call("delete-function-url-config", "--function-name", "managed")
	call("remove-permission", "--function-name", "managed", "--statement-id", "page")
}

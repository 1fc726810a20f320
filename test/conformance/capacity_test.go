package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"kiln/test/kilntest"
)

// Provisioned concurrency by the SDK: put, waited for until it is READY, got and listed, put anew, taken away, with AWS's
// errors; its executions find a container there, by the path the answer tells. // R36
func TestProvisionedConcurrency(t *testing.T) {
	a := account(t)
	client, ctx := a.Lambda(), within(t, 3*time.Minute)
	a.Deploy(python("ready", greet))
	version, err := client.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: named("ready")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CreateAlias(ctx, &lambda.CreateAliasInput{FunctionName: named("ready"), Name: aws.String("live"), FunctionVersion: version.Version}); err != nil {
		t.Fatal(err)
	}
	put := func(qualifier string, n int32) (*lambda.PutProvisionedConcurrencyConfigOutput, error) {
		return client.PutProvisionedConcurrencyConfig(ctx, &lambda.PutProvisionedConcurrencyConfigInput{
			FunctionName: named("ready"), Qualifier: &qualifier, ProvisionedConcurrentExecutions: &n})
	}
	get := func(qualifier string) (*lambda.GetProvisionedConcurrencyConfigOutput, error) {
		return client.GetProvisionedConcurrencyConfig(ctx, &lambda.GetProvisionedConcurrencyConfigInput{FunctionName: named("ready"), Qualifier: &qualifier})
	}
	_, err = put("$LATEST", 1)
	if e := isError[*types.InvalidParameterValueException](t, err); e.ErrorMessage() != "Provisioned Concurrency Configs cannot be applied to unpublished function versions." {
		t.Errorf("message %q", e.ErrorMessage())
	}
	_, err = put("absent", 1)
	isError[*types.ResourceNotFoundException](t, err)
	_, err = put("live", 901)
	isError[*types.InvalidParameterValueException](t, err)
	_, err = get("live")
	isError[*types.ProvisionedConcurrencyConfigNotFoundException](t, err)
	made, err := put("live", 2)
	if err != nil || aws.ToInt32(made.RequestedProvisionedConcurrentExecutions) != 2 || made.Status != types.ProvisionedConcurrencyStatusEnumInProgress {
		t.Fatalf("put %+v (%v)", made, err)
	}
	_, err = put(*version.Version, 1)
	isError[*types.ResourceConflictException](t, err)
	ready := func(n int32) {
		t.Helper()
		kilntest.Eventually(t, time.Minute, func() error {
			got, err := get("live")
			if err != nil || got.Status != types.ProvisionedConcurrencyStatusEnumReady || aws.ToInt32(got.AvailableProvisionedConcurrentExecutions) != n ||
				aws.ToInt32(got.AllocatedProvisionedConcurrentExecutions) != n || aws.ToInt32(got.RequestedProvisionedConcurrentExecutions) != n {
				return fmt.Errorf("got %+v (%v), want %d READY", got, err, n)
			}
			return nil
		})
	}
	ready(2)
	answer := a.Invoke(kilntest.Invocation{Function: "ready", Qualifier: "live", Payload: `{"name":"you"}`}).OK()
	if answer.Path() != "container" || string(answer.Body) != `{"hello": "you"}` {
		t.Errorf("served by %s: %s", answer.Path(), answer.Body)
	}
	if _, err := put("live", 1); err != nil {
		t.Error(err)
	}
	ready(1)
	limits, err := client.GetAccountSettings(ctx, &lambda.GetAccountSettingsInput{})
	if err != nil || aws.ToInt32(limits.AccountLimit.UnreservedConcurrentExecutions) != 999 {
		t.Errorf("GetAccountSettings tells %+v (%v)", limits.AccountLimit, err)
	}
	list, err := client.ListProvisionedConcurrencyConfigs(ctx, &lambda.ListProvisionedConcurrencyConfigsInput{FunctionName: named("ready")})
	if err != nil || len(list.ProvisionedConcurrencyConfigs) != 1 || !strings.HasSuffix(aws.ToString(list.ProvisionedConcurrencyConfigs[0].FunctionArn), ":function:ready:live") {
		t.Errorf("listed %+v (%v)", list, err)
	}
	for range 2 { // the second has nothing to do
		if _, err := client.DeleteProvisionedConcurrencyConfig(ctx, &lambda.DeleteProvisionedConcurrencyConfigInput{FunctionName: named("ready"), Qualifier: aws.String("live")}); err != nil {
			t.Error(err)
		}
	}
	_, err = get("live")
	isError[*types.ProvisionedConcurrencyConfigNotFoundException](t, err)
}

// AWS's own command-line tool, Debian's package, provisions. // R8 R36
func TestCommandLineProvisions(t *testing.T) {
	a := account(t)
	a.Deploy(python("ready", greet))
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
	call("publish-version", "--function-name", "ready")
	call("put-provisioned-concurrency-config", "--function-name", "ready", "--qualifier", "1", "--provisioned-concurrent-executions", "1")
	kilntest.Eventually(t, time.Minute, func() error {
		got := call("get-provisioned-concurrency-config", "--function-name", "ready", "--qualifier", "1")
		if got["Status"] != "READY" || got["AvailableProvisionedConcurrentExecutions"] != 1.0 {
			return fmt.Errorf("got %v", got)
		}
		return nil
	})
	if got := call("list-provisioned-concurrency-configs", "--function-name", "ready"); len(got["ProvisionedConcurrencyConfigs"].([]any)) != 1 {
		t.Errorf("listed %v", got)
	}
	call("delete-provisioned-concurrency-config", "--function-name", "ready", "--qualifier", "1")
}

// provided gives what a capacity provider is asked for, with all that the model has.
func provided(a *kilntest.Account, name string) *lambda.CreateCapacityProviderInput {
	return &lambda.CreateCapacityProviderInput{
		CapacityProviderName: &name,
		VpcConfig:            &types.CapacityProviderVpcConfig{SubnetIds: []string{"subnet-0a", "subnet-1b"}, SecurityGroupIds: []string{"sg-0a"}},
		PermissionsConfig:    &types.CapacityProviderPermissionsConfig{CapacityProviderOperatorRoleArn: aws.String("arn:aws:iam::" + a.ID + ":role/operator")},
		InstanceRequirements: &types.InstanceRequirements{AllowedInstanceTypes: []string{"kiln.1024", "m7a.large"}},
		CapacityProviderScalingConfig: &types.CapacityProviderScalingConfig{
			MaxVCpuCount: aws.Int32(4), ScalingMode: types.CapacityProviderScalingModeManual,
			ScalingPolicies: []types.TargetTrackingScalingPolicy{{
				PredefinedMetricType: types.CapacityProviderPredefinedMetricTypeLambdaCapacityProviderAverageCPUUtilization, TargetValue: aws.Float64(62.5)}},
		},
		KmsKeyArn:       aws.String("arn:aws:kms:us-east-1:" + a.ID + ":key/k"),
		PropagateTags:   &types.PropagateTags{Mode: types.PropagateTagsModeExplicit, ExplicitTags: map[string]string{"team": "a"}},
		TelemetryConfig: &types.CapacityProviderTelemetryConfig{LoggingConfig: &types.CapacityProviderLoggingConfig{SystemLogLevel: types.SystemLogLevelInfo, LogGroup: aws.String("/x")}},
		Tags:            map[string]string{"stage": "test"},
	}
}

// Capacity providers by the SDK: what is put is what is got, listed by state and page, updated, tagged, and refused with
// AWS's errors; the operator's fleets are providers of its account alone, and stay as they are.
func TestCapacityProviders(t *testing.T) {
	a := account(t)
	client, ctx := a.Lambda(), within(t, 2*time.Minute)
	in := provided(a, "web")
	made, err := client.CreateCapacityProvider(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	arn := "arn:aws:lambda:us-east-1:" + a.ID + ":capacity-provider:web"
	same := func(got *types.CapacityProvider) {
		t.Helper()
		want := types.CapacityProvider{CapacityProviderArn: &arn, State: got.State, LastModified: got.LastModified, VpcConfig: in.VpcConfig,
			PermissionsConfig: in.PermissionsConfig, InstanceRequirements: in.InstanceRequirements, CapacityProviderScalingConfig: in.CapacityProviderScalingConfig,
			KmsKeyArn: in.KmsKeyArn, PropagateTags: in.PropagateTags, TelemetryConfig: in.TelemetryConfig}
		if b, _ := json.Marshal(got); !reflect.DeepEqual(json.RawMessage(b), json.RawMessage(must(json.Marshal(want)))) {
			t.Errorf("got  %s\nwant %s", b, must(json.Marshal(want)))
		}
	}
	same(made.CapacityProvider)
	for _, name := range []string{"web", arn} {
		got, err := client.GetCapacityProvider(ctx, &lambda.GetCapacityProviderInput{CapacityProviderName: &name})
		if err != nil {
			t.Fatal(err)
		}
		same(got.CapacityProvider)
	}
	_, err = client.CreateCapacityProvider(ctx, in)
	isError[*types.ResourceConflictException](t, err)
	_, err = client.CreateCapacityProvider(ctx, provided(a, "low-volume"))
	isError[*types.InvalidParameterValueException](t, err)
	bad := provided(a, "bad")
	bad.InstanceRequirements.AllowedInstanceTypes = []string{"kiln.77"}
	_, err = client.CreateCapacityProvider(ctx, bad)
	isError[*types.InvalidParameterValueException](t, err)
	_, err = client.GetCapacityProvider(ctx, &lambda.GetCapacityProviderInput{CapacityProviderName: aws.String("absent")})
	isError[*types.ResourceNotFoundException](t, err)
	in.CapacityProviderScalingConfig = &types.CapacityProviderScalingConfig{MaxVCpuCount: aws.Int32(8), ScalingMode: types.CapacityProviderScalingModeAuto}
	updated, err := client.UpdateCapacityProvider(ctx, &lambda.UpdateCapacityProviderInput{CapacityProviderName: aws.String("web"), CapacityProviderScalingConfig: in.CapacityProviderScalingConfig})
	if err != nil {
		t.Fatal(err)
	}
	same(updated.CapacityProvider)
	if _, err := client.TagResource(ctx, &lambda.TagResourceInput{Resource: &arn, Tags: map[string]string{"a": "b"}}); err != nil {
		t.Error(err)
	}
	if tags, err := client.ListTags(ctx, &lambda.ListTagsInput{Resource: &arn}); err != nil || fmt.Sprint(tags.Tags) != "map[a:b stage:test]" {
		t.Errorf("tags %+v (%v)", tags, err)
	}
	if _, err := client.CreateCapacityProvider(ctx, provided(a, "api")); err != nil {
		t.Fatal(err)
	}
	var names []string
	for pages := lambda.NewListCapacityProvidersPaginator(client, &lambda.ListCapacityProvidersInput{MaxItems: aws.Int32(1)}); pages.HasMorePages(); {
		got, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range got.CapacityProviders {
			names = append(names, (*p.CapacityProviderArn)[strings.LastIndex(*p.CapacityProviderArn, ":")+1:])
		}
	}
	if fmt.Sprint(names) != "[api web]" {
		t.Errorf("listed %v", names)
	}
	kilntest.Eventually(t, time.Minute, func() error {
		got, err := client.ListCapacityProviders(ctx, &lambda.ListCapacityProvidersInput{State: types.CapacityProviderStateActive})
		if err != nil || len(got.CapacityProviders) != 2 {
			return fmt.Errorf("active: %+v (%v)", got, err)
		}
		return nil
	})
	for _, name := range []string{"web", "api"} {
		gone, err := client.DeleteCapacityProvider(ctx, &lambda.DeleteCapacityProviderInput{CapacityProviderName: &name})
		if err != nil || gone.CapacityProvider.State != types.CapacityProviderStateDeleting {
			t.Errorf("deleted: %+v (%v)", gone, err)
		}
		kilntest.Eventually(t, time.Minute, func() error {
			got, err := client.GetCapacityProvider(ctx, &lambda.GetCapacityProviderInput{CapacityProviderName: &name})
			if err == nil {
				return fmt.Errorf("still %s", got.CapacityProvider.State)
			}
			return nil
		})
	}
	operator := shared.Server(t).Operator(t).Lambda()
	got, err := operator.GetCapacityProvider(ctx, &lambda.GetCapacityProviderInput{CapacityProviderName: aws.String("low-volume")})
	if err != nil || got.CapacityProvider.State != types.CapacityProviderStateActive {
		t.Errorf("the operator's own: %+v (%v)", got, err)
	}
	_, err = operator.DeleteCapacityProvider(ctx, &lambda.DeleteCapacityProviderInput{CapacityProviderName: aws.String("low-volume")})
	isError[*types.InvalidParameterValueException](t, err)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A function on a capacity provider by the SDK: made with it, what is put is what is got; invoked by what it published,
// listed on its provider, which is not deleted while it is in use; scaled, deactivated and active again. // R36 R70
func TestFunctionOnCapacityProvider(t *testing.T) {
	a := account(t)
	client, ctx := a.Lambda(), within(t, 3*time.Minute)
	if _, err := client.CreateCapacityProvider(ctx, provided(a, "own")); err != nil {
		t.Fatal(err)
	}
	arn := aws.String("arn:aws:lambda:us-east-1:" + a.ID + ":capacity-provider:own")
	config := &types.CapacityProviderConfig{LambdaManagedInstancesCapacityProviderConfig: &types.LambdaManagedInstancesCapacityProviderConfig{
		CapacityProviderArn: arn, PerExecutionEnvironmentMaxConcurrency: aws.Int32(1), ExecutionEnvironmentMemoryGiBPerVCpu: aws.Float64(4)}}
	in := python("served", "import os\ndef handler(event, context):\n    return [event.get('name'), os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']]\n").Input(t)
	in.CapacityProviderConfig = config
	made, err := client.CreateFunction(ctx, in)
	if err != nil || !reflect.DeepEqual(made.CapacityProviderConfig, config) {
		t.Fatalf("made %+v (%v)", made, err)
	}
	kilntest.Eventually(t, time.Minute, func() error {
		got, err := client.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: named("served")})
		if err != nil || got.State != types.StateActiveNonInvocable {
			return fmt.Errorf("%+v (%v)", got, err)
		}
		return nil
	})
	_, err = client.Invoke(ctx, &lambda.InvokeInput{FunctionName: named("served")})
	isError[*types.NoPublishedVersionException](t, err)
	published, err := client.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: named("served"), PublishTo: types.FunctionVersionLatestPublishedLatestPublished})
	if err != nil || aws.ToString(published.Version) != "$LATEST.PUBLISHED" {
		t.Fatalf("published %+v (%v)", published, err)
	}
	if _, err := client.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: named("served")}); err != nil {
		t.Fatal(err)
	}
	out := invoke(t, client, &lambda.InvokeInput{FunctionName: named("served"), Payload: []byte(`{"name":"you"}`)})
	if aws.ToString(out.ExecutedVersion) != "$LATEST.PUBLISHED" || string(out.Payload) != `["you", "lambda-managed-instances"]` {
		t.Errorf("%s of %s", out.Payload, aws.ToString(out.ExecutedVersion))
	}
	if got := a.Invoke(kilntest.Invocation{Function: "served", Qualifier: "1", Payload: "{}"}).OK().Header.Get("X-Kiln-Fleet"); got != "own" {
		t.Errorf("served by the fleet %q", got)
	}
	listed, err := client.ListFunctionVersionsByCapacityProvider(ctx, &lambda.ListFunctionVersionsByCapacityProviderInput{CapacityProviderName: aws.String("own")})
	var arns []string
	if err == nil {
		for _, v := range listed.FunctionVersions {
			arns = append(arns, aws.ToString(v.FunctionArn)+" "+string(v.State))
		}
	}
	function := "arn:aws:lambda:us-east-1:" + a.ID + ":function:served"
	if want := []string{function + ":$LATEST.PUBLISHED Active", function + ":1 Active"}; !slices.Equal(arns, want) || aws.ToString(listed.CapacityProviderArn) != *arn {
		t.Errorf("listed %v (%v), want %v", arns, err, want)
	}
	_, err = client.DeleteCapacityProvider(ctx, &lambda.DeleteCapacityProviderInput{CapacityProviderName: aws.String("own")})
	isError[*types.ResourceConflictException](t, err)
	_, err = client.PutProvisionedConcurrencyConfig(ctx, &lambda.PutProvisionedConcurrencyConfigInput{FunctionName: named("served"), Qualifier: aws.String("1"), ProvisionedConcurrentExecutions: aws.Int32(1)})
	isError[*types.InvalidParameterValueException](t, err)
	scale := func(least, most int32, want types.State) {
		t.Helper()
		scaling := &types.FunctionScalingConfig{MinExecutionEnvironments: &least, MaxExecutionEnvironments: &most}
		put, err := client.PutFunctionScalingConfig(ctx, &lambda.PutFunctionScalingConfigInput{FunctionName: named("served"), Qualifier: aws.String("1"), FunctionScalingConfig: scaling})
		if err != nil || put.FunctionState != want {
			t.Errorf("put %+v (%v), want %s", put, err, want)
		}
		got, err := client.GetFunctionScalingConfig(ctx, &lambda.GetFunctionScalingConfigInput{FunctionName: named("served"), Qualifier: aws.String("1")})
		if err != nil || !reflect.DeepEqual(got.RequestedFunctionScalingConfig, scaling) || !reflect.DeepEqual(got.AppliedFunctionScalingConfig, scaling) {
			t.Errorf("got %+v (%v)", got, err)
		}
	}
	scale(0, 0, types.StateDeactivated)
	_, err = client.Invoke(ctx, &lambda.InvokeInput{FunctionName: named("served"), Qualifier: aws.String("1")})
	isError[*types.ResourceConflictException](t, err)
	scale(0, 1, types.StateActive)
	invoke(t, client, &lambda.InvokeInput{FunctionName: named("served"), Qualifier: aws.String("1")})
	if _, err := client.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: named("served")}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.DeleteCapacityProvider(ctx, &lambda.DeleteCapacityProviderInput{CapacityProviderName: aws.String("own")}); err != nil {
		t.Error(err)
	}
}

package rows

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"kiln/test/kilntest"
)

// provision publishes a version of a function, provisions so much for it, waits until it is READY and gives its number.
func provision(t *testing.T, a *kilntest.Account, function string, n int32) string {
	t.Helper()
	version, err := a.Lambda().PublishVersion(context.Background(), &lambda.PublishVersionInput{FunctionName: &function})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Lambda().PutProvisionedConcurrencyConfig(context.Background(), &lambda.PutProvisionedConcurrencyConfigInput{
		FunctionName: &function, Qualifier: version.Version, ProvisionedConcurrentExecutions: &n}); err != nil {
		t.Fatal(err)
	}
	awaitProvisioned(t, a, function, *version.Version, n)
	return *version.Version
}

// awaitProvisioned waits until so much is available.
func awaitProvisioned(t *testing.T, a *kilntest.Account, function, qualifier string, n int32) {
	t.Helper()
	kilntest.Eventually(t, time.Minute, func() error {
		got, err := a.Lambda().GetProvisionedConcurrencyConfig(context.Background(), &lambda.GetProvisionedConcurrencyConfigInput{FunctionName: &function, Qualifier: &qualifier})
		if err != nil || got.Status != types.ProvisionedConcurrencyStatusEnumReady || aws.ToInt32(got.AvailableProvisionedConcurrentExecutions) != n {
			return fmt.Errorf("%+v (%v), want %d available", got, err, n)
		}
		return nil
	})
}

// together invokes a version so many times at once, each execution beside the others, and gives what each found.
func together(t *testing.T, a *kilntest.Account, function, version string, n int) (facts []kilntest.Facts, sent time.Time) {
	t.Helper()
	var mu sync.Mutex
	var requests sync.WaitGroup
	sent = time.Now()
	for range n {
		requests.Go(func() {
			answer, err := a.TryInvoke(kilntest.Invocation{Function: function, Qualifier: version, Payload: `{"sleepMs":1000}`})
			if err != nil {
				t.Error(err)
				return
			}
			f, err := answer.TryFacts()
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			facts = append(facts, f)
		})
	}
	requests.Wait()
	return facts, sent
}

// Provisioned containers are there before any request, by the code's own clock; the kernel ends one from outside, and the
// number is back: the next executions find as many, loaded before they were asked for, and none is the one that was
// killed. // R36
func TestProvisionedIsKept(t *testing.T) {
	const provisioned = 3
	kilntest.NeedContainer(t)
	s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"retention.container": "2s", "retention.instance": "4s"}})
	a := s.NewAccount(t)
	a.Deploy(kilntest.Probe(t, "python", "kept"))
	version := provision(t, a, "kept", provisioned)
	found := func(when string) []string {
		t.Helper()
		facts, sent := together(t, a, "kept", version, provisioned)
		var names []string
		for _, f := range facts {
			if f.LoadedAt > kilntest.Seconds(sent) {
				t.Errorf("%s: the code was loaded %.3f s after its request", when, f.LoadedAt-kilntest.Seconds(sent))
			}
			names = append(names, f.Hostname)
		}
		slices.Sort(names)
		if n := len(slices.Compact(slices.Clone(names))); n != provisioned {
			t.Errorf("%s: %d containers for %d executions at once", when, n, provisioned)
		}
		return names
	}
	first := found("at first")
	var killed kilntest.Container
	for _, c := range a.Containers() {
		if c.Function == "kept" && c.Version == version && slices.Contains(first, c.ID) {
			killed = c
		}
	}
	if killed.Pid == 0 {
		t.Fatalf("none of %v is listed", first)
	}
	signal(t, killed.Pid, syscall.SIGKILL)
	kilntest.Eventually(t, time.Minute, func() error {
		all, err := a.TryContainers()
		if err != nil {
			return err
		}
		n := 0
		for _, c := range all {
			if c.ID == killed.ID {
				return fmt.Errorf("%s is still listed", killed.ID)
			}
			if c.Function == "kept" && (c.State == "idle" || c.State == "paused") {
				n++
			}
		}
		if n != provisioned {
			return fmt.Errorf("%d containers are ready", n)
		}
		return nil
	})
	awaitProvisioned(t, a, "kept", version, provisioned)
	if second := found("after one was killed"); slices.Contains(second, killed.ID) {
		t.Errorf("an execution was given the container that was killed, %s", killed.ID)
	}
	// Beyond every retention they are still there.
	for end := time.Now().Add(6 * time.Second); time.Now().Before(end); <-time.After(100 * time.Millisecond) {
	}
	found("idle for longer than retention.container")
}

// Of an account with everything else taken by a burst, exactly what is provisioned is admitted of the version it is
// provisioned for, and nothing of its function's other versions. // R36
func TestProvisionedIsExactUnderABurst(t *testing.T) {
	const limit, provisioned = 120, 15
	kilntest.NeedContainer(t)
	s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"concurrency.account": fmt.Sprint(limit), "instances.max": "2",
		"instances.shapes": `[{"memory":2048,"cpus":2}]`, "warming.instances": "1", "wait.max": "2m"}})
	a := s.NewAccount(t)
	a.Deploy(holding("kept"))
	a.Deploy(holding("rest"))
	version := provision(t, a, "kept", provisioned)
	until := time.Now().Add(20 * time.Second)
	event := fmt.Sprintf(`{"until":%f}`, kilntest.Seconds(until))
	var mu sync.Mutex
	counts, throttled, last := map[string]int{}, make(chan struct{}, 1000), time.Time{}
	var requests sync.WaitGroup
	burst := func(n int, function, qualifier string) {
		for range n {
			requests.Go(func() {
				answer, err := a.TryInvoke(kilntest.Invocation{Function: function, Qualifier: qualifier, Payload: event})
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil:
					counts[err.Error()]++
				case answer.Status == http.StatusTooManyRequests:
					var body struct{ Reason string }
					answer.JSON(&body)
					counts[function+qualifier+" "+body.Reason]++
					last = answer.Got
					throttled <- struct{}{}
				default:
					counts[fmt.Sprint(function, qualifier, " ", answer.Status, answer.FunctionError())]++
				}
			})
		}
	}
	burst(300, "rest", "")
	for range 300 - (limit - provisioned) {
		<-throttled // so the rest of the account is taken
	}
	burst(100, "kept", version)
	burst(20, "kept", "")
	requests.Wait()
	if !last.Before(until) {
		kilntest.Skip(t, "the last refusal came %s after the first execution could end: this machine is too slow", last.Sub(until))
	}
	want := map[string]int{
		"rest 200": limit - provisioned, "rest ConcurrentInvocationLimitExceeded": 300 - (limit - provisioned),
		"kept" + version + " 200": provisioned, "kept" + version + " ConcurrentInvocationLimitExceeded": 100 - provisioned,
		"kept ConcurrentInvocationLimitExceeded": 20,
	}
	if fmt.Sprint(counts) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", counts, want)
	}
}

// A function on a capacity provider runs on that provider's instances and nowhere else, by what the machine says of itself,
// never on more of them than the provider may have, and no other function runs there. After a restart it is the same. // R43
func TestCapacityProviderHasItsOwnInstances(t *testing.T) {
	kilntest.NeedContainer(t)
	s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"instances.shapes": `[{"memory":1024,"cpus":2}]`,
		"providers.instances.max": "3", "wait.max": "1m"}})
	a, b := s.NewAccount(t), s.NewAccount(t)
	for _, one := range []*kilntest.Account{a, b} {
		if _, err := one.Lambda().CreateCapacityProvider(context.Background(), &lambda.CreateCapacityProviderInput{
			CapacityProviderName: aws.String("own"),
			VpcConfig:            &types.CapacityProviderVpcConfig{SubnetIds: []string{"subnet-1"}, SecurityGroupIds: []string{}},
			PermissionsConfig:    &types.CapacityProviderPermissionsConfig{CapacityProviderOperatorRoleArn: aws.String(kilntest.Role)},
			CapacityProviderScalingConfig: &types.CapacityProviderScalingConfig{
				MaxVCpuCount: aws.Int32(2)},
		}); err != nil {
			t.Fatal(err)
		}
		in := kilntest.Probe(t, "python", "inside").Input(t)
		in.PublishTo = types.FunctionVersionLatestPublishedLatestPublished
		in.CapacityProviderConfig = &types.CapacityProviderConfig{LambdaManagedInstancesCapacityProviderConfig: &types.LambdaManagedInstancesCapacityProviderConfig{
			CapacityProviderArn:                   aws.String("arn:aws:lambda:us-east-1:" + one.ID + ":capacity-provider:own"),
			PerExecutionEnvironmentMaxConcurrency: aws.Int32(1)}}
		if _, err := one.Lambda().CreateFunction(context.Background(), in); err != nil {
			t.Fatal(err)
		}
		one.Deploy(kilntest.Probe(t, "python", "outside"))
	}
	machines := func(one *kilntest.Account, function string) []string {
		t.Helper()
		facts, _ := together(t, one, function, "", 6)
		var ids []string
		for _, f := range facts {
			ids = append(ids, f.MachineID)
		}
		slices.Sort(ids)
		return slices.Compact(ids)
	}
	look := func(when string) {
		t.Helper()
		seen := map[string]string{}
		for name, one := range map[string]*kilntest.Account{"a": a, "b": b} {
			for _, function := range []string{"inside", "outside"} {
				ids := machines(one, function)
				if function == "inside" && len(ids) != 1 {
					t.Errorf("%s: %d machines of a provider that may have one", when, len(ids))
				}
				for _, id := range ids {
					if other := seen[id]; other != "" {
						t.Errorf("%s: %s's %s ran on the machine of %s", when, name, function, other)
					}
					seen[id] = name + "'s " + function
				}
			}
		}
		if got := a.Invoke(kilntest.Invocation{Function: "inside"}).OK().Header.Get("X-Kiln-Fleet"); got != "own" {
			t.Errorf("%s: served by the fleet %q", when, got)
		}
	}
	look("at first")
	s.Kill(t)
	s.Restart(t)
	look("after a restart")
}

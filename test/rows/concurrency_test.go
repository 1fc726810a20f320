package rows

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"kiln/test/kilntest"
)

// holds is a function that does not end before the instant its event tells.
const holds = `import time
def handler(event, context):
    while time.time() < event["until"]:
        time.sleep(0.02)
    return "held"
`

func holding(name string) kilntest.Function {
	return kilntest.Function{Name: name, Runtime: kilntest.PythonRuntime, Handler: "f.handler", TimeoutSeconds: 120,
		Files: map[string][]byte{"f.py": []byte(holds)}}
}

// A thousand requests at once, of a function with a reservation of 12 and of one without: exactly 12 of the first are
// admitted and exactly what the reservation leaves of the account's limit of the second, although most of those wait for
// a container; every other is refused at once with AWS's reason. // R36
func TestConcurrencyIsExactUnderABurst(t *testing.T) {
	const limit, reserved = 120, 12
	kilntest.NeedContainer(t)
	s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"concurrency.account": fmt.Sprint(limit), "instances.max": "2",
		"instances.shapes": `[{"memory":2048,"cpus":2}]`, "warming.instances": "1", "wait.max": "2m"}})
	a := s.NewAccount(t)
	a.Deploy(holding("reserved"))
	a.Deploy(holding("rest"))
	put := func(n int32) error {
		_, err := a.Lambda().PutFunctionConcurrency(context.Background(), &lambda.PutFunctionConcurrencyInput{
			FunctionName: aws.String("reserved"), ReservedConcurrentExecutions: aws.Int32(n)})
		return err
	}
	if err := put(limit - 100 + 1); err == nil {
		t.Error("less than a hundred may be left unreserved")
	}
	if err := put(reserved); err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(15 * time.Second)
	event := fmt.Sprintf(`{"until":%f}`, kilntest.Seconds(until))
	var mu sync.Mutex
	counts, last := map[string]int{}, time.Time{}
	var requests sync.WaitGroup
	for i := range 1000 {
		name := []string{"reserved", "rest", "rest"}[i%3]
		requests.Go(func() {
			answer, err := a.TryInvoke(kilntest.Invocation{Function: name, Payload: event})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				counts[err.Error()]++
			case answer.Status == http.StatusTooManyRequests:
				var body struct{ Reason string }
				answer.JSON(&body)
				counts[name+" "+body.Reason]++
				last = answer.Got
			default:
				counts[fmt.Sprint(name, " ", answer.Status, answer.FunctionError())]++
			}
		})
	}
	requests.Wait()
	if !last.Before(until) {
		kilntest.Skip(t, "the last refusal came %s after the first execution could end: this machine is too slow", last.Sub(until))
	}
	want := map[string]int{
		"reserved 200": reserved, "reserved ReservedFunctionConcurrentInvocationLimitExceeded": 334 - reserved,
		"rest 200": limit - reserved, "rest ConcurrentInvocationLimitExceeded": 666 - (limit - reserved),
	}
	if fmt.Sprint(counts) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", counts, want)
	}
	if err := put(0); err != nil {
		t.Fatal(err)
	}
	refused := a.Invoke(kilntest.Invocation{Function: "reserved", Payload: `{"until":0}`})
	if body := refused.Refused(http.StatusTooManyRequests, "TooManyRequestsException"); body["Reason"] != "ReservedFunctionConcurrentInvocationLimitExceeded" {
		t.Errorf("with nothing reserved: %s", refused.Body)
	}
	if _, err := a.Lambda().DeleteFunctionConcurrency(context.Background(), &lambda.DeleteFunctionConcurrencyInput{FunctionName: aws.String("reserved")}); err != nil {
		t.Fatal(err)
	}
	a.Invoke(kilntest.Invocation{Function: "reserved", Payload: `{"until":0}`}).OK()
}

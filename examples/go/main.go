// Command go is a compiled function written with AWS's own library: it greets, and tells which container it is in.
package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type event struct {
	Name string `json:"name"`
}

type answer struct {
	Greeting  string `json:"greeting"`
	Calls     int64  `json:"calls"`
	Container string `json:"container"`
	Request   string `json:"request"`
}

func main() {
	var calls atomic.Int64 // kept as long as the container is
	lambda.Start(func(ctx context.Context, e event) (answer, error) {
		host, err := os.Hostname()
		if err != nil {
			return answer{}, err
		}
		request := ""
		if c, ok := lambdacontext.FromContext(ctx); ok {
			request = c.AwsRequestID
		}
		n := calls.Add(1)
		fmt.Println("call", n, "for", e.Name)
		return answer{Greeting: "hello " + e.Name + ", from " + runtime.Version(), Calls: n, Container: host, Request: request}, nil
	})
}

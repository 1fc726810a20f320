// Command awsgo is a compiled function that uses AWS's own aws-lambda-go, unchanged, as its users do.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type event struct {
	Name  string `json:"name"`
	Fail  string `json:"fail"`  // the error to return
	Panic string `json:"panic"` // the value to panic with
	Exit  *int   `json:"exit"`  // the status to exit with
	// SleepMs has it sleep, and Print print, and then tell where it is as probes do.
	SleepMs int    `json:"sleepMs"`
	Print   string `json:"print"`
}

type answer struct {
	Greeting   string            `json:"greeting"`
	RequestID  string            `json:"requestId"`
	ARN        string            `json:"arn"`
	RemainMs   int64             `json:"remainMs"`
	Custom     map[string]string `json:"custom"`
	Function   string            `json:"function"`
	Version    string            `json:"version"`
	MemoryMB   int               `json:"memoryMB"`
	LogGroup   string            `json:"logGroup"`
	LogStream  string            `json:"logStream"`
	TraceInEnv bool              `json:"traceInEnv"`
	*place
}

// place is what a probe tells, as far as it is needed here.
type place struct {
	Hostname string  `json:"hostname"`
	Pid      int     `json:"pid"`
	Count    int64   `json:"count"`
	BeganAt  float64 `json:"beganAt"`
	EndedAt  float64 `json:"endedAt"`
}

type guest struct{ count atomic.Int64 } // of executions that sleep

func (g *guest) sleep(in event) *place {
	if in.SleepMs == 0 {
		return nil
	}
	host, _ := os.Hostname()
	p := &place{Hostname: host, Pid: os.Getpid(), Count: g.count.Add(1), BeganAt: float64(time.Now().UnixMicro()) / 1e6}
	fmt.Println(in.Print)
	<-time.After(time.Duration(in.SleepMs) * time.Millisecond)
	p.EndedAt = float64(time.Now().UnixMicro()) / 1e6
	return p
}

func (g *guest) handle(ctx context.Context, in event) (answer, error) {
	if in.Fail != "" {
		return answer{}, errors.New(in.Fail)
	}
	if in.Panic != "" {
		panic(in.Panic)
	}
	if in.Exit != nil {
		os.Exit(*in.Exit)
	}
	where := g.sleep(in)
	fmt.Println("greeting", in.Name)
	c, _ := lambdacontext.FromContext(ctx)
	deadline, _ := ctx.Deadline()
	return answer{
		Greeting: "hello " + in.Name, RequestID: c.AwsRequestID, ARN: c.InvokedFunctionArn,
		RemainMs: time.Until(deadline).Milliseconds(), Custom: c.ClientContext.Custom,
		Function: lambdacontext.FunctionName, Version: lambdacontext.FunctionVersion, MemoryMB: lambdacontext.MemoryLimitInMB,
		LogGroup: lambdacontext.LogGroupName, LogStream: lambdacontext.LogStreamName,
		TraceInEnv: os.Getenv("_X_AMZN_TRACE_ID") != "", place: where,
	}, nil
}

func main() { lambda.Start(new(guest).handle) }

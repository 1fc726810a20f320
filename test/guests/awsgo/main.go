// Command awsgo is a compiled function that uses AWS's own aws-lambda-go, unchanged, as its users do.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type event struct {
	Name  string `json:"name"`
	Fail  string `json:"fail"`  // the error to return
	Panic string `json:"panic"` // the value to panic with
	Exit  *int   `json:"exit"`  // the status to exit with
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
}

func handle(ctx context.Context, in event) (answer, error) {
	if in.Fail != "" {
		return answer{}, errors.New(in.Fail)
	}
	if in.Panic != "" {
		panic(in.Panic)
	}
	if in.Exit != nil {
		os.Exit(*in.Exit)
	}
	fmt.Println("greeting", in.Name)
	c, _ := lambdacontext.FromContext(ctx)
	deadline, _ := ctx.Deadline()
	return answer{
		Greeting: "hello " + in.Name, RequestID: c.AwsRequestID, ARN: c.InvokedFunctionArn,
		RemainMs: time.Until(deadline).Milliseconds(), Custom: c.ClientContext.Custom,
		Function: lambdacontext.FunctionName, Version: lambdacontext.FunctionVersion, MemoryMB: lambdacontext.MemoryLimitInMB,
		LogGroup: lambdacontext.LogGroupName, LogStream: lambdacontext.LogStreamName,
		TraceInEnv: os.Getenv("_X_AMZN_TRACE_ID") != "",
	}, nil
}

func main() { lambda.Start(handle) }

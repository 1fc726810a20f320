// Command awsgo is an echo with AWS's own aws-lambda-go. A string that begins with "sleep N;" is held for N milliseconds
// first.
package main

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	lambda.Start(func(_ context.Context, event json.RawMessage) (json.RawMessage, error) {
		if ms, found := strings.CutPrefix(string(event), `"sleep `); found {
			ms, _, _ = strings.Cut(ms, ";")
			n, err := strconv.ParseFloat(ms, 64)
			if err != nil {
				return nil, err
			}
			<-time.After(time.Duration(n * float64(time.Millisecond)))
		}
		return event, nil
	})
}

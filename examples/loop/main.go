// Command loop is the smallest compiled function there is: a loop over the Lambda Runtime API, without any library. It
// gives its event back.
package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	base := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
	for {
		if err := serveOne(base); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// serveOne waits for an event and answers with it.
func serveOne(base string) error {
	next, err := http.Get(base + "next")
	if err != nil {
		return err
	}
	defer next.Body.Close()
	id := next.Header.Get("Lambda-Runtime-Aws-Request-Id")
	answer, err := http.Post(base+id+"/response", "application/json", next.Body)
	if err != nil {
		return err
	}
	return answer.Body.Close()
}

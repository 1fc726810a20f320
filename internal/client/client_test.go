package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"kiln"
)

func reach(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := New(s.URL+"/", Credentials{AccessKeyID: "A", SecretAccessKey: "S", Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestListPages shows that a list is read page by page, up to the limit, and every request is signed for kiln.
func TestListPages(t *testing.T) {
	c := reach(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Authorization"), "/us-east-1/kiln/aws4_request") || r.URL.Query().Get("function") != "f" {
			t.Errorf("asked %s with %s", r.URL, r.Header.Get("Authorization"))
		}
		page := map[string]string{"": `{"items":[1,2],"next":"a"}`, "a": `{"items":[],"next":"b"}`, "b": `{"items":[3],"next":"b"}`}[r.URL.Query().Get("next")]
		fmt.Fprint(w, page)
	})
	for limit, want := range map[int]int{0: 3, 2: 2, 9: 3} {
		items, err := c.List(context.Background(), "events", url.Values{"function": {"f"}}, limit)
		if err != nil || len(items) != want {
			t.Errorf("limit %d: %d items, %v", limit, len(items), err)
		}
	}
}

// TestErrors shows that what the server says reaches the caller with its kind, through either API, and that no server
// at all is said with what to do.
func TestErrors(t *testing.T) {
	c := reach(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Amzn-Errortype", "TooManyRequestsException:http://x")
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprint(w, `{"message":"slow down","Reason":"CallerRateLimitExceeded"}`)
	})
	err := c.JSON(context.Background(), Request{Method: "GET", Path: "/kiln/v1/nodes"}, nil, nil)
	_, sdk := c.Lambda().GetFunction(context.Background(), &lambda.GetFunctionInput{FunctionName: aws.String("f")})
	for name, err := range map[string]error{"kiln": err, "lambda": c.Explain(sdk)} {
		e, ok := err.(*kiln.Error)
		if !ok || e.Kind != kiln.KindThrottled || e.Reason != "TooManyRequestsException" || e.Message != "slow down (CallerRateLimitExceeded)" {
			t.Errorf("%s: %#v", name, err)
		}
	}
	away, err := New("http://127.0.0.1:1", Credentials{AccessKeyID: "A", SecretAccessKey: "S", Region: "r"})
	if err != nil {
		t.Fatal(err)
	}
	err = away.JSON(context.Background(), Request{Method: "GET", Path: "/"}, nil, nil)
	if kiln.KindOf(err) != kiln.KindUnavailable || !strings.Contains(err.Error(), "start one with `kiln serve`") {
		t.Errorf("no server: %v", err)
	}
	if _, err := New("localhost:4566", Credentials{}); kiln.KindOf(err) != kiln.KindInvalid {
		t.Errorf("an endpoint without http: %v", err)
	}
}

// TestConnectionLost shows that a connection that breaks before the answer is told apart from a server that is not there.
func TestConnectionLost(t *testing.T) {
	c := reach(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	err := c.JSON(context.Background(), Request{Method: "POST", Path: "/kiln/v1/run"}, nil, nil)
	_, sdk := c.Lambda().Invoke(context.Background(), &lambda.InvokeInput{FunctionName: aws.String("f")})
	for name, err := range map[string]error{"kiln": err, "lambda": c.Explain(sdk)} {
		if kiln.KindOf(err) != kiln.KindUnavailable || !strings.Contains(err.Error(), "the function may have run") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !Answers(t.Context(), c.Endpoint()) || Answers(t.Context(), "http://127.0.0.1:1") {
		t.Error("whether something answers is wrong")
	}
}

// TestFiles shows that what is not there, damaged or somebody else's is told apart.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadAddress(dir); kiln.KindOf(err) != kiln.KindNotFound {
		t.Errorf("nothing there: %v", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadAddress(file); kiln.KindOf(err) != kiln.KindInvalid || !strings.Contains(err.Error(), file+" is no folder") {
		t.Errorf("no folder: %v", err)
	}
	for cause, want := range map[syscall.Errno]kiln.Kind{syscall.EACCES: kiln.KindDenied, syscall.EMFILE: kiln.KindUnavailable} {
		err := cannotOpen("op", dir, "name", &fs.PathError{Op: "open", Path: "name", Err: cause})
		if kiln.KindOf(err) != want || strings.Contains(err.Error(), "run this as the user") != (cause == syscall.EACCES) ||
			want == kiln.KindUnavailable && !strings.Contains(err.Error(), cause.Error()) {
			t.Errorf("%v: %v", cause, err)
		}
	}
	b, err := json.Marshal(Address{Endpoint: "http://h:1", PID: 7})
	if err != nil {
		t.Fatal(err)
	}
	for content, want := range map[string]bool{string(b): true, "{": false} {
		if err := os.WriteFile(filepath.Join(dir, AddressFile), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := ReadAddress(dir)
		if want != (err == nil && a.Endpoint == "http://h:1" && a.PID == 7) || !want && kiln.KindOf(err) != kiln.KindCorrupt {
			t.Errorf("%s: %+v, %v", content, a, err)
		}
	}
}

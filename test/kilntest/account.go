package kilntest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awscredentials "github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
)

// maxRecords is how many records of each account a failing test prints.
const maxRecords = 4

// credentials are what `kiln env` prints.
type credentials struct {
	endpoint, region, account, key, secret string
}

// parseExports reads the lines of shell that `kiln env`, `account create` and `key create` print.
func parseExports(text string) (credentials, error) {
	values := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		if ok {
			values[name] = strings.Trim(value, `"'`)
		}
	}
	for _, name := range []string{"AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION", "KILN_ACCOUNT_ID"} {
		if values[name] == "" {
			return credentials{}, fmt.Errorf("%s is not among the exports:\n%s", name, text)
		}
	}
	return credentials{endpoint: values["AWS_ENDPOINT_URL"], region: values["AWS_REGION"], account: values["KILN_ACCOUNT_ID"],
		key: values["AWS_ACCESS_KEY_ID"], secret: values["AWS_SECRET_ACCESS_KEY"]}, nil
}

// Account is one account of a server, as one test uses it. A failing test prints the records of the account's requests.
type Account struct {
	Server *Server
	// ID, Key, Secret, Region and Endpoint are what kiln printed for it.
	ID, Key, Secret, Region, Endpoint string

	tb   testing.TB
	mark int // of the server's log when the test began

	mu       sync.Mutex
	requests []noted // guarded by mu; this account's invokes, in the order of their answers
	failed   []noted // guarded by mu; those of them that failed
}

// noted is one invoke.
type noted struct{ id, function string }

// Operator gives the default account, whose key is also the operator's.
func (s *Server) Operator(tb testing.TB) *Account {
	tb.Helper()
	return s.account(tb, s.keys)
}

// NewAccount makes an account. When the test has ended its instances are ended too, so that a shared server does not
// fill up.
func (s *Server) NewAccount(tb testing.TB) *Account {
	tb.Helper()
	text, err := s.CLI("account", "create", "--data", s.Data)
	if err != nil {
		tb.Fatal(err)
	}
	keys, err := parseExports(text)
	if err != nil {
		tb.Fatal(err)
	}
	a := s.account(tb, keys)
	tb.Cleanup(func() { s.Operator(tb).EndInstances(a.ID) })
	return a
}

func (s *Server) account(tb testing.TB, c credentials) *Account {
	a := &Account{Server: s, ID: c.account, Key: c.key, Secret: c.secret, Region: c.region, Endpoint: c.endpoint,
		tb: tb, mark: s.log.mark()}
	tb.Cleanup(a.explain)
	return a
}

// note remembers an invoke for the case that the test fails.
func (a *Account) note(function string, answer *Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if answer.Failure() != nil {
		a.failed = append(a.failed, noted{answer.RequestID(), function})
	}
	a.requests = append(a.requests, noted{answer.RequestID(), function})
}

// explain prints, when the test failed, what the server logged meanwhile, and the records and function logs of the
// requests that failed, or else of the last ones.
func (a *Account) explain() {
	if !a.tb.Failed() {
		return
	}
	if _, printed := a.Server.explained.LoadOrStore(a.tb, true); !printed {
		a.tb.Logf("--- the server's log meanwhile\n%s---", a.Server.log.tail(a.mark, tailLines))
	}
	a.mu.Lock()
	requests := a.failed
	if len(requests) == 0 {
		requests = a.requests
	}
	requests = requests[max(0, len(requests)-maxRecords):]
	a.mu.Unlock()
	logged := map[string]bool{}
	for _, r := range requests {
		answer, err := a.try(Call{Method: http.MethodGet, Path: "/kiln/v1/executions/" + r.id})
		if err != nil {
			a.tb.Logf("record of %s: %v", r.id, err)
			continue
		}
		a.tb.Logf("record of %s (account %s): %d %s", r.id, a.ID, answer.Status, answer.Body)
		if !logged[r.function] {
			logged[r.function] = true
			a.logs(r.function)
		}
	}
}

// logs prints the end of a function's log.
func (a *Account) logs(function string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, _ := a.Command(ctx, "logs", function).CombinedOutput()
	lines := strings.SplitAfter(string(out), "\n")
	a.tb.Logf("--- the log of %s\n%s---", function, strings.Join(lines[max(0, len(lines)-tailLines):], ""))
}

// Environ gives the variables of a shell that uses this account.
func (a *Account) Environ() []string {
	return []string{"AWS_ENDPOINT_URL=" + a.Server.URL, "AWS_ACCESS_KEY_ID=" + a.Key, "AWS_SECRET_ACCESS_KEY=" + a.Secret,
		"AWS_REGION=" + a.Region, "AWS_DEFAULT_REGION=" + a.Region, "KILN_ACCOUNT_ID=" + a.ID, "AWS_EC2_METADATA_DISABLED=true"}
}

// Credentials gives the account's key to an SDK.
func (a *Account) Credentials() aws.CredentialsProvider {
	return awscredentials.NewStaticCredentialsProvider(a.Key, a.Secret, "")
}

// Lambda gives AWS's own client, pointed at the server.
func (a *Account) Lambda(options ...func(*lambda.Options)) *lambda.Client {
	return lambda.New(lambda.Options{BaseEndpoint: aws.String(a.Server.URL), Region: a.Region, Credentials: a.Credentials()}, options...)
}

// Call is one signed request.
type Call struct {
	Method, Path string // the path is escaped already
	Query        url.Values
	Header       map[string]string
	Body         []byte
	// Service is the service of the signature's scope; "lambda" when empty.
	Service string
	// Key and Secret replace the account's own, to show what wrong ones do.
	Key, Secret string
	// Unsigned leaves the signature out.
	Unsigned bool
}

// Answer is what a call was answered, and when by this process's clock.
type Answer struct {
	Status    int
	Header    http.Header
	Body      []byte
	Sent, Got time.Time

	tb testing.TB
}

// Do makes a call and demands an answer of any status.
func (a *Account) Do(c Call) *Answer {
	a.tb.Helper()
	answer, err := a.try(c)
	if err != nil {
		a.tb.Fatalf("%s %s: %v", c.Method, c.Path, err)
	}
	return answer
}

func (a *Account) try(c Call) (*Answer, error) {
	req, err := a.request(c)
	if err != nil {
		return nil, err
	}
	sent := time.Now()
	res, err := a.Server.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	return &Answer{Status: res.StatusCode, Header: res.Header, Body: body, Sent: sent, Got: time.Now(), tb: a.tb}, nil
}

func (a *Account) request(c Call) (*http.Request, error) {
	target := a.Server.URL + c.Path
	if len(c.Query) > 0 {
		target += "?" + c.Query.Encode()
	}
	ctx := context.Background()
	req, err := http.NewRequestWithContext(ctx, c.Method, target, bytes.NewReader(c.Body))
	if err != nil {
		return nil, err
	}
	for name, value := range c.Header {
		req.Header.Set(name, value)
	}
	if c.Unsigned {
		return req, nil
	}
	service, id, secret := orElse(c.Service, "lambda"), orElse(c.Key, a.Key), orElse(c.Secret, a.Secret)
	sum := sha256.Sum256(c.Body)
	key := aws.Credentials{AccessKeyID: id, SecretAccessKey: secret}
	return req, v4.NewSigner().SignHTTP(ctx, key, req, hex.EncodeToString(sum[:]), service, a.Region, time.Now())
}

// Invocation is one Invoke by plain signed HTTP.
type Invocation struct {
	Function string // name, partial or full ARN
	Payload  string
	// Qualifier, Type (InvocationType), Tail and ClientContext (JSON) are AWS's.
	Qualifier, Type string
	Tail            bool
	ClientContext   string
	// Header holds further headers, X-Kiln-Memory among them.
	Header map[string]string
	// Secret replaces the account's own.
	Secret string
}

// Invoke invokes a function and demands an answer of any status.
func (a *Account) Invoke(in Invocation) *Answer {
	a.tb.Helper()
	answer, err := a.TryInvoke(in)
	if err != nil {
		a.tb.Fatalf("invoke %s: %v", in.Function, err)
	}
	return answer
}

// TryInvoke invokes a function. Unlike Invoke it may be called by any goroutine of the test.
func (a *Account) TryInvoke(in Invocation) (*Answer, error) {
	c := Call{Method: http.MethodPost, Path: "/2015-03-31/functions/" + url.PathEscape(in.Function) + "/invocations",
		Query: url.Values{}, Header: map[string]string{"Content-Type": "application/json"}, Body: []byte(in.Payload), Secret: in.Secret}
	maps.Copy(c.Header, in.Header)
	if in.Qualifier != "" {
		c.Query.Set("Qualifier", in.Qualifier)
	}
	if in.Type != "" {
		c.Header["X-Amz-Invocation-Type"] = in.Type
	}
	if in.Tail {
		c.Header["X-Amz-Log-Type"] = "Tail"
	}
	if in.ClientContext != "" {
		c.Header["X-Amz-Client-Context"] = base64Text(in.ClientContext)
	}
	answer, err := a.try(c)
	if err == nil {
		a.note(in.Function, answer)
	}
	return answer, err
}

// RequestID is AWS's request id of the answer.
func (n *Answer) RequestID() string { return n.Header.Get("X-Amzn-Requestid") }

// Path is the acquisition path the server says the request took.
func (n *Answer) Path() string { return n.Header.Get("X-Kiln-Acquisition-Path") }

// Fleet is the fleet the server says it ran in.
func (n *Answer) Fleet() string { return n.Header.Get("X-Kiln-Fleet") }

// Instance and Container are the places the server says it ran in.
func (n *Answer) Instance() string { return n.Header.Get("X-Kiln-Instance") }

// Container is the container the server says it ran in.
func (n *Answer) Container() string { return n.Header.Get("X-Kiln-Container") }

// FunctionError is AWS's word for a failed function, empty when it succeeded.
func (n *Answer) FunctionError() string { return n.Header.Get("X-Amz-Function-Error") }

// OK demands that a call succeeded and, for an invoke, that the function did.
func (n *Answer) OK() *Answer {
	n.tb.Helper()
	if err := n.Failure(); err != nil {
		n.tb.Fatal(err)
	}
	return n
}

// Failure is nil when the call succeeded and, for an invoke, the function did.
func (n *Answer) Failure() error {
	if n.Status < 200 || n.Status > 299 || n.FunctionError() != "" {
		return fmt.Errorf("answer %d, function error %q, request %s: %s", n.Status, n.FunctionError(), n.RequestID(), clip(n.Body))
	}
	return nil
}

// JSON reads the body.
func (n *Answer) JSON(into any) {
	n.tb.Helper()
	if err := json.Unmarshal(n.Body, into); err != nil {
		n.tb.Fatalf("the answer is not the JSON expected: %v: %s", err, clip(n.Body))
	}
}

// Refused demands an error answer of AWS's form with this status and type, and gives the body's members.
func (n *Answer) Refused(status int, code string) map[string]any {
	n.tb.Helper()
	got, _, _ := strings.Cut(n.Header.Get("X-Amzn-Errortype"), ":")
	if n.Status != status || got != code {
		n.tb.Fatalf("answer %d %q, want %d %q: %s", n.Status, got, status, code, clip(n.Body))
	}
	body := map[string]any{}
	n.JSON(&body)
	return body
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func clip(b []byte) string {
	if len(b) > 2000 {
		return string(b[:2000]) + "…"
	}
	return string(b)
}

// Package client talks to a Kiln server as its command line needs it: the Lambda API through AWS's own Go SDK, and
// /kiln/v1 through plain HTTP signed by the SDK's signer. It also knows the two files by which a server says where it
// is and which key opens it.
//
// It is no SDK: programs use AWS's. It keeps no state, tries nothing twice, and prints nothing. Only cmd/kiln uses it,
// and server for the two files. A Client is safe for concurrent use; it holds no lock.
package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"kiln"
)

// Bounds of what is read from a server.
const (
	// MaxAnswerBytes bounds an answer that is read whole.
	MaxAnswerBytes = 64 << 20
	// DialLimit bounds the making of a connection.
	DialLimit = 5 * time.Second
)

// Client reaches one server as the owner of one access key.
type Client struct {
	endpoint string // without a slash at its end
	key      Credentials
	http     *http.Client
	signer   *v4.Signer
}

// New makes a client. It does not connect. KindInvalid when the endpoint is no http(s) address.
func New(endpoint string, key Credentials) (*Client, error) {
	u, err := url.Parse(endpoint)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, kiln.Errorf(kiln.KindInvalid, "client: new", "the endpoint %q is no address; give one like http://127.0.0.1:4566", endpoint)
	}
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: DialLimit}).DialContext,
		Proxy:               http.ProxyFromEnvironment,
		MaxIdleConnsPerHost: 16,
	}
	return &Client{endpoint: strings.TrimRight(endpoint, "/"), key: key, http: &http.Client{Transport: transport},
		signer: v4.NewSigner()}, nil
}

// Endpoint gives the server's address.
func (c *Client) Endpoint() string { return c.endpoint }

// Key gives the access key the client signs with.
func (c *Client) Key() Credentials { return c.key }

// Lambda gives AWS's client for the Lambda API, pointed at this server. It tries nothing twice.
func (c *Client) Lambda() *lambda.Client {
	return lambda.NewFromConfig(aws.Config{
		Region:       c.key.Region,
		Credentials:  credentials.NewStaticCredentialsProvider(c.key.AccessKeyID, c.key.SecretAccessKey, ""),
		HTTPClient:   c.http,
		BaseEndpoint: aws.String(c.endpoint),
		Retryer:      func() aws.Retryer { return aws.NopRetryer{} },
	})
}

// Request is one call of /kiln/v1.
type Request struct {
	Method string
	Path   string // with its slash, escaped: "/kiln/v1/instances"
	Query  url.Values
	Header http.Header
	Body   []byte
}

// Do signs and sends a request and gives the answer when its status is below 400; the caller closes its body. Blocks
// until the answer's headers are there. Errors carry the server's own message; kinds as the status tells.
func (c *Client) Do(ctx context.Context, r Request) (*http.Response, error) {
	target := c.endpoint + r.Path
	if len(r.Query) > 0 {
		target += "?" + r.Query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, target, bytes.NewReader(r.Body))
	if err != nil {
		return nil, kiln.Wrap(kiln.KindInvalid, "client: "+r.Method+" "+r.Path, "this is no request", err)
	}
	maps.Copy(req.Header, r.Header)
	sum := sha256.Sum256(r.Body)
	hash := hex.EncodeToString(sum[:])
	req.Header.Set("X-Amz-Content-Sha256", hash)
	key := aws.Credentials{AccessKeyID: c.key.AccessKeyID, SecretAccessKey: c.key.SecretAccessKey}
	if err := c.signer.SignHTTP(ctx, key, req, hash, "kiln", c.key.Region, time.Now()); err != nil {
		return nil, kiln.Wrap(kiln.KindInternal, "client: sign", "the request cannot be signed", err)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.Explain(err)
	}
	if res.StatusCode >= 400 {
		defer res.Body.Close()
		return nil, failed(r, res)
	}
	return res, nil
}

// JSON sends in (unless nil) as JSON and reads the answer into out (unless nil). Blocks for the whole answer.
func (c *Client) JSON(ctx context.Context, r Request, in, out any) error {
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return kiln.Wrap(kiln.KindInvalid, "client: "+r.Path, "the request cannot be written as JSON", err)
		}
		r.Body, r.Header = b, http.Header{"Content-Type": {"application/json"}}
	}
	res, err := c.Do(ctx, r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := ReadAll(res.Body)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(b, out); err != nil {
		return kiln.Wrap(kiln.KindInternal, "client: "+r.Path, "the server's answer is not the JSON expected; is "+c.endpoint+" a Kiln of this version?", err)
	}
	return nil
}

// List gives the items of a /kiln/v1 list, page by page until there are no more or limit (0: all) are read.
func (c *Client) List(ctx context.Context, kind string, query url.Values, limit int) ([]json.RawMessage, error) {
	const pageItems = 500
	q := url.Values{}
	maps.Copy(q, query)
	var items []json.RawMessage
	for {
		want := pageItems
		if limit > 0 {
			want = min(want, limit-len(items))
		}
		q.Set("limit", fmt.Sprint(want))
		var page struct {
			Items []json.RawMessage `json:"items"`
			Next  string            `json:"next"`
		}
		if err := c.JSON(ctx, Request{Method: http.MethodGet, Path: "/kiln/v1/" + kind, Query: q}, nil, &page); err != nil {
			return nil, err
		}
		items = append(items, page.Items...)
		if limit > 0 && len(items) >= limit {
			return items[:limit], nil
		}
		if page.Next == "" || page.Next == q.Get("next") { // an empty page may go on, but not in a circle
			return items, nil
		}
		q.Set("next", page.Next)
	}
}

// ReadAll reads an answer's body up to MaxAnswerBytes. KindTooLarge beyond it, KindUnavailable when it breaks off.
func ReadAll(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxAnswerBytes+1))
	if err != nil {
		return nil, kiln.Wrap(kiln.KindUnavailable, "client: read answer", "the server's answer broke off", err)
	}
	if len(b) > MaxAnswerBytes {
		return nil, kiln.Errorf(kiln.KindTooLarge, "client: read answer", "the server's answer has more than %d bytes", MaxAnswerBytes)
	}
	return b, nil
}

// failed makes an error of an answer with a status of 400 or more.
func failed(r Request, res *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(res.Body, 1<<20)) // what broke off is shown as far as it came
	var shape struct {
		Message string `json:"message"`
		Upper   string `json:"Message"`
		Reason  string `json:"Reason"`
	}
	_ = json.Unmarshal(b, &shape) // an answer that is no JSON is shown as it is
	message := shape.Message + shape.Upper
	if shape.Message == shape.Upper {
		message = shape.Message
	}
	if message == "" {
		message = fmt.Sprintf("%s: %s", res.Status, strings.TrimSpace(string(b[:min(len(b), 500)])))
	}
	e := kiln.Errorf(kindOf(res.StatusCode), "client: "+r.Method+" "+r.Path, "%s", withReason(message, shape.Reason))
	e.Reason, _, _ = strings.Cut(res.Header.Get("X-Amzn-Errortype"), ":")
	return e
}

// Explain turns what the SDK or the network says into one of our errors, with a message that says what to do.
func (c *Client) Explain(err error) error {
	if err == nil {
		return nil
	}
	if _, ours := errors.AsType[*kiln.Error](err); ours {
		return err
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		status := 0
		if coded, ok := errors.AsType[interface {
			error
			HTTPStatusCode() int
		}](err); ok {
			status = coded.HTTPStatusCode()
		}
		message := api.ErrorMessage()
		if limit, is := errors.AsType[*types.TooManyRequestsException](err); is {
			message = withReason(message, string(limit.Reason))
		}
		e := kiln.Wrap(kindOf(status), "client: lambda", message, err)
		e.Reason = api.ErrorCode()
		return e
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return kiln.Wrap(kiln.KindUnavailable, "client: call", "the call was broken off before its answer", err)
	}
	if broken(err) {
		return kiln.Wrap(kiln.KindUnavailable, "client: call",
			"the connection to "+c.endpoint+" broke before the answer; what was asked may have happened all the same: the function may have run", err)
	}
	return kiln.Wrap(kiln.KindUnavailable, "client: call",
		"no server answers at "+c.endpoint+"; start one with `kiln serve`, or give --endpoint or --data", err)
}

// broken reports whether a connection that was made ended before the answer did.
func broken(err error) bool {
	if e, is := errors.AsType[*net.OpError](err); is && e.Op == "dial" {
		return false
	}
	for _, lost := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, lost) {
			return true
		}
	}
	return false
}

// withReason puts AWS's word for which limit was reached beside a message.
func withReason(message, reason string) string {
	if reason == "" {
		return message
	}
	return message + " (" + reason + ")"
}

// Answers reports whether something accepts connections at the server's address. Blocks up to DialLimit.
func Answers(ctx context.Context, endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	address := u.Host
	if u.Port() == "" {
		address = net.JoinHostPort(u.Hostname(), u.Scheme)
	}
	conn, err := (&net.Dialer{Timeout: DialLimit}).DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	_ = conn.Close() // nothing was said
	return true
}

func kindOf(status int) kiln.Kind {
	switch status {
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType:
		return kiln.KindInvalid
	case http.StatusUnauthorized:
		return kiln.KindUnauthenticated
	case http.StatusForbidden:
		return kiln.KindDenied
	case http.StatusNotFound:
		return kiln.KindNotFound
	case http.StatusConflict:
		return kiln.KindConflict
	case http.StatusPreconditionFailed:
		return kiln.KindPrecondition
	case http.StatusRequestEntityTooLarge:
		return kiln.KindTooLarge
	case http.StatusTooManyRequests:
		return kiln.KindThrottled
	case http.StatusNotImplemented:
		return kiln.KindUnsupported
	case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		return kiln.KindUnavailable
	}
	return kiln.KindInternal
}

package frontend

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"kiln"
	"kiln/internal/identity"
	"kiln/internal/registry"
)

// urlEvent is an HTTP request as a function gets it: AWS's payload format 2.0, in AWS's order.
type urlEvent struct {
	Version               string            `json:"version"`
	RouteKey              string            `json:"routeKey"`
	RawPath               string            `json:"rawPath"`
	RawQueryString        string            `json:"rawQueryString"`
	Cookies               []string          `json:"cookies,omitempty"`
	Headers               map[string]string `json:"headers"`
	QueryStringParameters map[string]string `json:"queryStringParameters,omitempty"`
	RequestContext        urlContext        `json:"requestContext"`
	Body                  *string           `json:"body,omitempty"`
	IsBase64Encoded       bool              `json:"isBase64Encoded"`
}

type urlContext struct {
	AccountID    string         `json:"accountId"`
	APIID        string         `json:"apiId"`
	Authorizer   *urlAuthorizer `json:"authorizer,omitempty"`
	DomainName   string         `json:"domainName"`
	DomainPrefix string         `json:"domainPrefix"`
	HTTP         urlHTTP        `json:"http"`
	RequestID    kiln.RequestID `json:"requestId"`
	RouteKey     string         `json:"routeKey"`
	Stage        string         `json:"stage"`
	Time         string         `json:"time"`
	TimeEpoch    int64          `json:"timeEpoch"` // milliseconds since 1970
}

type urlHTTP struct {
	Method    string `json:"method"`
	Path      string `json:"path"`
	Protocol  string `json:"protocol"`
	SourceIP  string `json:"sourceIp"`
	UserAgent string `json:"userAgent"`
}

type urlAuthorizer struct {
	IAM urlCaller `json:"iam"`
}

type urlCaller struct {
	AccessKey      string         `json:"accessKey"`
	AccountID      kiln.AccountID `json:"accountId"`
	CallerID       string         `json:"callerId"`
	PrincipalOrgID *string        `json:"principalOrgId"`
	UserARN        string         `json:"userArn"`
	UserID         string         `json:"userId"`
}

// urlTime is the form of requestContext.time, the one of servers' access logs.
const urlTime = "02/Jan/2006:15:04:05 -0700"

// urlRequest is a request that came through a function URL.
type urlRequest struct {
	id       kiln.RequestID
	received time.Time
	url      registry.FunctionURL
	path     string // as it was sent, below the URL
	http     *http.Request
	body     []byte
	caller   identity.Caller // of a URL that anybody may use, nobody
	traceID  string
}

// event writes the request as the function gets it.
func (u *urlRequest) event() ([]byte, error) {
	r := u.http
	ip, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		ip = r.RemoteAddr
	}
	domain, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		domain, port = r.Host, "80"
	}
	e := urlEvent{
		Version: "2.0", RouteKey: "$default", RawPath: u.path, RawQueryString: r.URL.RawQuery, Headers: u.headers(ip, port),
		QueryStringParameters: joined(r.URL.RawQuery),
		RequestContext: urlContext{
			AccountID: "anonymous", APIID: u.url.ID, DomainName: domain, DomainPrefix: u.url.ID, RequestID: u.id, RouteKey: "$default", Stage: "$default",
			HTTP: urlHTTP{Method: r.Method, Path: decodedPath(u.path), Protocol: r.Proto, SourceIP: ip, UserAgent: r.UserAgent()},
			Time: u.received.UTC().Format(urlTime), TimeEpoch: u.received.UnixMilli(),
		},
	}
	for _, line := range r.Header.Values("Cookie") {
		for cookie := range strings.SplitSeq(line, ";") {
			e.Cookies = append(e.Cookies, strings.TrimSpace(cookie))
		}
	}
	if c := u.caller; c.Account != "" {
		e.RequestContext.AccountID = string(c.Account)
		e.RequestContext.Authorizer = &urlAuthorizer{IAM: urlCaller{AccessKey: c.KeyID, AccountID: c.Account, CallerID: string(c.Account),
			UserARN: "arn:aws:iam::" + string(c.Account) + ":root", UserID: string(c.Account)}}
	}
	if len(u.body) > 0 {
		text := string(u.body)
		if e.IsBase64Encoded = !isText(r.Header.Get("Content-Type")) || !utf8.Valid(u.body); e.IsBase64Encoded {
			text = base64.StdEncoding.EncodeToString(u.body)
		}
		e.Body = &text
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err = enc.Encode(&e)
	return b.Bytes(), err
}

// headers gives the fields as a function sees them: names in lower case, values joined; cookies apart; what is known of
// the connection under the names a proxy gives it, whatever the client says. A signature that was verified is left out.
func (u *urlRequest) headers(ip, port string) map[string]string {
	out := make(map[string]string, len(u.http.Header)+5)
	for name, values := range u.http.Header {
		out[strings.ToLower(name)] = strings.Join(values, ",")
	}
	delete(out, "cookie")
	if u.caller.Account != "" {
		delete(out, "authorization")
	}
	out["host"] = u.http.Host
	out["x-forwarded-for"], out["x-forwarded-proto"], out["x-forwarded-port"] = ip, "http", port
	out["x-amzn-trace-id"] = u.traceID
	return out
}

// joined gives the parameters of a query, decoded, those of one name joined by commas.
func joined(query string) map[string]string {
	values, _ := url.ParseQuery(query) // what can be read of it
	out := make(map[string]string, len(values))
	for name, all := range values {
		out[name] = strings.Join(all, ",")
	}
	return out
}

func decodedPath(path string) string {
	if decoded, err := url.PathUnescape(path); err == nil {
		return decoded
	}
	return path
}

// isText reports whether a body of this type goes to the function as it is; all others go in base64.
func isText(contentType string) bool {
	kind, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	kind = strings.TrimSpace(kind)
	return strings.HasPrefix(kind, "text/") ||
		slices.ContainsFunc([]string{"json", "xml", "javascript"}, func(s string) bool { return strings.HasSuffix(kind, s) })
}

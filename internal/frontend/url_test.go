package frontend

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"kiln/internal/identity"
	"kiln/internal/registry"
)

// Which requests are a function URL's, by host and by path, and what lies below it, as it was sent. // R7
func TestURLOf(t *testing.T) {
	for _, c := range []struct{ host, target, id, path string }{
		{"abc.lambda-url.us-east-1.localhost:4566", "/", "abc", "/"},
		{"ABC.lambda-url.us-east-1.on.aws", "/a%20b//c/../d?x=1", "abc", "/a%20b//c/../d"},
		{"abc.lambda-url.x.localhost", "/2015-03-31/functions/f/invocations", "abc", "/2015-03-31/functions/f/invocations"},
		{"127.0.0.1:4566", "/kiln/url/abc", "abc", "/"},
		{"127.0.0.1:4566", "/kiln/url/abc/x/y?z", "abc", "/x/y"},
		{"127.0.0.1:4566", "/2015-03-31/functions/", "", ""},
		{"127.0.0.1:4566", "/kiln/v1/executions", "", ""},
	} {
		r := httptest.NewRequest("GET", c.target, nil)
		r.Host, r.RequestURI = c.host, c.target
		id, path, ok := urlOf(r)
		if id != c.id || path != c.path || ok != (c.id != "") {
			t.Errorf("%s%s: %q %q %v", c.host, c.target, id, path, ok)
		}
	}
}

// The address given out works from where the request came. // R7
func TestURLAddress(t *testing.T) {
	f := &Frontend{cfg: Config{Region: "eu-west-1"}}
	for host, want := range map[string]string{
		"127.0.0.1:4566":    "http://abc.lambda-url.eu-west-1.localhost:4566/",
		"[::1]:80":          "http://abc.lambda-url.eu-west-1.localhost:80/",
		"localhost":         "http://abc.lambda-url.eu-west-1.localhost/",
		"kiln.example:4566": "http://kiln.example:4566/kiln/url/abc/",
	} {
		if got := f.urlAddress(host, "abc"); got != want {
			t.Errorf("by %s: %s, want %s", host, got, want)
		}
	}
}

// A request as its function gets it: AWS's payload format 2.0. // R7
func TestURLEvent(t *testing.T) {
	r := httptest.NewRequest("POST", "/a%20b?x=1&x=2&y=%26", nil)
	r.Host, r.RemoteAddr = "abc.lambda-url.us-east-1.localhost:4566", "127.0.0.9:1234"
	r.Header = http.Header{"Cookie": {"a=1; b=2", "c=3"}, "X-Two": {"1", "2"}, "Content-Type": {"application/json; charset=utf-8"},
		"User-Agent": {"test"}, "X-Forwarded-For": {"6.6.6.6"}, "Authorization": {"Bearer x"}}
	u := &urlRequest{id: "the-id", received: time.UnixMilli(1583348638390), url: registry.FunctionURL{URL: &registry.URL{ID: "abc"}},
		path: "/a%20b", http: r, body: []byte(`{"ü":"<"}`), traceID: "Root=1"}
	got, err := u.event()
	want := `{"version":"2.0","routeKey":"$default","rawPath":"/a%20b","rawQueryString":"x=1&x=2&y=%26","cookies":["a=1","b=2","c=3"],` +
		`"headers":{"authorization":"Bearer x","content-type":"application/json; charset=utf-8","host":"abc.lambda-url.us-east-1.localhost:4566",` +
		`"user-agent":"test","x-amzn-trace-id":"Root=1","x-forwarded-for":"127.0.0.9","x-forwarded-port":"4566","x-forwarded-proto":"http","x-two":"1,2"},` +
		`"queryStringParameters":{"x":"1,2","y":"&"},"requestContext":{"accountId":"anonymous","apiId":"abc",` +
		`"domainName":"abc.lambda-url.us-east-1.localhost","domainPrefix":"abc","http":{"method":"POST","path":"/a b","protocol":"HTTP/1.1",` +
		`"sourceIp":"127.0.0.9","userAgent":"test"},"requestId":"the-id","routeKey":"$default","stage":"$default",` +
		`"time":"04/Mar/2020:19:03:58 +0000","timeEpoch":1583348638390},"body":"{\"ü\":\"<\"}","isBase64Encoded":false}` + "\n"
	if err != nil || string(got) != want {
		t.Errorf("got  %s (%v)\nwant %s", got, err, want)
	}
	u.caller = identity.Caller{Account: "111111111111", KeyID: "AKIA"}
	for contentType, encoded := range map[string]bool{"text/html": false, "application/soap+xml": false, "application/x-www-form-urlencoded": true, "": true, "image/png": true} {
		r.Header.Set("Content-Type", contentType)
		got, _ := u.event()
		if strings.Contains(string(got), `"isBase64Encoded":true`) != encoded {
			t.Errorf("%q: %s", contentType, got)
		}
		if strings.Contains(string(got), "Bearer x") || !strings.Contains(string(got), `"authorizer":{"iam":{"accessKey":"AKIA","accountId":"111111111111"`) {
			t.Errorf("signed: %s", got)
		}
	}
}

// A function's answer in HTTP's words, or inferred from plain JSON; what is neither is a fault of the function. // R7
func TestURLAnswer(t *testing.T) {
	for payload, want := range map[string]urlAnswer{
		`"hello"`:     {200, http.Header{"Content-Type": {"application/json"}}, []byte(`"hello"`)},
		`null`:        {200, http.Header{"Content-Type": {"application/json"}}, []byte(`null`)},
		`{"a":1}`:     {200, http.Header{"Content-Type": {"application/json"}}, []byte(`{"a":1}`)},
		`{"body":""}`: {200, http.Header{"Content-Type": {"application/json"}}, []byte(`{"body":""}`)},
		`{"statusCode":201,"headers":{"content-type":"text/plain","X-N":7,"Transfer-Encoding":"chunked","content-length":"9"},"cookies":["a=1","b=2"],"body":"aGk=","isBase64Encoded":true}`: {
			201, http.Header{"Content-Type": {"text/plain"}, "X-N": {"7"}, "Set-Cookie": {"a=1", "b=2"}}, []byte("hi")},
		`{"statusCode":"204"}`:                {204, http.Header{"Content-Type": {"application/json"}}, nil},
		`{"statusCode":200,"body":{"a":1}}`:   {200, http.Header{"Content-Type": {"application/json"}}, []byte(`{"a":1}`)},
		`{"statusCode":200,"body":null}`:      {200, http.Header{"Content-Type": {"application/json"}}, nil},
		`{"statusCode":200,"headers":"none"}`: {}, `{"statusCode":101}`: {}, `{"statusCode":600}`: {}, `{"statusCode":[]}`: {},
		`{"statusCode":200,"body":"%","isBase64Encoded":true}`: {}, `not JSON`: {}, ``: {},
	} {
		got, ok := readURLAnswer([]byte(payload))
		if ok != (want.status != 0) {
			t.Errorf("%s: %v", payload, ok)
			continue
		}
		if !ok {
			continue
		}
		header, _ := json.Marshal(got.header)
		wanted, _ := json.Marshal(want.header)
		if got.status != want.status || string(got.body) != string(want.body) || string(header) != string(wanted) {
			t.Errorf("%s: %d %s %s", payload, got.status, header, got.body)
		}
	}
}

// Whatever a function answers, writing it as HTTP neither fails nor lets the function write what is the server's.
func FuzzURLAnswer(f *testing.F) {
	f.Add([]byte(`{"statusCode":200,"headers":{"A":"b"},"cookies":["c=d"],"body":"e"}`))
	f.Add([]byte(`{"statusCode":200,"headers":{"Connection":"close","a\r\nb":"c\r\nd"},"isBase64Encoded":true,"body":"aGk="}`))
	f.Add([]byte(`{"statusCode":101}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		answer, ok := readURLAnswer(payload)
		if !ok {
			return
		}
		w := httptest.NewRecorder()
		answer.write(w, "id", true)
		if answer.status < 200 || answer.status > 599 || w.Header().Get("Connection") != "" || w.Header().Get("x-amzn-RequestId") != "id" {
			t.Errorf("%d %v", answer.status, w.Header())
		}
	})
}

// Which pages a URL's settings let in, and what they are told. // R7
func TestCORS(t *testing.T) {
	all := &registry.CORS{Origins: []string{"*"}}
	one := &registry.CORS{Origins: []string{"https://a", "https://b"}, Credentials: true, Methods: []string{"GET", "PUT"}, Headers: []string{"x-a"}, Expose: []string{"x-b"}, MaxAge: 9}
	for _, c := range []struct {
		cors   *registry.CORS
		origin string
		want   string
	}{
		{nil, "https://a", `{}`},
		{all, "", `{}`},
		{all, "https://a", `{"Access-Control-Allow-Origin":["*"],"Vary":["Origin"]}`},
		{&registry.CORS{Origins: []string{"*"}, Credentials: true}, "https://a", `{"Access-Control-Allow-Credentials":["true"],"Access-Control-Allow-Origin":["https://a"],"Vary":["Origin"]}`},
		{one, "https://c", `{"Vary":["Origin"]}`},
		{one, "https://b", `{"Access-Control-Allow-Credentials":["true"],"Access-Control-Allow-Headers":["x-a"],"Access-Control-Allow-Methods":["GET,PUT"],"Access-Control-Allow-Origin":["https://b"],"Access-Control-Max-Age":["9"],"Vary":["Origin"]}`},
	} {
		h := http.Header{}
		if setCORS(h, c.cors, c.origin); c.cors != nil {
			setPreflight(h, c.cors)
		}
		if got, _ := json.Marshal(h); string(got) != c.want {
			t.Errorf("%+v from %q: %s", c.cors, c.origin, got)
		}
	}
	h := http.Header{}
	setCORS(h, one, "https://a")
	if h.Get("Access-Control-Expose-Headers") != "x-b" || h.Get("Access-Control-Allow-Methods") != "" {
		t.Errorf("of an ordinary request: %v", h)
	}
}

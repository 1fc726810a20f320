package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"kiln"
	"kiln/internal/engine"
)

// noon is the clock of these tests.
var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func openEngine(t testing.TB, dir string) *engine.Engine {
	t.Helper()
	e, err := engine.Open(t.Context(), engine.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func openIdentity(t testing.TB, dir string) *Identity {
	t.Helper()
	i, err := Open(t.Context(), openEngine(t, dir), Config{Now: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func defaultKey(t testing.TB, i *Identity) Key {
	t.Helper()
	k, ok := i.DefaultKey()
	if !ok {
		t.Fatal("no default key")
	}
	return k
}

// sign signs a request with AWS's SDK, as its clients do, and gives what arrives at a server.
func sign(t testing.TB, k Key, service string, at time.Time, presign bool, method, target, body string, header ...string) *Signed {
	t.Helper()
	req, err := http.NewRequest(method, "http://127.0.0.1:4566"+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	sum := sha256.Sum256([]byte(body))
	hash := hex.EncodeToString(sum[:])
	if declared := req.Header.Get("X-Amz-Content-Sha256"); declared != "" {
		hash = declared
	}
	credentials := aws.Credentials{AccessKeyID: k.ID, SecretAccessKey: k.Secret, SessionToken: "a token"}
	signer := v4.NewSigner()
	if presign {
		uri, signed, err := signer.PresignHTTP(context.Background(), credentials, req, hash, service, "eu-central-1", at)
		if err != nil {
			t.Fatal(err)
		}
		if req.URL, err = url.Parse(uri); err != nil {
			t.Fatal(err)
		}
		req.Header = signed
	} else if err := signer.SignHTTP(context.Background(), credentials, req, hash, service, "eu-central-1", at); err != nil {
		t.Fatal(err)
	}
	return overTheWire(t, req, body)
}

// overTheWire sends a request through Go's own client and server and gives what the server sees.
func overTheWire(t testing.TB, req *http.Request, body string) *Signed {
	t.Helper()
	var seen *Signed
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		seen = FromHTTP(r, got)
	}))
	defer server.Close()
	to, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	if req.Host == "" {
		req.Host = req.URL.Host
	}
	req.URL.Host = to.Host
	req.Body = io.NopCloser(strings.NewReader(body))
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return seen
}

// targets are paths and queries that are hard to get right.
var targets = []string{
	"/",
	"/2015-03-31/functions",
	"/2015-03-31/functions/",
	"/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af/invocations?Qualifier=%24LATEST",
	"/2017-03-31/tags/arn%3Aaws%3Alambda%3Aus-east-1%3A0%3Afunction%3Af?tagKeys=b&tagKeys=a&tagKeys=a%20b&tagKeys=a%2Bb",
	"/a/%2F/b%20c/~x/%C3%A4?empty=&z&A=1&a=%C3%A4&a-b=1&a.b=2&a_b=3&a~b=4",
}

// Requests signed by AWS's SDK for Go, in header and query, are its caller's, whatever the path, the query and the fields;
// any region is let in.
func TestSDKSignatures(t *testing.T) {
	i := openIdentity(t, t.TempDir())
	k := defaultKey(t, i)
	for _, presign := range []bool{false, true} {
		for _, target := range targets {
			for _, body := range []string{"", `{"x": 1}`} {
				s := sign(t, k, "lambda", noon, presign, "POST", target, body,
					"X-Amz-Invocation-Type", "  a   b  ", "X-Amz-Meta-Two", "one", "X-Amz-Meta-Two", "two", "Content-Type", "application/json")
				got, err := i.Authenticate(s)
				if err != nil {
					t.Errorf("presigned %t %s %q: %v", presign, target, body, err)
					continue
				}
				if want := (Caller{kiln.DefaultAccount, k.ID, true, "lambda"}); got != want {
					t.Errorf("%+v, want %+v", got, want)
				}
			}
		}
	}
}

// reason gives the code of an error, and its kind.
func reason(err error) string {
	if e, ok := errors.AsType[*kiln.Error](err); ok {
		return e.Kind.String() + " " + e.Reason
	}
	return "none"
}

// Each way a signature can be wrong is refused with AWS's code: nothing but the signed request itself is let in.
func TestRefused(t *testing.T) {
	i := openIdentity(t, t.TempDir())
	k := defaultKey(t, i)
	other := k
	other.Secret = "another"
	unknown := k
	unknown.ID = "AKIAUNKNOWN"
	const (
		target = "/2015-03-31/functions/f/invocations?Qualifier=1"
		wrong  = "unauthenticated InvalidSignatureException"
		part   = "unauthenticated IncompleteSignatureException"
	)
	good := func() *Signed {
		return sign(t, k, "lambda", noon, false, "POST", target, "body", "X-Amz-Log-Type", "Tail")
	}
	link := func() *Signed { return sign(t, k, "lambda", noon, true, "POST", target+"&X-Amz-Expires=60", "body") }
	authorization := func(from, to string) *Signed {
		s := good()
		for n := range s.Fields {
			if f := &s.Fields[n]; f.Name == "Authorization" {
				f.Value = strings.Replace(f.Value, from, to, 1)
			}
		}
		return s
	}
	with := func(s *Signed, change func(*Signed)) *Signed { change(s); return s }
	for _, c := range []struct {
		name, want string
		s          *Signed
	}{
		{"good", "none", good()},
		{"good link", "none", link()},
		{"no signature", "unauthenticated MissingAuthenticationTokenException", &Signed{Method: "GET", Path: "/"}},
		{"unknown key", "unauthenticated UnrecognizedClientException", sign(t, unknown, "lambda", noon, false, "POST", target, "")},
		{"wrong secret", wrong, sign(t, other, "lambda", noon, false, "POST", target, "")},
		{"wrong service", wrong, sign(t, k, "dynamodb", noon, false, "POST", target, "")},
		{"too old", wrong, sign(t, k, "lambda", noon.Add(-DefaultSkew-time.Second), false, "POST", target, "")},
		{"too new", wrong, sign(t, k, "lambda", noon.Add(DefaultSkew+time.Second), false, "POST", target, "")},
		{"old", "none", sign(t, k, "lambda", noon.Add(-DefaultSkew), false, "POST", target, "")},
		{"link too old", wrong, sign(t, k, "lambda", noon.Add(-61*time.Second), true, "POST", target+"&X-Amz-Expires=60", "")},
		{"link for ever", part, sign(t, k, "lambda", noon, true, "POST", target+"&X-Amz-Expires=604801", "")},
		{"method", wrong, with(good(), func(s *Signed) { s.Method = "PUT" })},
		{"path", wrong, with(good(), func(s *Signed) { s.Path += "/" })},
		{"query", wrong, with(good(), func(s *Signed) { s.Query += "&x=1" })},
		{"link query", wrong, with(link(), func(s *Signed) { s.Query += "&x=1" })},
		{"link twice", part, with(link(), func(s *Signed) { s.Query += "&X-Amz-Date=20260304T120000Z" })},
		{"host", wrong, with(good(), func(s *Signed) { s.Host = "elsewhere" })},
		{"body", wrong, with(good(), func(s *Signed) { s.Body = []byte("other") })},
		{"field twice", wrong, with(good(), func(s *Signed) { s.Fields = append(s.Fields, Field{"x-amz-log-type", "None"}) })},
		{"unsigned body", "none", sign(t, k, "lambda", noon, false, "PUT", "/", "x", "X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")},
		{"false hash", wrong, sign(t, k, "lambda", noon, false, "PUT", "/", "x", "X-Amz-Content-Sha256", strings.Repeat("0", 64))},
		{"chunks", "unsupported ", sign(t, k, "lambda", noon, false, "PUT", "/", "x", "X-Amz-Content-Sha256",
			"STREAMING-AWS4-HMAC-SHA256-PAYLOAD")},
		{"algorithm", part, authorization("HMAC-SHA256", "HMAC-SHA512")},
		{"bearer", part, &Signed{Method: "GET", Path: "/", Fields: []Field{{"authorization", "Bearer x"}}}},
		{"no signature in it", part, authorization("Signature=", "Sign=")},
		{"no key in it", part, authorization("Credential=", "Cred=")},
		{"no fields in it", part, authorization("SignedHeaders=", "Headers=")},
		{"scope", part, authorization("/aws4_request", "")},
		{"scope's end", part, authorization("/aws4_request", "/aws4_request/x")},
		{"other day", wrong, authorization("/20260304/", "/20260303/")},
		{"other region", wrong, authorization("/eu-central-1/", "/us-east-1/")},
		{"without host", wrong, authorization("host;", "")},
		{"empty signature's end", wrong, authorization("Signature=", "Signature=0")},
		{"no date", part, with(good(), func(s *Signed) {
			for n := range s.Fields {
				if s.Fields[n].Name == "X-Amz-Date" {
					s.Fields[n].Name = "X-Date"
				}
			}
		})},
	} {
		for range 2 { // the second time with the signing key known
			if _, err := i.Authenticate(c.s); reason(err) != c.want {
				t.Errorf("%s: %v, want %s", c.name, err, c.want)
			}
		}
	}
}

// The first start makes the default account with the operator's key and a second start finds them; keys of other accounts
// are not the operator's, and a deleted key is refused.
func TestAccountsAndKeys(t *testing.T) {
	dir := t.TempDir()
	e := openEngine(t, dir)
	cfg := Config{Now: func() time.Time { return noon }}
	i, err := Open(t.Context(), e, cfg)
	if err != nil {
		t.Fatal(err)
	}
	first := defaultKey(t, i)
	if first.Account != kiln.DefaultAccount || !first.Operator || len(first.ID) != 20 || len(first.Secret) != 40 {
		t.Fatalf("%+v", first)
	}
	owner, err := i.CreateAccount(t.Context())
	if err != nil || len(owner) != 12 {
		t.Fatal(owner, err)
	}
	k, err := i.CreateKey(t.Context(), owner)
	if err != nil || k.Operator || k.Account != owner {
		t.Fatal(k, err)
	}
	if _, err := i.CreateKey(t.Context(), "123"); kiln.KindOf(err) != kiln.KindNotFound {
		t.Fatal(err)
	}
	e.Close()
	i = openIdentity(t, dir)
	if again := defaultKey(t, i); again != first {
		t.Fatalf("%+v, want %+v", again, first)
	}
	if accounts := i.Accounts(); len(accounts) != 2 {
		t.Fatal(accounts)
	}
	s := sign(t, k, "sts", noon, false, "POST", "/", "Action=GetCallerIdentity")
	if got, err := i.Authenticate(s); err != nil || got != (Caller{owner, k.ID, false, "sts"}) {
		t.Fatal(got, err)
	}
	if err := i.DeleteKey(t.Context(), k.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := i.Authenticate(s); reason(err) != "unauthenticated UnrecognizedClientException" {
		t.Fatal(err)
	}
	if err := i.DeleteKey(t.Context(), first.ID); kiln.KindOf(err) != kiln.KindConflict {
		t.Fatal(err)
	}
}

// invocation is a warm request as the frontend's fast way hands it over.
func invocation(t testing.TB, i *Identity) *Signed {
	return sign(t, defaultKey(t, i), "lambda", noon, false, "POST", "/2015-03-31/functions/hello/invocations",
		strings.Repeat("x", 120), "Content-Type", "application/json")
}

// Verifying a warm request allocates nothing.
func TestAuthenticateDoesNotAllocate(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes sync.Pool forget at random")
	}
	i := openIdentity(t, t.TempDir())
	s := invocation(t, i)
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := i.Authenticate(s); err != nil {
			t.Fatal(err)
		}
	}); n >= 1 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkAuthenticate measures a warm request's verification.
func BenchmarkAuthenticate(b *testing.B) {
	i := openIdentity(b, b.TempDir())
	s := invocation(b, i)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := i.Authenticate(s); err != nil {
			b.Fatal(err)
		}
	}
}

package identity

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"kiln"
)

// Requests as botocore signs and sends them (testdata/generate.py writes them down) are their caller's: what AWS's command
// line, boto3 and the tools over them send.
func TestBotocoreSignatures(t *testing.T) {
	data, err := os.ReadFile("testdata/botocore.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		ID, Secret string
		Requests   []struct {
			Method, Path, Query, Host, Body string
			Fields                          []Field
		}
	}
	if err := json.Unmarshal(data, &vectors); err != nil {
		t.Fatal(err)
	}
	i := openIdentity(t, t.TempDir())
	putKey(t, i, Key{ID: vectors.ID, Secret: vectors.Secret, Account: "123456789012"})
	if len(vectors.Requests) < 30 {
		t.Fatalf("%d requests", len(vectors.Requests))
	}
	for _, r := range vectors.Requests {
		s := &Signed{Method: r.Method, Path: r.Path, Query: r.Query, Host: r.Host, Fields: r.Fields, Body: []byte(r.Body)}
		if got, err := i.Authenticate(s); err != nil || got.Account != "123456789012" {
			t.Errorf("%s %s?%s %q: %v", r.Method, r.Path, r.Query, r.Body, err)
		}
		s.Body = append(s.Body, 'x')
		if _, err := i.Authenticate(s); reason(err) != "unauthenticated InvalidSignatureException" {
			t.Errorf("%s %s?%s with another body: %v", r.Method, r.Path, r.Query, err)
		}
	}
}

// putKey keeps a key that was made elsewhere.
func putKey(t testing.TB, i *Identity, k Key) {
	t.Helper()
	value, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.docs.Create(t.Context(), keyPrefix+k.ID, value); err != nil {
		t.Fatal(err)
	}
}

// The Signature Version 4 test suite that AWS published: its "get-vanilla" family and the odd fields, with the canonical
// request's digest turned into the signature its authors give.
func TestPublishedVectors(t *testing.T) {
	i := openIdentity(t, t.TempDir())
	i.cfg.Services = []string{"service"}
	i.cfg.Now = func() time.Time { return time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC) }
	putKey(t, i, Key{ID: "AKIDEXAMPLE", Secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", Account: kiln.DefaultAccount})
	for _, c := range []struct{ name, method, path, query, fields, signature string }{
		{"get-vanilla", "GET", "/", "", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		{"get-vanilla-query-order-key-case", "GET", "/", "Param2=value2&Param1=value1", "",
			"b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
		{"post-vanilla", "POST", "/", "", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
		{"post-header-key-sort", "POST", "/", "", "My-Header1:value1",
			"c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"},
		{"get-header-value-trim", "GET", "/", "", "My-Header1: value1|My-Header2: \"a   b   c\"",
			"acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
	} {
		s := &Signed{Method: c.method, Path: c.path, Query: c.query, Host: "example.amazonaws.com",
			Fields: []Field{{"X-Amz-Date", "20150830T123600Z"}}}
		signed := []string{"host"}
		for field := range strings.SplitSeq(c.fields, "|") {
			if name, value, ok := strings.Cut(field, ":"); ok {
				s.Fields = append(s.Fields, Field{name, value})
				signed = append(signed, strings.ToLower(name))
			}
		}
		s.Fields = append(s.Fields, Field{"Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/" +
			"aws4_request, SignedHeaders=" + strings.Join(append(signed, "x-amz-date"), ";") + ", Signature=" + c.signature})
		if _, err := i.Authenticate(s); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// selfSigned is a request signed by hand with the key of a day and a region.
func selfSigned(k Key, date, region string) *Signed {
	const stamp = "20260304T120000Z"
	mac := func(key []byte, text string) []byte {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	empty := sha256.Sum256(nil)
	request := sha256.Sum256([]byte("GET\n/\n\nhost:h\nx-amz-date:" + stamp + "\n\nhost;x-amz-date\n" + hex.EncodeToString(empty[:])))
	scope := date + "/" + region + "/lambda/aws4_request"
	key := mac(mac(mac(mac([]byte("AWS4"+k.Secret), date), region), "lambda"), "aws4_request")
	signature := hex.EncodeToString(mac(key, "AWS4-HMAC-SHA256\n"+stamp+"\n"+scope+"\n"+hex.EncodeToString(request[:])))
	return &Signed{Method: "GET", Path: "/", Host: "h", Fields: []Field{{"x-amz-date", stamp}, {"authorization",
		"AWS4-HMAC-SHA256 Credential=" + k.ID + "/" + scope + ",SignedHeaders=host;x-amz-date,Signature=" + signature}}}
}

// A signing key that is kept serves its own region only, however many there are; a day's key is of no use on another day, not
// even one that is rightly derived; a signature that is wrong in one letter is wrong.
func TestSigningKeys(t *testing.T) {
	i := openIdentity(t, t.TempDir())
	k := defaultKey(t, i)
	for range 2 {
		for n := range 2 * signingKeys {
			s := selfSigned(k, "20260304", fmt.Sprint("region-", n))
			if _, err := i.Authenticate(s); err != nil {
				t.Fatal(n, err)
			}
			f := &s.Fields[1]
			last := len(f.Value) - 1
			f.Value = f.Value[:last] + string("0123456789abcdef"[(strings.IndexByte("0123456789abcdef", f.Value[last])+1)%16])
			if _, err := i.Authenticate(s); reason(err) != "unauthenticated InvalidSignatureException" {
				t.Fatal(n, err)
			}
		}
	}
	if kept := *i.credential(k.ID).signing.Load(); len(kept) != signingKeys {
		t.Errorf("%d signing keys are kept", len(kept))
	}
	if _, err := i.Authenticate(selfSigned(k, "20260303", "r")); reason(err) != "unauthenticated InvalidSignatureException" {
		t.Error(err)
	}
}

// A signature that does not cover the host could be sent to another server: nobody's client makes one.
func TestHostMustBeSigned(t *testing.T) {
	for fields, want := range map[string]bool{"host;x-amz-date": true, "x-amz-date": false, "x-host": false} {
		if got := new(scratch).canonical(&Signed{Method: "GET"}, &claim{fields: fields}, true); got != want {
			t.Errorf("%s: %t", fields, got)
		}
	}
}

// Whatever a stranger sends is refused without a panic: by a code of AWS's, and never let in.
func FuzzAuthenticate(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=A/20260304/r/lambda/aws4_request, SignedHeaders=host;x-amz-date, Signature=0", "/a//./..", "a=%2&b")
	f.Add("", "/", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2F20260304%2Fr%2Flambda%2Faws4_request"+
		"&X-Amz-Date=20260304T120000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=0")
	f.Add("AWS4-HMAC-SHA256 Credential=////,SignedHeaders=;;,Signature=,", "", "&=&%")
	i := openIdentity(f, f.TempDir())
	putKey(f, i, Key{ID: "A", Secret: "secret", Account: kiln.DefaultAccount})
	f.Fuzz(func(t *testing.T, authorization, path, query string) {
		s := &Signed{Method: "GET", Path: path, Query: query, Host: "h", Fields: []Field{{"X-Amz-Date", "20260304T120000Z"}}}
		if authorization != "" {
			s.Fields = append(s.Fields, Field{"Authorization", authorization})
		}
		if _, err := i.Authenticate(s); !strings.HasPrefix(reason(err), "un") {
			t.Fatalf("let in, or refused oddly: %v", err)
		}
	})
}

// Decoding and encoding a query's part gives something that stays as it is when it is done again.
func FuzzRecode(f *testing.F) {
	for _, seed := range []string{"a%20b", "a+b", "%", "%2", "%zz", "ä", "%C3%A4", "~"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		once := appendRecoded(nil, text)
		if twice := appendRecoded(nil, string(once)); string(twice) != string(once) {
			t.Fatalf("%q became %q became %q", text, once, twice)
		}
	})
}

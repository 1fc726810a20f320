package conformance

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"kiln/test/kilntest"
)

// answers is a function that does what the path says, else gives back its event.
const answers = `
def handler(event, context):
    path = event["rawPath"]
    if path == "/fail":
        raise ValueError("as asked")
    if path == "/strange":
        return {"statusCode": "none"}
    if path == "/page":
        return {"statusCode": 201, "headers": {"content-type": "text/plain", "x-mine": "1", "access-control-allow-origin": "https://mine"},
                "cookies": ["a=1; Path=/", "b=2"], "body": "aGVsbG8=", "isBase64Encoded": True}
    return event
`

// urlClient reaches every host name of a server's function URLs, as curl and browsers do: names below localhost are this
// machine.
func urlClient(a *kilntest.Account) *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, strings.TrimPrefix(a.Server.URL, "http://"))
	}}}
}

// open grants everybody what a URL without authorization needs.
func open(t *testing.T, client *lambda.Client, name string, qualifier *string) {
	t.Helper()
	for _, in := range []*lambda.AddPermissionInput{
		{StatementId: aws.String("url"), Action: aws.String("lambda:InvokeFunctionUrl"), FunctionUrlAuthType: types.FunctionUrlAuthTypeNone},
		{StatementId: aws.String("invoke"), Action: aws.String("lambda:InvokeFunction"), InvokedViaFunctionUrl: aws.Bool(true)},
	} {
		in.FunctionName, in.Qualifier, in.Principal = aws.String(name), qualifier, aws.String("*")
		if _, err := client.AddPermission(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
}

func fetch(t *testing.T, client *http.Client, req *http.Request) (*http.Response, string) {
	t.Helper()
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

func request(t *testing.T, method, url, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// The life of a function URL by the SDK, and what comes through it: nobody without both grants, then everybody, by host
// name and by path; plain curl too. // R7
func TestFunctionURL(t *testing.T) {
	a := account(t)
	client, ctx := a.Lambda(), within(t, time.Minute)
	a.Deploy(python("paged", answers))
	made, err := client.CreateFunctionUrlConfig(ctx, &lambda.CreateFunctionUrlConfigInput{FunctionName: named("paged"), AuthType: types.FunctionUrlAuthTypeNone,
		Cors: &types.Cors{AllowOrigins: []string{"https://page"}, AllowMethods: []string{"GET", "POST"}, AllowHeaders: []string{"x-a"}, MaxAge: aws.Int32(60)}})
	if err != nil {
		t.Fatal(err)
	}
	url := aws.ToString(made.FunctionUrl)
	m := regexp.MustCompile(`^http://([a-z0-9]{32})\.lambda-url\.us-east-1\.localhost:\d+/$`).FindStringSubmatch(url)
	if m == nil || made.InvokeMode != types.InvokeModeBuffered || !strings.HasSuffix(aws.ToString(made.FunctionArn), ":function:paged") {
		t.Fatalf("%q %+v", url, made)
	}
	web := urlClient(a)
	forbidden := func() {
		t.Helper()
		res, body := fetch(t, web, request(t, "GET", url, ""))
		if res.StatusCode != 403 || res.Header.Get("x-amzn-ErrorType") != "AccessDeniedException" || !strings.HasPrefix(body, `{"Message":"Forbidden`) {
			t.Errorf("without both grants: %d %s", res.StatusCode, body)
		}
	}
	forbidden()
	open(t, client, "paged", nil)
	for _, address := range []string{url, a.Server.URL + "/kiln/url/" + m[1] + "/"} {
		res, body := fetch(t, web, request(t, "PUT", address+"a%20b?x=1&x=2", `text`))
		var event struct {
			Version, RawPath, RawQueryString, Body string
			IsBase64Encoded                        bool
			QueryStringParameters                  map[string]string
			RequestContext                         struct{ AccountID, APIID, RequestID string }
		}
		if err := json.Unmarshal([]byte(body), &event); err != nil || res.StatusCode != 200 || res.Header.Get("Content-Type") != "application/json" ||
			event.Version != "2.0" || event.RawPath != "/a%20b" || event.RawQueryString != "x=1&x=2" || event.QueryStringParameters["x"] != "1,2" ||
			event.Body != "dGV4dA==" || !event.IsBase64Encoded || event.RequestContext.AccountID != "anonymous" || event.RequestContext.APIID != m[1] ||
			event.RequestContext.RequestID != res.Header.Get("x-amzn-RequestId") {
			t.Errorf("%s: %d %v %s", address, res.StatusCode, err, body)
		}
		record := a.Do(kilntest.Call{Method: "GET", Path: "/kiln/v1/executions/" + event.RequestContext.RequestID, Service: "kiln"}).OK()
		if !bytes.Contains(record.Body, []byte(`"trigger":"url"`)) {
			t.Errorf("the record is %s", record.Body)
		}
	}
	pages(t, web, url)
	curl, err := exec.LookPath("curl")
	if err != nil {
		kilntest.Skip(t, "there is no curl on this machine")
	}
	out, err := exec.CommandContext(ctx, curl, "-sS", "-d", "a=b", url+"by/curl").CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"rawPath": "/by/curl"`) {
		t.Errorf("curl: %v %s", err, out)
	}
	if _, err := client.RemovePermission(ctx, &lambda.RemovePermissionInput{FunctionName: named("paged"), StatementId: aws.String("invoke")}); err != nil {
		t.Fatal(err)
	}
	forbidden()
	if _, err := client.DeleteFunctionUrlConfig(ctx, &lambda.DeleteFunctionUrlConfigInput{FunctionName: named("paged")}); err != nil {
		t.Fatal(err)
	}
	if res, body := fetch(t, web, request(t, "GET", url, "")); res.StatusCode != 404 || res.Header.Get("x-amzn-ErrorType") != "ResourceNotFoundException" {
		t.Errorf("deleted: %d %s", res.StatusCode, body)
	}
	_, err = client.GetFunctionUrlConfig(ctx, &lambda.GetFunctionUrlConfigInput{FunctionName: named("paged")})
	isError[*types.ResourceNotFoundException](t, err)
}

// pages shows what a function answers, and what is answered for it.
func pages(t *testing.T, web *http.Client, url string) {
	t.Helper()
	get := request(t, "GET", url+"page", "")
	get.Header.Set("Origin", "https://page")
	res, body := fetch(t, web, get)
	if res.StatusCode != 201 || body != "hello" || res.Header.Get("X-Mine") != "1" || res.Header.Get("Content-Type") != "text/plain" ||
		len(res.Header["Set-Cookie"]) != 2 || res.Header.Get("Access-Control-Allow-Origin") != "https://page" {
		t.Errorf("the page: %d %v %s", res.StatusCode, res.Header, body)
	}
	for _, path := range []string{"fail", "strange"} {
		if res, body := fetch(t, web, request(t, "GET", url+path, "")); res.StatusCode != 502 || body != "Internal Server Error" {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
	}
	asks := request(t, "OPTIONS", url+"fail", "")
	asks.Header.Set("Origin", "https://page")
	asks.Header.Set("Access-Control-Request-Method", "POST")
	res, _ = fetch(t, web, asks)
	if res.StatusCode != 200 || res.Header.Get("Access-Control-Allow-Methods") != "GET,POST" || res.Header.Get("Access-Control-Allow-Headers") != "x-a" ||
		res.Header.Get("Access-Control-Max-Age") != "60" || res.Header.Get("Access-Control-Allow-Origin") != "https://page" {
		t.Errorf("preflight: %d %v", res.StatusCode, res.Header)
	}
	asks.Header.Set("Origin", "https://stranger")
	if res, _ = fetch(t, web, asks); res.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a stranger's preflight: %v", res.Header)
	}
	if res, body := fetch(t, web, request(t, "POST", url, strings.Repeat("x", 7<<20))); res.StatusCode != 413 {
		t.Errorf("7 MB: %d %s", res.StatusCode, body)
	}
}

// A URL with AWS_IAM serves its owner's signature, refuses none, a wrong one and another account's, and serves that once
// it is granted both actions; an alias has a URL of its own. // R7 R14
func TestSignedFunctionURL(t *testing.T) {
	a := account(t)
	other := a.Server.NewAccount(t)
	client, ctx := a.Lambda(), within(t, time.Minute)
	a.Deploy(python("signed", answers))
	if _, err := client.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: named("signed")}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CreateAlias(ctx, &lambda.CreateAliasInput{FunctionName: named("signed"), Name: aws.String("live"), FunctionVersion: aws.String("1")}); err != nil {
		t.Fatal(err)
	}
	made, err := client.CreateFunctionUrlConfig(ctx, &lambda.CreateFunctionUrlConfigInput{FunctionName: named("signed"), Qualifier: aws.String("live"), AuthType: types.FunctionUrlAuthTypeAwsIam})
	if err != nil {
		t.Fatal(err)
	}
	web := urlClient(a)
	send := func(who *kilntest.Account, secret string) (*http.Response, string) {
		t.Helper()
		const body = `{"a":1}`
		req := request(t, "POST", aws.ToString(made.FunctionUrl)+"p%20q?b=2&a=1", body)
		req.Header.Set("Content-Type", "application/json")
		if who != nil {
			sum := sha256.Sum256([]byte(body))
			key := aws.Credentials{AccessKeyID: who.Key, SecretAccessKey: secret}
			if err := v4.NewSigner().SignHTTP(ctx, key, req, hex.EncodeToString(sum[:]), "lambda", who.Region, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		return fetch(t, web, req)
	}
	if res, body := send(a, a.Secret); res.StatusCode != 200 || !strings.Contains(body, `"accountId": "`+a.ID+`"`) || strings.Contains(body, "AWS4-HMAC") ||
		!strings.Contains(body, `"body": "{\"a\":1}", "isBase64Encoded": false`) {
		t.Errorf("the owner: %d %s", res.StatusCode, body)
	}
	for name, who := range map[string]*kilntest.Account{"nobody": nil, "another account": other} {
		secret := ""
		if who != nil {
			secret = who.Secret
		}
		if res, body := send(who, secret); res.StatusCode != 403 || !strings.HasPrefix(body, `{"Message":"Forbidden`) {
			t.Errorf("%s: %d %s", name, res.StatusCode, body)
		}
	}
	if res, body := send(a, "wrong"); res.StatusCode != 403 || res.Header.Get("x-amzn-ErrorType") != "InvalidSignatureException" {
		t.Errorf("a wrong signature: %d %s", res.StatusCode, body)
	}
	for i, action := range []string{"lambda:InvokeFunctionUrl", "lambda:InvokeFunction"} {
		if res, body := send(other, other.Secret); res.StatusCode != 403 {
			t.Errorf("another account with %d of two grants: %d %s", i, res.StatusCode, body)
		}
		if _, err := client.AddPermission(ctx, &lambda.AddPermissionInput{FunctionName: named("signed"), Qualifier: aws.String("live"),
			StatementId: aws.String(strings.TrimPrefix(action, "lambda:")), Action: aws.String(action), Principal: aws.String(other.ID)}); err != nil {
			t.Fatal(err)
		}
	}
	if res, body := send(other, other.Secret); res.StatusCode != 200 || !strings.Contains(body, `"accountId": "`+other.ID+`"`) {
		t.Errorf("another account with both grants: %d %s", res.StatusCode, body)
	}
	changed, err := client.UpdateFunctionUrlConfig(ctx, &lambda.UpdateFunctionUrlConfigInput{FunctionName: named("signed"), Qualifier: aws.String("live"), AuthType: types.FunctionUrlAuthTypeNone})
	if err != nil || aws.ToString(changed.FunctionUrl) != aws.ToString(made.FunctionUrl) || changed.AuthType != types.FunctionUrlAuthTypeNone {
		t.Errorf("changed to %+v (%v)", changed, err)
	}
	list, err := client.ListFunctionUrlConfigs(ctx, &lambda.ListFunctionUrlConfigsInput{FunctionName: named("signed")})
	if err != nil || len(list.FunctionUrlConfigs) != 1 || !strings.HasSuffix(aws.ToString(list.FunctionUrlConfigs[0].FunctionArn), ":signed:live") {
		t.Errorf("listed %+v (%v)", list, err)
	}
	_, err = client.UpdateFunctionUrlConfig(ctx, &lambda.UpdateFunctionUrlConfigInput{FunctionName: named("signed"), Qualifier: aws.String("live"), InvokeMode: types.InvokeModeResponseStream})
	isError[*types.InvalidParameterValueException](t, err)
	if _, err := client.PutFunctionConcurrency(ctx, &lambda.PutFunctionConcurrencyInput{FunctionName: named("signed"), ReservedConcurrentExecutions: aws.Int32(0)}); err != nil {
		t.Fatal(err)
	}
	open(t, client, "signed", aws.String("live"))
	if res, body := send(nil, ""); res.StatusCode != 429 || !strings.Contains(body, "ReservedFunctionConcurrentInvocationLimitExceeded") {
		t.Errorf("throttled: %d %s", res.StatusCode, body)
	}
}

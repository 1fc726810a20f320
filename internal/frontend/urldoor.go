package frontend

import (
	"io"
	"net/http"
	"strings"
	"time"

	"kiln"
	"kiln/internal/identity"
	"kiln/internal/invoke"
	"kiln/internal/registry"
)

// A function URL has two forms: a host name of its own, ID.lambda-url.REGION.anything, and a path, urlPrefix + ID + "/".
const (
	urlHostMark = ".lambda-url."
	urlPrefix   = "/kiln/url/"
)

// answerTimeout bounds the writing of an answer to whoever uses a URL.
const answerTimeout = time.Minute

// URLs answers requests that come through function URLs, and hands every other to rest.
func (f *Frontend) URLs(rest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, path, ok := urlOf(r)
		if !ok {
			rest.ServeHTTP(w, r)
			return
		}
		u := &urlRequest{id: newRequestID(cryptoChance{}), path: path, http: r}
		if u.url, ok = f.cfg.Registry.URL(id); !ok {
			f.writeURLError(w, u.id, kiln.Errorf(kiln.KindNotFound, "frontend: find function url", "there is no such function URL"))
			return
		}
		setCORS(w.Header(), u.url.CORS, r.Header.Get("Origin"))
		if u.url.CORS != nil && r.Method == http.MethodOptions {
			setPreflight(w.Header(), u.url.CORS)
			(&urlAnswer{status: http.StatusOK}).write(w, u.id, true)
			return
		}
		if err := f.serveURL(w, u); err != nil {
			f.writeURLError(w, u.id, err)
		}
	})
}

// isURLHost reports whether a host name is a function URL's.
func isURLHost(host string) bool { return strings.Contains(host, urlHostMark) }

// urlOf finds the function URL a request came through, and the path below it as it was sent.
func urlOf(r *http.Request) (id, path string, ok bool) {
	path = r.URL.EscapedPath()
	if strings.HasPrefix(r.RequestURI, "/") { // as it was sent, where EscapedPath may have made it anew
		path, _, _ = strings.Cut(r.RequestURI, "?")
	}
	if isURLHost(r.Host) {
		id, _, _ = strings.Cut(r.Host, ".")
		return strings.ToLower(id), "/" + strings.TrimPrefix(path, "/"), true
	}
	below, ok := strings.CutPrefix(path, urlPrefix)
	if !ok {
		return "", "", false
	}
	id, path, _ = strings.Cut(below, "/")
	return strings.ToLower(id), "/" + path, true
}

// serveURL has the function answer a request.
func (f *Frontend) serveURL(w http.ResponseWriter, u *urlRequest) error {
	body, free, err := f.readBody(u.http, kiln.MaxPayloadBytes)
	if err != nil {
		return err
	}
	defer free()
	u.body, u.received = body, time.Now()
	if u.caller, err = f.urlCaller(u); err != nil {
		return err
	}
	if u.traceID = u.http.Header.Get("X-Amzn-Trace-Id"); u.traceID == "" || len(u.traceID) > 256 {
		u.traceID = newTraceID(cryptoChance{}, u.received)
	}
	event, err := u.event()
	if err != nil {
		return kiln.Wrap(kiln.KindInternal, "frontend: write event", "the request could not be written as an event", err)
	}
	if len(event) > kiln.MaxPayloadBytes {
		return tooLarge(kiln.MaxPayloadBytes)
	}
	req := invoke.Request{ID: u.id, Caller: u.caller.Account, Trigger: kiln.TriggerURL, Account: u.url.Account, Function: u.url.Function,
		Qualifier: u.url.Qualifier, Payload: event, TraceID: u.traceID, Received: u.received}
	var result invoke.Result
	// The server's own context: code that runs outlives its caller's connection, as on AWS.
	if err := f.cfg.Invoker.Invoke(f.cfg.Ended, &req, &result); err != nil {
		return err
	}
	answer, ok := readURLAnswer(result.Payload)
	if result.Failed || !ok {
		answer = urlAnswer{status: http.StatusBadGateway, header: http.Header{"Content-Type": {"application/json"}}, body: []byte("Internal Server Error")}
	}
	w.Header().Set("X-Amzn-Trace-Id", u.traceID)
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTimeout))
	answer.write(w, u.id, u.url.CORS != nil)
	return nil
}

// urlCaller finds out who asks, and refuses whom the URL does not serve. A URL of AWS_IAM serves its owner and whom the
// policy lets; one of NONE everybody, but only while the policy lets everybody. Both actions must be granted: to use the
// URL, and to invoke the function through it.
func (f *Frontend) urlCaller(u *urlRequest) (caller identity.Caller, err error) {
	const op = "frontend: check permission"
	if u.url.Auth == registry.URLAuthIAM {
		if caller, err = f.cfg.Identity.Authenticate(identity.FromHTTP(u.http, u.body)); err != nil {
			return caller, err
		}
		if caller.Service != "lambda" {
			return caller, kiln.Errorf(kiln.KindDenied, op, "the signature is for %s, not for lambda", caller.Service)
		}
		if caller.Account == u.url.Account {
			return caller, nil
		}
	}
	for _, action := range [...]string{registry.ActionInvokeURL, registry.ActionInvoke} {
		access := registry.Access{Action: action, Account: caller.Account, URLAuth: u.url.Auth}
		if !f.cfg.Registry.Allowed(u.url.Account, u.url.Function, u.url.Qualifier, access) {
			return caller, kiln.Errorf(kiln.KindDenied, op, "no resource-based policy allows the %s action", action)
		}
	}
	return caller, nil
}

// urlForbidden is what AWS tells whoever may not use a function URL.
const urlForbidden = `{"Message":"Forbidden. For troubleshooting Function URL authorization issues, see: https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"}`

// writeURLError answers an error as AWS does on a function URL: a stranger is not told what there is and what is granted.
func (f *Frontend) writeURLError(w http.ResponseWriter, id kiln.RequestID, err error) {
	var status int
	var code, body string
	switch e := kiln.KindOf(err); {
	case e == kiln.KindDenied, isUnsigned(err):
		status, code, body = http.StatusForbidden, "AccessDeniedException", urlForbidden
	case e == kiln.KindNotFound:
		status, code, body = http.StatusNotFound, "ResourceNotFoundException", `{"Message":null}`
	default:
		f.writeError(w, id, nil, err)
		return
	}
	f.refusals.WithLabelValues(code).Inc()
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Amzn-ErrorType", code)
	h.Set("x-amzn-RequestId", string(id))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

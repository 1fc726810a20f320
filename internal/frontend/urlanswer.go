package frontend

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"kiln"
)

// urlAnswer is what a function's answer says in HTTP.
type urlAnswer struct {
	status int
	header http.Header
	body   []byte
}

// readURLAnswer reads a function's answer in AWS's payload format 2.0. JSON without a statusCode is a body of its own, with
// status 200. False when the answer is neither.
func readURLAnswer(payload []byte) (urlAnswer, bool) {
	out := urlAnswer{status: http.StatusOK, header: http.Header{"Content-Type": {"application/json"}}, body: payload}
	var in struct {
		StatusCode json.RawMessage            `json:"statusCode"`
		Headers    map[string]json.RawMessage `json:"headers"`
		Cookies    []string                   `json:"cookies"`
		Body       json.RawMessage            `json:"body"`
		Base64     bool                       `json:"isBase64Encoded"`
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(payload, &members) != nil || members["statusCode"] == nil {
		return out, json.Valid(payload)
	}
	if json.Unmarshal(payload, &in) != nil {
		return out, false
	}
	var err error
	// Below 200 are the connection's own words, which are not a function's to say.
	if out.status, err = strconv.Atoi(plainText(in.StatusCode)); err != nil || out.status < 200 || out.status > 599 {
		return out, false
	}
	for _, name := range slices.Sorted(maps.Keys(in.Headers)) {
		if !ofConnection(name) {
			out.header.Set(name, plainText(in.Headers[name]))
		}
	}
	for _, cookie := range in.Cookies {
		out.header.Add("Set-Cookie", cookie)
	}
	out.body = []byte(plainText(in.Body))
	if in.Base64 {
		out.body, err = base64.StdEncoding.DecodeString(string(out.body))
	}
	return out, err == nil
}

// plainText gives the text of a JSON string, and any other value as it is written; nothing for null.
func plainText(v json.RawMessage) string {
	var text string
	if len(v) == 0 || json.Unmarshal(v, &text) == nil {
		return text
	}
	return string(v)
}

// ofConnection reports whether a field is about the connection or the length of the body, which the server itself writes.
func ofConnection(name string) bool {
	switch strings.ToLower(name) {
	case "connection", "content-length", "date", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer",
		"transfer-encoding", "upgrade":
		return true
	}
	return false
}

// write answers with it. What the URL's own settings say about other origins stands; a function does not change it.
func (a *urlAnswer) write(w http.ResponseWriter, id kiln.RequestID, cors bool) {
	h := w.Header()
	for name, values := range a.header {
		switch {
		case cors && strings.HasPrefix(name, "Access-Control-"):
		case name == "Vary":
			h[name] = append(h[name], values...)
		default:
			h[name] = values
		}
	}
	h.Set("x-amzn-RequestId", string(id))
	if a.status != http.StatusNoContent && a.status != http.StatusNotModified {
		h.Set("Content-Length", strconv.Itoa(len(a.body)))
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // refused, rightly, where the status has no body
}

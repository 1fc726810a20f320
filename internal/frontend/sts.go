package frontend

import (
	"encoding/xml"
	"net/http"
	"net/url"

	"kiln"
)

// STS answers the one operation of AWS's Security Token Service that tools ask before anything else: who am I?
// Source: AWS STS API reference, version 2011-06-15 (query protocol, XML answers).

const stsNamespace = "https://sts.amazonaws.com/doc/2011-06-15/"

type callerIdentityAnswer struct {
	XMLName   xml.Name `xml:"GetCallerIdentityResponse"`
	Namespace string   `xml:"xmlns,attr"`
	Arn       string   `xml:"GetCallerIdentityResult>Arn"`
	UserID    string   `xml:"GetCallerIdentityResult>UserId"`
	Account   string   `xml:"GetCallerIdentityResult>Account"`
	RequestID string   `xml:"ResponseMetadata>RequestId"`
}

type stsError struct {
	XMLName   xml.Name `xml:"ErrorResponse"`
	Namespace string   `xml:"xmlns,attr"`
	Type      string   `xml:"Error>Type"`
	Code      string   `xml:"Error>Code"`
	Message   string   `xml:"Error>Message"`
	RequestID string   `xml:"RequestId"`
}

func (f *Frontend) serveSTS(w http.ResponseWriter, r *http.Request, c *call) {
	values, err := url.ParseQuery(string(c.body))
	if err != nil {
		f.writeSTSError(w, c, http.StatusBadRequest, "MalformedQueryString", "the body is not a form")
		return
	}
	if r.Method == http.MethodGet {
		values = r.URL.Query()
	}
	if action := values.Get("Action"); action != "GetCallerIdentity" {
		f.writeSTSError(w, c, http.StatusNotImplemented, "UnknownOperationException", "Kiln does not serve the STS operation "+quoteName(action)+"; it serves GetCallerIdentity.")
		return
	}
	f.writeXML(w, c, http.StatusOK, callerIdentityAnswer{
		Namespace: stsNamespace, Arn: "arn:aws:iam::" + string(c.caller.Account) + ":root",
		UserID: string(c.caller.Account), Account: string(c.caller.Account), RequestID: string(c.id),
	})
}

func (f *Frontend) writeSTSError(w http.ResponseWriter, c *call, status int, code, message string) {
	f.writeXML(w, c, status, stsError{Namespace: stsNamespace, Type: "Sender", Code: code, Message: message, RequestID: string(c.id)})
}

func (f *Frontend) writeXML(w http.ResponseWriter, c *call, status int, body any) {
	b, err := xml.Marshal(body)
	if err != nil {
		f.writeError(w, c.id, nil, kiln.Wrap(kiln.KindInternal, "frontend: write xml", "the answer could not be written", err))
		return
	}
	w.Header().Set("Content-Type", "text/xml")
	w.Header().Set("x-amzn-RequestId", string(c.id))
	w.WriteHeader(status)
	_, _ = w.Write(b)
}

// quoteName makes a caller's word safe to show: letters and digits, at most 64 of them.
func quoteName(s string) string {
	out := make([]byte, 0, 64)
	for i := 0; i < len(s) && len(out) < 64; i++ {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' {
			out = append(out, c)
		}
	}
	return string(out)
}

package identity

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"kiln"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	stampForm  = "20060102T150405Z"
	// maxExpiry is the longest life of a signed URL.
	maxExpiry = 7 * 24 * time.Hour
	// maxCredential bounds a credential with its scope, and maxSignedFields the list of signed fields, in bytes.
	maxCredential   = 256
	maxSignedFields = 4096
)

// claim is what a request says about its signature, before anything of it is believed.
type claim struct {
	keyID, date, region, service string
	scope                        string // date/region/service/aws4_request
	fields                       string // the signed fields' names, joined by semicolons
	signature                    string
	stamp                        string // the date as AWS writes it
	declared                     string // the body's hash as the request states it, empty when it does not
	presigned                    bool   // the signature is in the query
	expires                      time.Duration
}

// The codes are AWS's.
func refuse(reason, format string, args ...any) *kiln.Error {
	e := kiln.Errorf(kiln.KindUnauthenticated, "identity: authenticate", format, args...)
	e.Reason = reason
	return e
}

const (
	missingToken        = "MissingAuthenticationTokenException"
	incompleteSignature = "IncompleteSignatureException"
	invalidSignature    = "InvalidSignatureException"
	unrecognizedClient  = "UnrecognizedClientException"
)

// claim reads the signature from the header or, when there is none, from the query.
func (s *Signed) claim() (claim, error) {
	if authorization, ok := s.field("authorization"); ok {
		return s.headerClaim(authorization)
	}
	if strings.Contains(s.Query, "X-Amz-") {
		return s.queryClaim()
	}
	return claim{}, refuse(missingToken, "Missing Authentication Token")
}

// headerClaim reads "AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…".
func (s *Signed) headerClaim(authorization string) (claim, error) {
	name, rest, _ := strings.Cut(strings.TrimSpace(authorization), " ")
	if name != algorithm {
		return claim{}, refuse(incompleteSignature, "Unsupported signature algorithm: only %s is served.", algorithm)
	}
	var c claim
	credential := ""
	for rest != "" {
		var part string
		part, rest, _ = strings.Cut(rest, ",")
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch key {
		case "Credential":
			credential = value
		case "SignedHeaders":
			c.fields = value
		case "Signature":
			c.signature = value
		}
	}
	for _, part := range [...]struct{ name, value string }{
		{"Credential", credential}, {"Signature", c.signature}, {"SignedHeaders", c.fields},
	} {
		if part.value == "" {
			return claim{}, refuse(incompleteSignature, "Authorization header requires '%s' parameter.", part.name)
		}
	}
	var ok bool
	if c.stamp, ok = s.stamp(); !ok {
		return claim{}, refuse(incompleteSignature,
			"Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
	}
	c.declared, _ = s.field("x-amz-content-sha256")
	return c, c.read(credential)
}

// stamp gives the request's date as AWS writes it.
func (s *Signed) stamp() (string, bool) {
	if stamp, ok := s.field("x-amz-date"); ok {
		return stamp, true
	}
	date, ok := s.field("date")
	if !ok {
		return "", false
	}
	if t, err := http.ParseTime(date); err == nil {
		return t.UTC().Format(stampForm), true
	}
	return date, true
}

// queryClaim reads a signed URL.
func (s *Signed) queryClaim() (claim, error) {
	c := claim{presigned: true}
	var name, credential, expires string
	for rest := s.Query; rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		key, escaped, _ := strings.Cut(pair, "=")
		var into *string
		switch key {
		case "X-Amz-Algorithm":
			into = &name
		case "X-Amz-Credential":
			into = &credential
		case "X-Amz-Date":
			into = &c.stamp
		case "X-Amz-Expires":
			into = &expires
		case "X-Amz-SignedHeaders":
			into = &c.fields
		case "X-Amz-Signature":
			into = &c.signature
		case "X-Amz-Content-Sha256":
			into = &c.declared
		default:
			continue
		}
		value, err := url.QueryUnescape(escaped)
		if err != nil || *into != "" {
			return claim{}, refuse(incompleteSignature, "AWS query-string parameter '%s' must be there once and well escaped.", key)
		}
		*into = value
	}
	for _, part := range [...]struct{ name, value string }{
		{"X-Amz-Algorithm", name}, {"X-Amz-Credential", credential}, {"X-Amz-Signature", c.signature},
		{"X-Amz-SignedHeaders", c.fields}, {"X-Amz-Date", c.stamp},
	} {
		if part.value == "" {
			return claim{}, refuse(incompleteSignature, "AWS query-string parameters must include '%s'.", part.name)
		}
	}
	if name != algorithm {
		return claim{}, refuse(incompleteSignature, "Unsupported signature algorithm: only %s is served.", algorithm)
	}
	c.expires = DefaultSkew // botocore leaves it out for some services
	if expires != "" {
		n, err := strconv.Atoi(expires)
		c.expires = time.Duration(n) * time.Second
		if err != nil || n < 1 || c.expires > maxExpiry {
			return claim{}, refuse(incompleteSignature, "X-Amz-Expires must be a number of seconds from 1 to %d.",
				int(maxExpiry/time.Second))
		}
	}
	if declared, ok := s.field("x-amz-content-sha256"); ok {
		c.declared = declared
	}
	return c, c.read(credential)
}

// read takes a credential apart: KEY/date/region/service/aws4_request.
func (c *claim) read(credential string) error {
	if len(credential) > maxCredential || len(c.fields) > maxSignedFields {
		return refuse(incompleteSignature, "Credential or SignedHeaders is too long.")
	}
	rest := credential
	var end string
	c.keyID, rest, _ = strings.Cut(rest, "/")
	c.scope = rest
	c.date, rest, _ = strings.Cut(rest, "/")
	c.region, rest, _ = strings.Cut(rest, "/")
	c.service, end, _ = strings.Cut(rest, "/")
	if c.keyID == "" || len(c.date) != 8 || c.region == "" || c.service == "" || end != terminator {
		return refuse(incompleteSignature,
			"Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.")
	}
	return nil
}

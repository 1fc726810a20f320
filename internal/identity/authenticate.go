package identity

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"kiln"
)

const (
	// DefaultSkew is how far a request's date may be from the server's clock.
	DefaultSkew = 15 * time.Minute
	// signingKeys bounds the derived keys kept for one access key; one is used per day, region and service.
	signingKeys = 8
	// unsigned says that the body is not part of the signature.
	unsigned = "UNSIGNED-PAYLOAD"
)

// signingKey is derived from a secret for one day, region and service.
type signingKey struct {
	date, region, service string
	key                   [32]byte
}

// scratch is the room one verification needs; it is used again.
type scratch struct {
	text  []byte // the canonical request
	query []byte // the query's pairs, encoded
	pairs []pair // where they are
	mac   []byte // what is being hashed
}

// Authenticate tells who signed a request. It believes nothing else of it. It does no I/O.
//
// All errors but one are KindUnauthenticated with AWS's code as Reason: MissingAuthenticationTokenException (no signature),
// IncompleteSignatureException (a part is missing), UnrecognizedClientException (no such key), InvalidSignatureException
// (wrong signature, date, scope or body). A body in signed chunks is KindUnsupported.
func (i *Identity) Authenticate(s *Signed) (Caller, error) {
	c, err := s.claim()
	if err != nil {
		return Caller{}, err
	}
	n := slices.Index(i.cfg.Services, c.service)
	if n < 0 {
		return Caller{}, refuse(invalidSignature, "Credential should be scoped to correct service: '%s'.",
			strings.Join(i.cfg.Services, "' or '"))
	}
	if err := i.checkDate(&c); err != nil {
		return Caller{}, err
	}
	if strings.HasPrefix(c.declared, "STREAMING-") {
		return Caller{}, kiln.Errorf(kiln.KindUnsupported, "identity: authenticate",
			"A body in signed chunks (aws-chunked, %s) is not served here: send it whole.", strings.Clone(c.declared))
	}
	cred := i.credential(c.keyID)
	if cred == nil {
		return Caller{}, refuse(unrecognizedClient, "The security token included in the request is invalid.")
	}
	if !i.verify(s, &c, cred) {
		return Caller{}, refuse(invalidSignature, "The request signature we calculated does not match the signature you "+
			"provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	if c.declared != "" && c.declared != unsigned && !s.bodyIs(c.declared) {
		return Caller{}, refuse(invalidSignature, "The body's SHA-256 is not what x-amz-content-sha256 says.")
	}
	k := &cred.key
	return Caller{Account: k.Account, KeyID: k.ID, Operator: k.Operator, Service: i.cfg.Services[n]}, nil
}

// checkDate refuses a request signed too long ago, or for another day than its scope says.
func (i *Identity) checkDate(c *claim) error {
	at, ok := parseStamp(c.stamp)
	if !ok {
		return refuse(incompleteSignature, "Date must be in ISO-8601 'basic format'. Got '%.32s'.", c.stamp)
	}
	if c.date != c.stamp[:8] {
		return refuse(invalidSignature, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "+
			"'%s' != '%s', from '%s'.", c.date, c.stamp[:8], c.stamp)
	}
	now := i.cfg.Now()
	life := i.cfg.Skew
	if c.presigned {
		life = c.expires
	}
	if now.Sub(at) > life {
		return refuse(invalidSignature, "Signature expired: %s is now earlier than %s (%s - %s.)", c.stamp,
			now.Add(-life).UTC().Format(stampForm), now.UTC().Format(stampForm), life)
	}
	if at.Sub(now) > i.cfg.Skew {
		return refuse(invalidSignature, "Signature not yet current: %s is still later than %s (%s + %s.)", c.stamp,
			now.Add(i.cfg.Skew).UTC().Format(stampForm), now.UTC().Format(stampForm), i.cfg.Skew)
	}
	return nil
}

// parseStamp reads 20060102T150405Z.
func parseStamp(s string) (time.Time, bool) {
	if len(s) != len(stampForm) || s[8] != 'T' || s[15] != 'Z' {
		return time.Time{}, false
	}
	var n [6]int
	for i, part := range [...]string{s[0:4], s[4:6], s[6:8], s[9:11], s[11:13], s[13:15]} {
		for _, d := range []byte(part) {
			if d < '0' || d > '9' {
				return time.Time{}, false
			}
			n[i] = n[i]*10 + int(d-'0')
		}
	}
	return time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], 0, time.UTC), true
}

// verify computes the signature over what the client says it signed and compares.
func (i *Identity) verify(s *Signed, c *claim, cred *credential) bool {
	w := i.pool.Get().(*scratch)
	defer i.pool.Put(w)
	if !w.canonical(s, c, c.service != "s3") {
		return false
	}
	key, known := cred.find(c)
	if !known {
		key = derive(cred.key.Secret, c)
	}
	if !w.matches(&key, c) {
		// A client that cleans its path before it signs sends it as it was: AWS cleans it as well.
		clean, changed := cleanPath(s.Path)
		if !changed {
			return false
		}
		again := *s
		again.Path = clean
		if !w.canonical(&again, c, c.service != "s3") || !w.matches(&key, c) {
			return false
		}
	}
	if !known {
		cred.keep(c, key)
	}
	return true
}

// matches computes the signature of the canonical request and compares it.
func (w *scratch) matches(key *[32]byte, c *claim) bool {
	sum := sha256.Sum256(w.text)
	// HMAC by hand: crypto/hmac allocates its state anew for each key.
	inner := append(w.mac[:0], pad(key, 0x36)...)
	inner = append(inner, algorithm+"\n"...)
	inner = append(inner, c.stamp...)
	inner = append(inner, '\n')
	inner = append(inner, c.scope...)
	inner = append(inner, '\n')
	inner = hex.AppendEncode(inner, sum[:])
	digest := sha256.Sum256(inner)
	outer := append(inner[:0], pad(key, 0x5c)...)
	outer = append(outer, digest[:]...)
	w.mac = outer
	signature := sha256.Sum256(outer)
	var text [64]byte
	hex.Encode(text[:], signature[:])
	if len(c.signature) != len(text) {
		return false
	}
	var given [64]byte
	copy(given[:], c.signature)
	return subtle.ConstantTimeCompare(text[:], given[:]) == 1
}

// pad is a key of 32 bytes filled up to the hash's block and mixed with a byte: HMAC's own step.
func pad(key *[32]byte, with byte) []byte {
	var block [64]byte
	copy(block[:], key[:])
	for i := range block {
		block[i] ^= with
	}
	return block[:]
}

// derive makes the signing key of a day, region and service.
func derive(secret string, c *claim) [32]byte {
	key := []byte("AWS4" + secret)
	for _, part := range [...]string{c.date, c.region, c.service, terminator} {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(part))
		key = m.Sum(nil)
	}
	return [32]byte(key)
}

// find gives a signing key that was used before.
func (cred *credential) find(c *claim) ([32]byte, bool) {
	if kept := cred.signing.Load(); kept != nil {
		for i := range *kept {
			k := &(*kept)[i]
			if k.date == c.date && k.region == c.region && k.service == c.service {
				return k.key, true
			}
		}
	}
	return [32]byte{}, false
}

// keep keeps a signing key that has proved itself, newest first. What two do at once costs one of them a derivation.
func (cred *credential) keep(c *claim, key [32]byte) {
	kept := []signingKey{{strings.Clone(c.date), strings.Clone(c.region), strings.Clone(c.service), key}}
	if old := cred.signing.Load(); old != nil {
		kept = append(kept, (*old)[:min(len(*old), signingKeys-1)]...)
	}
	cred.signing.Store(&kept)
}

// bodyIs reports whether the body has the hash that the request states, in hexadecimal.
func (s *Signed) bodyIs(declared string) bool {
	var text [64]byte
	s.hash(&text)
	return declared == string(text[:])
}

// hash gives the body's SHA-256 in hexadecimal.
func (s *Signed) hash(text *[64]byte) {
	sum := sha256.Sum256(s.Body)
	hex.Encode(text[:], sum[:])
}

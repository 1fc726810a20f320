package frontend

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"kiln"
)

// locationPrefix is where packages are served to whoever holds a URL that GetFunction gave out.
const locationPrefix = "/kiln/packages/"

// locationLife is how long such a URL serves: ten minutes, as AWS's.
const locationLife = 10 * time.Minute

// location gives the URL under which a package can be fetched for a while without a signature of the caller's.
func (f *Frontend) location(r *http.Request, digest kiln.Digest, now time.Time) string {
	expires := strconv.FormatInt(now.Add(locationLife).Unix(), 10)
	q := url.Values{"expires": {expires}, "signature": {f.locationSignature(digest, expires)}}
	return "http://" + r.Host + locationPrefix + string(digest) + "?" + q.Encode()
}

func (f *Frontend) locationSignature(digest kiln.Digest, expires string) string {
	mac := hmac.New(sha256.New, f.cfg.LocationKey)
	_, _ = io.WriteString(mac, string(digest)+"\n"+expires)
	return hex.EncodeToString(mac.Sum(nil))
}

// serveLocation serves the zip of a package to the holder of a URL made by location.
func (f *Frontend) serveLocation(w http.ResponseWriter, r *http.Request, id kiln.RequestID) {
	const op = "frontend: serve package"
	digest := kiln.Digest(strings.TrimPrefix(r.URL.Path, locationPrefix))
	expires := r.URL.Query().Get("expires")
	signature := r.URL.Query().Get("signature")
	until, err := strconv.ParseInt(expires, 10, 64)
	if err != nil || !hmac.Equal([]byte(signature), []byte(f.locationSignature(digest, expires))) || time.Now().Unix() > until {
		f.writeError(w, id, nil, kiln.Errorf(kiln.KindDenied, op, "this address has expired or is wrong; ask GetFunction for a new one"))
		return
	}
	file, _, err := f.cfg.Packages.Open(digest)
	if err != nil {
		f.writeError(w, id, nil, err)
		return
	}
	defer file.Close()
	w.Header().Set("Content-Type", "application/zip")
	w.Header().Set("x-amzn-RequestId", string(id))
	http.ServeContent(w, r, string(digest)+".zip", time.Time{}, file)
}

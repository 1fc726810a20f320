package frontend

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"kiln/internal/registry"
)

// setCORS writes the fields by which a browser lets a page of another origin read the answer, where the URL's settings
// let it. Source: WHATWG Fetch, CORS protocol; AWS's settings of function URLs.
func setCORS(h http.Header, c *registry.CORS, origin string) {
	if c == nil || origin == "" {
		return
	}
	h.Add("Vary", "Origin")
	switch {
	case slices.Contains(c.Origins, origin), c.Credentials && slices.Contains(c.Origins, "*"):
		h.Set("Access-Control-Allow-Origin", origin)
	case slices.Contains(c.Origins, "*"):
		h.Set("Access-Control-Allow-Origin", "*")
	default:
		return
	}
	if c.Credentials {
		h.Set("Access-Control-Allow-Credentials", "true")
	}
	if len(c.Expose) > 0 {
		h.Set("Access-Control-Expose-Headers", strings.Join(c.Expose, ","))
	}
}

// setPreflight adds what a browser asks for before it sends a request of another origin's page. setCORS has been called.
func setPreflight(h http.Header, c *registry.CORS) {
	if h.Get("Access-Control-Allow-Origin") == "" {
		return
	}
	h.Del("Access-Control-Expose-Headers")
	if len(c.Methods) > 0 {
		h.Set("Access-Control-Allow-Methods", strings.Join(c.Methods, ","))
	}
	if len(c.Headers) > 0 {
		h.Set("Access-Control-Allow-Headers", strings.Join(c.Headers, ","))
	}
	if c.MaxAge > 0 {
		h.Set("Access-Control-Max-Age", strconv.Itoa(int(c.MaxAge)))
	}
}

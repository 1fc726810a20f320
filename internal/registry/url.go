package registry

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"slices"
	"strings"
	"time"

	"kiln"
)

// Kinds of authorization of a function URL, in AWS's words.
const (
	URLAuthNone = "NONE"
	URLAuthIAM  = "AWS_IAM"
)

// URL is a function's address for ordinary HTTP, or an alias's.
type URL struct {
	// ID is the first label of its host name: 32 lower-case letters and digits, never used twice.
	ID   string `json:"id"`
	Auth string `json:"auth"`
	CORS *CORS  `json:"cors,omitempty"`
	// Created and Modified are in UTC.
	Created  time.Time `json:"created"`
	Modified time.Time `json:"modified"`
}

// CORS says which pages of other origins may use a URL, in AWS's terms.
type CORS struct {
	Credentials bool     `json:"credentials,omitempty"`
	Headers     []string `json:"headers,omitempty"`
	Methods     []string `json:"methods,omitempty"`
	Origins     []string `json:"origins,omitempty"`
	Expose      []string `json:"expose,omitempty"`
	MaxAge      int32    `json:"maxAge,omitempty"` // seconds
}

// FunctionURL is a URL and what it leads to. Qualifier is empty or an alias.
type FunctionURL struct {
	*URL
	Account   kiln.AccountID
	Function  string
	Qualifier string
}

// URLUpdate changes what is not zero of a URL.
type URLUpdate struct {
	Auth string
	CORS *CORS
}

// urlPlace is where a URL is kept.
type urlPlace struct {
	function  id
	qualifier string
}

// URL finds a URL by its id. It reads the local copy alone.
func (r *Registry) URL(urlID string) (FunctionURL, bool) {
	r.mu.RLock()
	place, ok := r.urls[urlID]
	r.mu.RUnlock()
	if !ok {
		return FunctionURL{}, false
	}
	u, err := r.FunctionURL(place.function.account, place.function.name, place.qualifier)
	return u, err == nil && u.ID == urlID
}

// CreateURL gives a function or an alias its URL. Kinds: KindNotFound, KindConflict (it has one).
func (r *Registry) CreateURL(ctx context.Context, owner kiln.AccountID, name, qualifier, auth string, cors *CORS) (FunctionURL, error) {
	const op = "registry: create function url"
	var random [20]byte
	_, _ = rand.Read(random[:]) // never fails
	now := r.cfg.Now().UTC()
	made := &URL{ID: strings.ToLower(base32.StdEncoding.EncodeToString(random[:])), Auth: auth, CORS: cors, Created: now, Modified: now}
	_, err := r.change(ctx, op, owner, name, func(f *Function) (*kiln.Version, error) {
		if qualifier != "" && f.Aliases[qualifier] == nil {
			return nil, r.notFound(op, owner, name, qualifier)
		}
		if f.URLs[qualifier] != nil {
			return nil, kiln.Errorf(kiln.KindConflict, op, "Failed to create function url config for [functionArn = %s]. "+
				"Error message:  FunctionUrlConfig exists for this Lambda function", kiln.FunctionARN(r.cfg.Region, owner, name, qualifier))
		}
		if f.URLs == nil {
			f.URLs = map[string]*URL{}
		}
		f.URLs[qualifier] = made
		return nil, nil
	})
	return FunctionURL{made, owner, name, qualifier}, err
}

// UpdateURL changes a URL. Kinds: KindNotFound.
func (r *Registry) UpdateURL(ctx context.Context, owner kiln.AccountID, name, qualifier string, update URLUpdate) (FunctionURL, error) {
	const op = "registry: update function url"
	var made *URL
	_, err := r.change(ctx, op, owner, name, func(f *Function) (*kiln.Version, error) {
		if made = f.URLs[qualifier]; made == nil {
			return nil, noURL(op)
		}
		if update.Auth != "" {
			made.Auth = update.Auth
		}
		if update.CORS != nil {
			made.CORS = update.CORS
		}
		made.Modified = r.cfg.Now().UTC()
		return nil, nil
	})
	return FunctionURL{made, owner, name, qualifier}, err
}

// DeleteURL takes a URL away for good. Kinds: KindNotFound.
func (r *Registry) DeleteURL(ctx context.Context, owner kiln.AccountID, name, qualifier string) error {
	const op = "registry: delete function url"
	_, err := r.change(ctx, op, owner, name, func(f *Function) (*kiln.Version, error) {
		if f.URLs[qualifier] == nil {
			return nil, noURL(op)
		}
		delete(f.URLs, qualifier)
		return nil, nil
	})
	return err
}

// FunctionURL gives the URL of a function or, with a qualifier, of an alias. Kinds: KindNotFound.
func (r *Registry) FunctionURL(owner kiln.AccountID, name, qualifier string) (FunctionURL, error) {
	const op = "registry: get function url"
	e := r.entry(owner, name)
	if e == nil || e.head.URLs[qualifier] == nil {
		return FunctionURL{}, noURL(op)
	}
	return FunctionURL{e.head.URLs[qualifier], owner, name, qualifier}, nil
}

// FunctionURLs gives a page of the URLs of a function and its aliases. next is the marker of the page after, empty at the
// end. Kinds: KindNotFound, KindInvalid (marker).
func (r *Registry) FunctionURLs(owner kiln.AccountID, name string, page Page) (list []FunctionURL, next string, err error) {
	const op = "registry: list function urls"
	e := r.entry(owner, name)
	if e == nil {
		return nil, "", r.notFound(op, owner, name, "")
	}
	keys := make([]string, 0, len(e.head.URLs))
	for qualifier := range e.head.URLs {
		keys = append(keys, separator+qualifier) // no key is empty, as no marker may be
	}
	slices.Sort(keys)
	keys, next, err = page.cut(op, keys)
	for _, key := range keys {
		qualifier := strings.TrimPrefix(key, separator)
		list = append(list, FunctionURL{e.head.URLs[qualifier], owner, name, qualifier})
	}
	return list, next, err
}

func noURL(op string) error {
	return kiln.Errorf(kiln.KindNotFound, op, "The resource you requested does not exist.")
}

// noteURLs keeps the index of URLs up to date. mu is held.
func (r *Registry) noteURLs(f id, old, now *entry) {
	if old != nil {
		for _, u := range old.head.URLs {
			delete(r.urls, u.ID)
		}
	}
	if now != nil {
		for qualifier, u := range now.head.URLs {
			r.urls[u.ID] = urlPlace{f, qualifier}
		}
	}
}

// dropQualifier removes what hangs on an alias or a version that goes.
func (f *Function) dropQualifier(qualifier string) {
	delete(f.Policies, qualifier)
	delete(f.URLs, qualifier)
	delete(f.Provisioned, qualifier)
	delete(f.Scaling, qualifier)
}

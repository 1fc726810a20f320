package registry

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"

	"kiln"
)

// Page asks for a part of a list.
type Page struct {
	// Marker is what the page before gave as next; empty for the first.
	Marker string
	// Limit is the most items wanted: 0 or more than MaxPage means MaxPage.
	Limit int
}

// cut gives the part of sorted keys that the page asks for and the marker of the next.
func (p Page) cut(op string, keys []string) ([]string, string, error) {
	if p.Marker != "" {
		after, err := base64.RawURLEncoding.DecodeString(p.Marker)
		if err != nil {
			return nil, "", invalid(op, "The Marker is not one that an earlier call gave.")
		}
		i, found := slices.BinarySearch(keys, string(after))
		if found {
			i++
		}
		keys = keys[i:]
	}
	limit := p.Limit
	if limit <= 0 || limit > MaxPage {
		limit = MaxPage
	}
	if len(keys) <= limit {
		return keys, "", nil
	}
	return keys[:limit], base64.RawURLEncoding.EncodeToString([]byte(keys[limit-1])), nil
}

// Get gives a version of a function by qualifier: empty, $LATEST, a number or an alias. Kinds: KindNotFound.
func (r *Registry) Get(owner kiln.AccountID, name, qualifier string) (Configuration, error) {
	const op = "registry: get function"
	e := r.entry(owner, name)
	if e == nil {
		return Configuration{}, r.notFound(op, owner, name, qualifier)
	}
	if a := e.head.Aliases[qualifier]; a != nil {
		qualifier = a.Version
	}
	if qualifier == "" || qualifier == kiln.Latest {
		return e.head.configuration(), nil
	}
	if c, ok := e.version(qualifier); ok {
		return c, nil
	}
	return Configuration{}, r.notFound(op, owner, name, qualifier)
}

// version gives a published version as its owner sees it.
func (e *entry) version(number string) (Configuration, bool) {
	t, ok := e.versions[number]
	if !ok {
		return Configuration{}, false
	}
	s := Status{State: t.state, LastUpdate: UpdateSuccessful}
	if i := e.head.find(number); i >= 0 {
		s.StateReason = e.head.Versions[i].StateReason
	} else if p := e.head.LatestPublished; p != nil {
		s.StateReason = p.StateReason
		if p.Next != nil {
			s.LastUpdate = UpdateInProgress
		}
	}
	switch t.state {
	case StatePending:
		s.StateReason, s.StateReasonCode = creatingReason, creatingCode
		s.LastUpdate = UpdateInProgress
	case StateFailed:
		s.StateReasonCode = failedCode
		s.LastUpdate = UpdateFailed
	}
	return Configuration{t.version, s}, true
}

// List gives a page of an account's functions by name, each as $LATEST is; with all, each followed by its published
// versions. next is the marker of the page after, empty at the end. Kinds: KindInvalid (marker).
func (r *Registry) List(owner kiln.AccountID, all bool, page Page) (list []Configuration, next string, err error) {
	const op = "registry: list functions"
	keys := r.names(owner)
	if all {
		keys = r.versionKeys(owner, keys)
	}
	keys, next, err = page.cut(op, keys)
	for _, key := range keys {
		name, number, _ := strings.Cut(key, separator)
		e := r.entry(owner, name)
		if e == nil { // deleted since
			continue
		}
		if c, ok := e.at(number); ok {
			list = append(list, c)
		}
	}
	return list, next, err
}

// separator stands between a name and a number in a key, below all that a name can hold, so that keys sort as names do.
const separator = "\x00"

// versionKeys gives a key for each version of the functions.
func (r *Registry) versionKeys(owner kiln.AccountID, names []string) []string {
	var keys []string
	for _, name := range names {
		if e := r.entry(owner, name); e != nil {
			for _, number := range e.numbers() {
				keys = append(keys, name+separator+number)
			}
		}
	}
	return keys
}

// numbers gives a function's versions by number, in a form that text sorts as numbers do; $LATEST is first, as 0.
func (e *entry) numbers() []string {
	keys := make([]string, 0, 1+len(e.head.Versions))
	keys = append(keys, sortable(0))
	if e.head.LatestPublished != nil {
		keys = append(keys, sortableNumber(kiln.LatestPublished))
	}
	for i := range e.head.Versions {
		keys = append(keys, sortable(e.head.Versions[i].Number))
	}
	return keys
}

// at gives the version that one of numbers means; none means $LATEST.
func (e *entry) at(number string) (Configuration, bool) {
	if number == sortableNumber(kiln.LatestPublished) {
		return e.version(kiln.LatestPublished)
	}
	if number = strings.TrimLeft(number, "0"); number != "" {
		return e.version(number)
	}
	return e.head.configuration(), true
}

// names gives an account's functions by name.
func (r *Registry) names(owner kiln.AccountID) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.accounts[owner]
	if a == nil {
		return nil
	}
	if !a.sorted {
		a.names = slices.AppendSeq(a.names[:0], maps.Keys(a.functions))
		slices.Sort(a.names)
		a.sorted = true
	}
	return slices.Clone(a.names)
}

// Versions gives a page of a function's versions, $LATEST first and then by number. next is the marker of the page after,
// empty at the end. Kinds: KindNotFound, KindInvalid (marker).
func (r *Registry) Versions(owner kiln.AccountID, name string, page Page) (list []Configuration, next string, err error) {
	const op = "registry: list versions"
	e := r.entry(owner, name)
	if e == nil {
		return nil, "", r.notFound(op, owner, name, "")
	}
	keys, next, err := page.cut(op, e.numbers())
	for _, key := range keys {
		if c, ok := e.at(key); ok {
			list = append(list, c)
		}
	}
	return list, next, err
}

// sortable writes a version's number so that text sorts as numbers do.
func sortable(number int) string { return fmt.Sprintf("%010d", number) }

// sortableNumber does so for a number in decimals; $LATEST.PUBLISHED comes after $LATEST and before the numbers.
func sortableNumber(number string) string {
	if number == kiln.LatestPublished {
		return sortable(0) + "p"
	}
	return strings.Repeat("0", max(len(sortable(0))-len(number), 0)) + number
}

// Tags gives a function's tags. Kinds: KindNotFound.
func (r *Registry) Tags(owner kiln.AccountID, name string) (map[string]string, error) {
	e := r.entry(owner, name)
	if e == nil {
		return nil, r.notFound("registry: list tags", owner, name, "")
	}
	return e.head.Tags, nil
}

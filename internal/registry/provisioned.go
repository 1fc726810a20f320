package registry

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"kiln"
	"kiln/internal/admission"
)

// Provisioned is the provisioned concurrency of an alias or a version: how many executions at once find a container ready.
type Provisioned struct {
	Executions int `json:"executions"`
	// Modified is when its owner put it, in UTC: settings that change Executions leave it.
	Modified time.Time `json:"modified"`
	// Refused says why the settings could not change it last, empty when they could.
	Refused string `json:"refused,omitempty"`
}

// ProvisionedConfig is provisioned concurrency and what has it. Versions is how it is shared out now, by number: an alias
// with weights shares it.
type ProvisionedConfig struct {
	Provisioned
	Account   kiln.AccountID
	Function  string
	Qualifier string
	Versions  map[string]int
}

// Promise is what a function's owner was promised of the pools: containers of its versions, ready at all times.
type Promise struct {
	Version    *kiln.Version
	Containers int
}

// Provision sets the provisioned concurrency of an alias or a published version, and gives it. Kinds: KindNotFound,
// KindInvalid ($LATEST, the account or the reservation has not so much), KindConflict (an alias and its version both),
// KindUnavailable.
func (r *Registry) Provision(ctx context.Context, owner kiln.AccountID, name, qualifier string, executions int) (ProvisionedConfig, error) {
	const op = "registry: put provisioned concurrency"
	made := &Provisioned{Executions: executions, Modified: r.cfg.Now().UTC()}
	shares := map[string]int{}
	err := r.changeReserved(ctx, op, owner, name, func(f *Function) error {
		if err := r.provisionable(op, f, qualifier); err != nil {
			return err
		}
		if err := r.mayProvision(f, qualifier, executions); err != nil {
			return err
		}
		if f.Provisioned == nil {
			f.Provisioned = map[string]*Provisioned{}
		}
		f.Provisioned[qualifier] = made
		shares = map[string]int{}
		f.share(shares, qualifier)
		return nil
	})
	return ProvisionedConfig{*made, owner, name, qualifier, shares}, err
}

// Rescale changes provisioned concurrency as its settings ask, which is not its owner's doing. What the account or the
// reservation has not is refused, noted, and left as it was. One that is gone, or is so already, is no error. Kinds:
// KindNotFound (the function), KindUnavailable.
func (r *Registry) Rescale(ctx context.Context, owner kiln.AccountID, name, qualifier string, executions int) error {
	return r.changeReserved(ctx, "registry: rescale provisioned concurrency", owner, name, func(f *Function) error {
		p := f.Provisioned[qualifier]
		if p == nil {
			return errNothing
		}
		refused := ""
		if err := r.mayProvision(f, qualifier, executions); err != nil {
			executions, refused = p.Executions, messageOf(err)
		}
		if p.Executions == executions && p.Refused == refused {
			return errNothing
		}
		p.Executions, p.Refused = executions, refused
		return nil
	})
}

// Unprovision takes provisioned concurrency away; without any there is nothing to do, as with AWS. Kinds: KindNotFound,
// KindInvalid, KindUnavailable.
func (r *Registry) Unprovision(ctx context.Context, owner kiln.AccountID, name, qualifier string) error {
	const op = "registry: delete provisioned concurrency"
	return r.changeReserved(ctx, op, owner, name, func(f *Function) error {
		if err := r.provisionedQualifier(op, f, qualifier); err != nil {
			return err
		}
		if f.Provisioned[qualifier] == nil {
			return errNothing
		}
		delete(f.Provisioned, qualifier)
		return nil
	})
}

// ProvisionedConfig gives the provisioned concurrency of an alias or a version. Kinds: KindNotFound, KindInvalid.
func (r *Registry) ProvisionedConfig(owner kiln.AccountID, name, qualifier string) (ProvisionedConfig, error) {
	const op = "registry: get provisioned concurrency"
	e := r.entry(owner, name)
	if e == nil {
		return ProvisionedConfig{}, r.notFound(op, owner, name, "")
	}
	if err := r.provisionedQualifier(op, e.head, qualifier); err != nil {
		return ProvisionedConfig{}, err
	}
	if e.head.Provisioned[qualifier] == nil {
		err := kiln.Errorf(kiln.KindNotFound, op, "No Provisioned Concurrency Config found for this function")
		err.Reason = "ProvisionedConcurrencyConfigNotFoundException"
		return ProvisionedConfig{}, err
	}
	return e.head.provisionedConfig(qualifier), nil
}

// ProvisionedConfigs gives a page of a function's provisioned concurrency, by qualifier. next is the marker of the page
// after, empty at the end. Kinds: KindNotFound, KindInvalid (marker).
func (r *Registry) ProvisionedConfigs(owner kiln.AccountID, name string, page Page) (list []ProvisionedConfig, next string, err error) {
	const op = "registry: list provisioned concurrency"
	e := r.entry(owner, name)
	if e == nil {
		return nil, "", r.notFound(op, owner, name, "")
	}
	keys, next, err := page.cut(op, slices.Sorted(maps.Keys(e.head.Provisioned)))
	for _, key := range keys {
		list = append(list, e.head.provisionedConfig(key))
	}
	return list, next, err
}

func (f *Function) provisionedConfig(qualifier string) ProvisionedConfig {
	c := ProvisionedConfig{*f.Provisioned[qualifier], f.Account, f.Name, qualifier, map[string]int{}}
	f.share(c.Versions, qualifier)
	return c
}

// provisionedQualifier refuses a qualifier that can have no provisioned concurrency.
func (r *Registry) provisionedQualifier(op string, f *Function, qualifier string) error {
	switch {
	case qualifier == kiln.Latest || qualifier == "":
		return invalid(op, "The function resource provided must be an alias or a published version.")
	case f.Aliases[qualifier] != nil || f.find(qualifier) >= 0:
		return nil
	case isNumber(qualifier):
		return r.notFound(op, f.Account, f.Name, qualifier)
	}
	return r.aliasNotFound(op, f.Account, f.Name, qualifier)
}

// provisionable refuses what provisioned concurrency cannot be put on.
func (r *Registry) provisionable(op string, f *Function, qualifier string) error {
	const unpublished = "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
	if qualifier == kiln.Latest {
		return invalid(op, unpublished)
	}
	if err := r.provisionedQualifier(op, f, qualifier); err != nil {
		return err
	}
	if f.current().Provider != "" {
		return invalid(op, "Provisioned Concurrency is not supported for functions on a capacity provider; PutFunctionScalingConfig keeps execution environments ready there.")
	}
	a := f.Aliases[qualifier]
	if a != nil {
		return f.provisionableAlias(op, a)
	}
	for name, alias := range f.Aliases {
		if f.Provisioned[name] != nil && alias.pointsTo(qualifier) {
			return kiln.Errorf(kiln.KindConflict, op, "Version is pointed by a Provisioned Concurrency alias")
		}
	}
	return nil
}

// provisionableAlias refuses an alias that, as it points, can have no provisioned concurrency.
func (f *Function) provisionableAlias(op string, a *Alias) error {
	if a.Version == kiln.Latest {
		return invalid(op, "Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
	}
	for number := range f.Provisioned {
		if f.find(number) >= 0 && a.pointsTo(number) {
			return kiln.Errorf(kiln.KindConflict, op, "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version")
		}
	}
	return nil
}

// mayProvision refuses more than the function's reservation or, without one, its account has.
func (r *Registry) mayProvision(f *Function, qualifier string, executions int) error {
	total := executions
	for other, p := range f.Provisioned {
		if other != qualifier {
			total += p.Executions
		}
	}
	terms := f.terms()
	return admission.CheckProvision(r.cfg.ConcurrencyLimit, r.reserved(f.Account)-terms.Total(), terms.Reserved, total)
}

// share adds to versions what of a qualifier's provisioned concurrency each has, by number. An alias shares by its weights:
// the version with a weight has its part, rounded, and the alias's own the rest.
func (f *Function) share(versions map[string]int, qualifier string) {
	p := f.Provisioned[qualifier]
	a := f.Aliases[qualifier]
	if a == nil {
		versions[qualifier] += p.Executions
		return
	}
	rest := p.Executions
	for number, weight := range a.Weights { // one at most: see putAlias
		n := int(math.Round(float64(p.Executions) * weight))
		if n > 0 {
			versions[number] += n
		}
		rest -= n
	}
	if rest > 0 {
		versions[a.Version] += rest
	}
}

// terms gives what the function has of its account's executions.
func (f *Function) terms() admission.Terms {
	t := admission.Terms{Reserved: admission.None}
	if f.Reserved != nil {
		t.Reserved = *f.Reserved
	}
	if len(f.Provisioned) > 0 {
		t.Provisioned = map[string]int{}
		for qualifier := range f.Provisioned {
			f.share(t.Provisioned, qualifier)
		}
	}
	return t
}

// Promising walks the functions that may have been promised something of the pools, by account and name, each with its
// promises by version. A version that cannot run yet has none.
func (r *Registry) Promising() iter.Seq2[Promising, []Promise] {
	return func(yield func(Promising, []Promise) bool) {
		r.mu.RLock()
		keys := slices.SortedFunc(maps.Keys(r.promising), func(a, b id) int {
			return cmp.Or(strings.Compare(string(a.account), string(b.account)), strings.Compare(a.name, b.name))
		})
		r.mu.RUnlock()
		for _, f := range keys {
			e := r.entry(f.account, f.name)
			if e == nil {
				continue
			}
			p := Promising{Account: f.account, Function: f.name, Tags: e.head.Tags, Provisioned: map[string]ProvisionedConfig{}}
			for qualifier := range e.head.Provisioned {
				p.Provisioned[qualifier] = e.head.provisionedConfig(qualifier)
			}
			if !yield(p, e.promises()) {
				return
			}
		}
	}
}

// Promising is a function with provisioned concurrency, or on a capacity provider.
type Promising struct {
	Account  kiln.AccountID
	Function string
	Tags     map[string]string
	// Provisioned is by qualifier.
	Provisioned map[string]ProvisionedConfig
}

// promises gives what a function was promised, by version.
func (e *entry) promises() (list []Promise) {
	t := e.head.terms()
	for _, number := range slices.Sorted(maps.Keys(t.Provisioned)) {
		if v, ok := e.versions[number]; ok && v.state == StateActive && t.Provisioned[number] > 0 {
			list = append(list, Promise{v.version, t.Provisioned[number]})
		}
	}
	return e.leasts(list)
}

// notePromises keeps the index of functions with promises up to date; true when something a promise is made of may have
// changed. mu is held.
func (r *Registry) notePromises(f id, now *entry) bool {
	_, before := r.promising[f]
	if now == nil || len(now.head.Provisioned) == 0 && now.head.current().Provider == "" {
		delete(r.promising, f)
		return before
	}
	r.promising[f] = struct{}{}
	return true
}

// isNumber reports whether a qualifier has a version's form.
func isNumber(qualifier string) bool {
	return strings.Trim(qualifier, "0123456789") == ""
}

// messageOf gives what an error tells a caller.
func messageOf(err error) string {
	if e, ok := err.(*kiln.Error); ok {
		return e.Message
	}
	return err.Error()
}

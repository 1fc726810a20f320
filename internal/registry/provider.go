package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"kiln"
	"kiln/internal/engine"
)

// MaxProviderVersions bounds the published versions on one capacity provider (AWS's quota).
const MaxProviderVersions = 100

// providerPrefix begins the keys of capacity providers: "provider/ACCOUNT/NAME".
const providerPrefix = "provider/"

// Provider is a capacity provider: an account's own set of instances.
type Provider struct {
	Account kiln.AccountID `json:"account"`
	Name    string         `json:"name"`
	// Kept holds what AWS's operations give back of it, by AWS's name, as it was given.
	Kept map[string]json.RawMessage `json:"kept"`
	// MaxCPUs is the most processors its instances may have together, 0 when its owner did not say.
	MaxCPUs int `json:"maxCpus,omitempty"`
	// Utilisation is the share of its instances' processors that is to be in use, 0 when its owner did not say.
	Utilisation float64 `json:"utilisation,omitempty"`
	// Shapes are the memory sizes of the instances it may have, in MiB; empty for any there are.
	Shapes []int             `json:"shapes,omitempty"`
	Tags   map[string]string `json:"tags,omitempty"`
	// Modified is in UTC.
	Modified time.Time `json:"modified"`
	// Deleting is true once it is to go and until its instances have.
	Deleting bool `json:"deleting,omitempty"`
}

// CreateProvider makes a capacity provider. Kinds: KindConflict (it exists, or is not gone yet), KindLimit (the operator
// gives no more instances), KindInvalid (tags), KindUnavailable.
func (r *Registry) CreateProvider(ctx context.Context, p Provider) (*Provider, error) {
	const op = "registry: create capacity provider"
	if err := checkTags(op, p.Tags); err != nil {
		return nil, err
	}
	unlock, err := r.alone(ctx, op)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if r.findProvider(p.Account, p.Name) != nil {
		return nil, kiln.Errorf(kiln.KindConflict, op, "Capacity provider already exists: %s", r.ProviderARN(p.Account, p.Name))
	}
	r.mu.RLock()
	all := len(r.providers)
	r.mu.RUnlock()
	if all >= r.cfg.ProvidersMax {
		return nil, limit(op, "CapacityProviderLimitExceededException",
			"There may be %d capacity providers on this server (providers.instances.max, since each has one instance at least, and never more than 998), "+
				"and as many there are.", r.cfg.ProvidersMax)
	}
	p.Modified = r.cfg.Now().UTC()
	_, err = r.docs.Create(ctx, providerKey(p.Account, p.Name), encoded(&p))
	return &p, err
}

// UpdateProvider changes a capacity provider by a function of the caller's, which is given a copy to change. Kinds:
// KindNotFound, KindConflict (it is being deleted), KindUnavailable, and the caller's own.
func (r *Registry) UpdateProvider(ctx context.Context, owner kiln.AccountID, name string, set func(*Provider) error) (*Provider, error) {
	const op = "registry: update capacity provider"
	unlock, err := r.alone(ctx, op)
	if err != nil {
		return nil, err
	}
	defer unlock()
	doc, ok := r.docs.Get(providerKey(owner, name))
	if !ok {
		return nil, r.noProvider(op, owner, name)
	}
	p := new(Provider)
	if err := json.Unmarshal(doc.Value, p); err != nil {
		return nil, kiln.Wrap(kiln.KindInternal, op, "the capacity provider's document is damaged", err)
	}
	if p.Deleting {
		return nil, kiln.Errorf(kiln.KindConflict, op, "The operation cannot be performed at this time. The capacity provider is currently in the following state: Deleting")
	}
	if err := set(p); err != nil {
		return nil, err
	}
	if err := checkTags(op, p.Tags); err != nil {
		return nil, err
	}
	_, err = r.docs.Update(ctx, providerKey(owner, name), encoded(p), doc.Revision)
	return p, err
}

// Touch stamps a change its owner made.
func (r *Registry) Touch(p *Provider) { p.Modified = r.cfg.Now().UTC() }

// DeleteProvider lets a capacity provider go: it is Deleting until RemoveProvider. Kinds: KindNotFound, KindConflict
// (functions use it, or it is being deleted already), KindUnavailable.
func (r *Registry) DeleteProvider(ctx context.Context, owner kiln.AccountID, name string) (*Provider, error) {
	const op = "registry: delete capacity provider"
	return r.UpdateProvider(ctx, owner, name, func(p *Provider) error {
		for v := range r.OnProvider(owner, name) {
			return kiln.Errorf(kiln.KindConflict, op, "The capacity provider %s is in use by the function %s and cannot be deleted. Delete the function, or its versions, first.",
				r.ProviderARN(owner, name), kiln.FunctionARN(r.cfg.Region, owner, v.Function, v.Number))
		}
		p.Deleting = true
		r.Touch(p)
		return nil
	})
}

// RemoveProvider forgets a capacity provider that was deleted and whose instances are gone. Kinds: KindUnavailable.
func (r *Registry) RemoveProvider(ctx context.Context, owner kiln.AccountID, name string) error {
	doc, ok := r.docs.Get(providerKey(owner, name))
	if !ok {
		return nil
	}
	return r.docs.Delete(ctx, providerKey(owner, name), doc.Revision)
}

// Provider gives a capacity provider. Kinds: KindNotFound.
func (r *Registry) Provider(owner kiln.AccountID, name string) (*Provider, error) {
	if p := r.findProvider(owner, name); p != nil {
		return p, nil
	}
	return nil, r.noProvider("registry: get capacity provider", owner, name)
}

// Providers gives all capacity providers of all accounts, by account and name.
func (r *Registry) Providers() []*Provider {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.SortedFunc(maps.Values(r.providers), func(a, b *Provider) int {
		return cmp.Or(strings.Compare(string(a.Account), string(b.Account)), strings.Compare(a.Name, b.Name))
	})
}

// ProviderPage gives a page of names, of which more may be its caller's own. next is the marker of the page after.
func ProviderPage(names []string, page Page) (list []string, next string, err error) {
	return page.cut("registry: list capacity providers", names)
}

// OnProvider walks the versions of an account's functions that run on a capacity provider, $LATEST included.
func (r *Registry) OnProvider(owner kiln.AccountID, name string) iter.Seq[*kiln.Version] {
	return func(yield func(*kiln.Version) bool) {
		r.mu.RLock()
		var functions []string
		for f := range r.promising {
			if f.account == owner {
				functions = append(functions, f.name)
			}
		}
		r.mu.RUnlock()
		slices.Sort(functions)
		for _, function := range functions {
			e := r.entry(owner, function)
			if e == nil {
				continue
			}
			for v := range e.all() {
				if v.Provider == name && !yield(v) {
					return
				}
			}
		}
	}
}

// ProviderVersions gives a page of the published versions on a capacity provider, by function and number. Kinds:
// KindNotFound, KindInvalid (marker).
func (r *Registry) ProviderVersions(owner kiln.AccountID, name string, page Page) (list []Configuration, next string, err error) {
	const op = "registry: list versions by capacity provider"
	var keys []string
	for v := range r.OnProvider(owner, name) {
		if v.Number != kiln.Latest {
			keys = append(keys, v.Function+separator+sortableNumber(v.Number))
		}
	}
	slices.Sort(keys)
	keys, next, err = page.cut(op, keys)
	for _, key := range keys {
		function, number, _ := strings.Cut(key, separator)
		if e := r.entry(owner, function); e != nil {
			if c, ok := e.at(number); ok {
				list = append(list, c)
			}
		}
	}
	return list, next, err
}

// checkProvider refuses a version whose capacity provider is not there, or has as many published versions as it may when
// publishes is true. The caller holds alone.
func (r *Registry) checkProvider(op string, v *kiln.Version, publishes bool) error {
	p := r.findProvider(v.Account, v.Provider)
	if p == nil {
		return invalid(op, "The capacity provider %s does not exist.", r.ProviderARN(v.Account, v.Provider))
	}
	if p.Deleting {
		return kiln.Errorf(kiln.KindConflict, op, "The capacity provider %s is being deleted.", r.ProviderARN(v.Account, v.Provider))
	}
	if !publishes {
		return nil
	}
	n := 0
	for on := range r.OnProvider(v.Account, v.Provider) {
		if on.Number != kiln.Latest {
			n++
		}
	}
	if n >= MaxProviderVersions {
		return limit(op, "FunctionVersionsPerCapacityProviderLimitExceededException", "A capacity provider has at most %d function versions.", MaxProviderVersions)
	}
	return nil
}

// alone holds off the others that change reservations, capacity providers and functions on them.
func (r *Registry) alone(ctx context.Context, op string) (unlock func(), err error) {
	select {
	case r.reserving <- struct{}{}:
		return func() { <-r.reserving }, nil
	case <-ctx.Done():
		return nil, kiln.Wrap(kiln.KindUnavailable, op, "the request was given up", ctx.Err())
	}
}

// aloneOn is alone for a function on a capacity provider, where it stays, and holds nobody off for others.
func (r *Registry) aloneOn(ctx context.Context, op string, owner kiln.AccountID, name string) (unlock func(), err error) {
	if e := r.entry(owner, name); e != nil && e.head.current().Provider != "" {
		return r.alone(ctx, op)
	}
	return func() {}, nil
}

// ProviderARN gives a capacity provider's ARN.
func (r *Registry) ProviderARN(owner kiln.AccountID, name string) string {
	return "arn:aws:lambda:" + r.cfg.Region + ":" + string(owner) + ":capacity-provider:" + name
}

func (r *Registry) noProvider(op string, owner kiln.AccountID, name string) error {
	return kiln.Errorf(kiln.KindNotFound, op, "Capacity provider not found: %s", r.ProviderARN(owner, name))
}

func (r *Registry) findProvider(owner kiln.AccountID, name string) *Provider {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.providers[id{owner, name}]
}

func providerKey(owner kiln.AccountID, name string) string {
	return providerPrefix + string(owner) + "/" + name
}

// encoded writes a provider, which always can be.
func encoded(p *Provider) []byte {
	b, err := json.Marshal(p)
	if err != nil {
		panic("registry: a capacity provider cannot be written as JSON: " + err.Error())
	}
	return b
}

// applyProvider replaces a capacity provider's decoded copy.
func (r *Registry) applyProvider(p id, c engine.Change) {
	var decoded *Provider
	if !c.Deleted {
		decoded = new(Provider)
		if err := json.Unmarshal(c.Document.Value, decoded); err != nil {
			r.cfg.Logger.Error("registry document unreadable", "key", c.Key, "error", err)
			return
		}
	}
	r.mu.Lock()
	if decoded == nil {
		delete(r.providers, p)
	} else {
		r.providers[p] = decoded
	}
	r.mu.Unlock()
	if r.cfg.Promised != nil {
		r.cfg.Promised()
	}
}

package registry

import (
	"context"
	"maps"
	"slices"

	"github.com/google/uuid"

	"kiln"
)

// Alias is a name for a version, or for two of them by weight.
type Alias struct {
	Name        string `json:"name"`
	Version     string `json:"version"`
	Description string `json:"description,omitempty"`
	// Weights gives other versions' shares of the requests, each in [0,1]; Version has the rest.
	Weights map[string]float64 `json:"weights,omitempty"`
	// Revision is new at every change of the alias.
	Revision string `json:"revision"`
}

// choose gives a version by a number in [0,1).
func (a *Alias) choose(chance float64) string {
	for version, weight := range a.Weights { // one at most: see checkAlias
		if chance < weight {
			return version
		}
	}
	return a.Version
}

// AliasUpdate changes what is not nil of an alias.
type AliasUpdate struct {
	Version     *string
	Description *string
	// Weights replaces all weights when it is not nil; an empty map takes them away.
	Weights map[string]float64
	// Revision, unless empty, must be the alias's own.
	Revision string
}

// CreateAlias makes an alias. Kinds: KindNotFound (function, version), KindConflict (it exists), KindInvalid, KindLimit.
func (r *Registry) CreateAlias(ctx context.Context, owner kiln.AccountID, name string, a Alias) (*Alias, error) {
	const op = "registry: create alias"
	made := &a
	_, err := r.change(ctx, op, owner, name, func(f *Function) (*kiln.Version, error) {
		if _, exists := f.Aliases[a.Name]; exists {
			return nil, kiln.Errorf(kiln.KindConflict, op, "Alias already exists: %s",
				kiln.FunctionARN(r.cfg.Region, owner, name, a.Name))
		}
		if len(f.Aliases) >= MaxAliases {
			return nil, limit(op, "AliasLimitExceededException", "A function has at most %d aliases.", MaxAliases)
		}
		made.Revision = uuid.NewString()
		return nil, r.putAlias(op, f, made)
	})
	if err != nil {
		return nil, err
	}
	return made, nil
}

// UpdateAlias changes an alias. Kinds: KindNotFound (function, alias, version), KindPrecondition, KindInvalid.
func (r *Registry) UpdateAlias(ctx context.Context, owner kiln.AccountID, name, alias string, u AliasUpdate) (*Alias, error) {
	const op = "registry: update alias"
	var made *Alias
	_, err := r.change(ctx, op, owner, name, func(f *Function) (*kiln.Version, error) {
		old := f.Aliases[alias]
		if old == nil {
			return nil, r.aliasNotFound(op, owner, name, alias)
		}
		if u.Revision != "" && u.Revision != old.Revision {
			return nil, staleRevision(op)
		}
		a := *old
		if u.Version != nil {
			a.Version = *u.Version
		}
		if u.Description != nil {
			a.Description = *u.Description
		}
		if u.Weights != nil {
			a.Weights = u.Weights
		}
		a.Revision = uuid.NewString()
		made = &a
		return nil, r.putAlias(op, f, made)
	})
	if err != nil {
		return nil, err
	}
	return made, nil
}

// putAlias checks an alias against its function and puts it in.
func (r *Registry) putAlias(op string, f *Function, a *Alias) error {
	known := func(version string) bool { return version == kiln.Latest || f.published(version) }
	if !known(a.Version) {
		return r.notFound(op, f.Account, f.Name, a.Version)
	}
	if len(a.Weights) > 1 {
		return invalid(op, "Number of items in AdditionalVersionWeights cannot be greater than 1")
	}
	for version, weight := range a.Weights {
		switch {
		case unnumbered(version) || unnumbered(a.Version):
			return invalid(op, "$LATEST is not supported for an alias pointing to more than 1 version")
		case version == a.Version:
			return invalid(op, "Invalid function version %s. Function version %s is already included in routing configuration.",
				version, version)
		case !(weight >= 0 && weight <= 1):
			return invalid(op, "A weight is between 0.0 and 1.0.")
		case !known(version):
			return r.notFound(op, f.Account, f.Name, version)
		}
	}
	if f.Provisioned[a.Name] != nil {
		if err := f.provisionableAlias(op, a); err != nil {
			return err
		}
	}
	if f.Aliases == nil {
		f.Aliases = map[string]*Alias{}
	}
	f.Aliases[a.Name] = a
	return nil
}

// unnumbered reports whether a version is one that changes.
func unnumbered(version string) bool {
	return version == kiln.Latest || version == kiln.LatestPublished
}

// DeleteAlias removes an alias; one that does not exist is no error, as with AWS. Kinds: KindNotFound (function).
func (r *Registry) DeleteAlias(ctx context.Context, owner kiln.AccountID, name, alias string) error {
	const op = "registry: delete alias"
	_, err := r.change(ctx, op, owner, name, func(f *Function) (*kiln.Version, error) {
		if _, exists := f.Aliases[alias]; !exists {
			return nil, errNothing
		}
		delete(f.Aliases, alias)
		f.dropQualifier(alias)
		return nil, nil
	})
	return err
}

// Alias gives an alias. Kinds: KindNotFound.
func (r *Registry) Alias(owner kiln.AccountID, name, alias string) (*Alias, error) {
	const op = "registry: get alias"
	e := r.entry(owner, name)
	if e == nil {
		return nil, r.notFound(op, owner, name, "")
	}
	a := e.head.Aliases[alias]
	if a == nil {
		return nil, r.aliasNotFound(op, owner, name, alias)
	}
	return a, nil
}

// Aliases gives a page of a function's aliases by name; with a version, those that point to it, by weight included. next is
// the marker of the page after, empty at the end. Kinds: KindNotFound, KindInvalid (marker).
func (r *Registry) Aliases(owner kiln.AccountID, name, version string, page Page) (aliases []*Alias, next string, err error) {
	const op = "registry: list aliases"
	e := r.entry(owner, name)
	if e == nil {
		return nil, "", r.notFound(op, owner, name, "")
	}
	names := slices.Sorted(maps.Keys(e.head.Aliases))
	names = slices.DeleteFunc(names, func(name string) bool {
		return version != "" && !e.head.Aliases[name].pointsTo(version)
	})
	names, next, err = page.cut(op, names)
	for _, name := range names {
		aliases = append(aliases, e.head.Aliases[name])
	}
	return aliases, next, err
}

// pointsTo reports whether the alias may resolve to a version.
func (a *Alias) pointsTo(version string) bool {
	_, weighted := a.Weights[version]
	return a.Version == version || weighted
}

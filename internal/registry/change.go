package registry

import (
	"context"
	"encoding/json"
	"errors"
	"maps"

	"github.com/google/uuid"

	"kiln"
)

// errNothing, given by an edit, means that there is nothing to change: the call succeeds without a write.
var errNothing = errors.New("nothing to change")

// edit changes a function's head, a copy made for it, and gives the version to write before it, nil for none. It may be
// called again with a newer head, and must give the same change then.
type edit func(f *Function) (*kiln.Version, error)

// change reads a function's head, edits it and writes it, again when somebody else was first.
func (r *Registry) change(ctx context.Context, op string, owner kiln.AccountID, name string, do edit) (*Function, error) {
	key := headKey(owner, name)
	for range changeTries {
		doc, ok := r.docs.Get(key)
		if !ok {
			return nil, r.notFound(op, owner, name, "")
		}
		f := new(Function)
		if err := json.Unmarshal(doc.Value, f); err != nil {
			return nil, kiln.Wrap(kiln.KindInternal, op, "the function's document is damaged", err)
		}
		version, err := do(f)
		if errors.Is(err, errNothing) {
			return f, nil
		}
		if err != nil {
			return nil, err
		}
		err = r.write(ctx, op, f, version, doc.Revision)
		if kiln.KindOf(err) != kiln.KindConflict {
			return f, err
		}
	}
	return nil, kiln.Errorf(kiln.KindConflict, op, "The function is being changed by too many others. Try again.")
}

// write writes a version, if any, and then the head, which must be at a revision; 0 means it must not exist.
func (r *Registry) write(ctx context.Context, op string, f *Function, version *kiln.Version, revision uint64) error {
	head, err := json.Marshal(f)
	if err != nil {
		return kiln.Wrap(kiln.KindInternal, op, "the function cannot be written", err)
	}
	var written uint64
	if version != nil {
		value, err := json.Marshal(version)
		if err != nil {
			return kiln.Wrap(kiln.KindInternal, op, "the version cannot be written", err)
		}
		if written, err = r.docs.Create(ctx, versionKey(f.Account, f.Name, version.Revision), value); err != nil {
			return err
		}
	}
	if revision == 0 {
		_, err = r.docs.Create(ctx, headKey(f.Account, f.Name), head)
	} else {
		_, err = r.docs.Update(ctx, headKey(f.Account, f.Name), head, revision)
	}
	// With KindUnavailable the head may have been written all the same: the next Open looks at it again.
	if version != nil && err != nil && kiln.KindOf(err) != kiln.KindUnavailable {
		r.dropVersion(ctx, f, version.Revision, written)
	}
	return err
}

// dropVersion deletes a version no head lists. What fails here is done by the next Open.
func (r *Registry) dropVersion(ctx context.Context, f *Function, revision string, written uint64) {
	if err := r.docs.Delete(ctx, versionKey(f.Account, f.Name, revision), written); err != nil {
		r.cfg.Logger.Warn("registry version not removed", "function", f.Name, "revision", revision, "error", err)
	}
}

// CreateInput is a new function. Of the version, number, revision and date are the registry's to give.
type CreateInput struct {
	Version kiln.Version
	Tags    map[string]string
	// Publish makes version 1 at once, PublishLatest $LATEST.PUBLISHED.
	Publish, PublishLatest bool
	// Stored says that the package was hashed while it was stored, just now. There is nothing to verify then.
	Stored bool
}

// Create makes a function and gives $LATEST, or version 1 when it is published at once. It is Active when its package was
// just stored, and else Pending until Run has it verified. Kinds: KindConflict (it exists), KindInvalid, KindLimit.
func (r *Registry) Create(ctx context.Context, in CreateInput) (Configuration, error) {
	const op = "registry: create function"
	latest := copyVersion(&in.Version)
	r.stamp(latest)
	f := &Function{Account: latest.Account, Name: latest.Function, Latest: latest, Tags: maps.Clone(in.Tags),
		Status: Status{State: StatePending, StateReason: creatingReason, StateReasonCode: creatingCode}}
	f.LastUpdate = UpdateInProgress
	if latest.Provider != "" {
		unlock, err := r.alone(ctx, op)
		if err != nil {
			return Configuration{}, err
		}
		defer unlock()
		if err := r.checkProvider(op, latest, in.Publish); err != nil {
			return Configuration{}, err
		}
	}
	exists := kiln.Errorf(kiln.KindConflict, op, "Function already exist: %s", f.Name)
	if r.entry(f.Account, f.Name) != nil {
		return Configuration{}, exists
	}
	if err := r.check(op, latest, latest.PackageBytes); err != nil {
		return Configuration{}, err
	}
	if err := checkTags(op, f.Tags); err != nil {
		return Configuration{}, err
	}
	if n := concurrencyTag(f.Tags); n > 0 && latest.Provider == "" {
		latest.Concurrency = n
	}
	version, err := r.publishing(op, f, in.Publish, in.PublishLatest)
	if err != nil {
		return Configuration{}, err
	}
	if in.Stored {
		f.settled(nil)
	}
	if err := r.write(ctx, op, f, version, 0); err != nil {
		if kiln.KindOf(err) == kiln.KindConflict {
			return Configuration{}, exists
		}
		return Configuration{}, err
	}
	return seen(f, version, in.PublishLatest), nil
}

// publishing publishes what is asked for of what $LATEST is, or is about to be, and gives the version to be written.
func (r *Registry) publishing(op string, f *Function, numbered, latest bool) (version *kiln.Version, err error) {
	if latest {
		if err := r.publishLatest(op, f, ""); err != nil {
			return nil, err
		}
	}
	if numbered {
		return r.publish(op, f, "")
	}
	return nil, nil
}

// seen gives what a change made: the version it published, else $LATEST.
func seen(f *Function, published *kiln.Version, latest bool) Configuration {
	c := f.configuration()
	switch {
	case published != nil:
		c.Version = published
	case latest:
		c.Version = f.LatestPublished.current()
	default:
		return c
	}
	c.State = f.State
	return c
}

// stamp makes a version $LATEST as of now.
func (r *Registry) stamp(v *kiln.Version) {
	v.Number = kiln.Latest
	v.Revision = uuid.NewString()
	v.Modified = r.cfg.Now().UTC()
}

// CodeUpdate is new code for $LATEST.
type CodeUpdate struct {
	Package      kiln.Digest
	PackageBytes int64
	// Architecture stays as it is when empty.
	Architecture string
	// Revision, unless empty, must be $LATEST's.
	Revision string
	// Publish makes a version of it at once, PublishLatest $LATEST.PUBLISHED.
	Publish, PublishLatest bool
	// DryRun checks everything and changes nothing.
	DryRun bool
	// Stored says that the package was hashed while it was stored, just now. There is nothing to verify then.
	Stored bool
}

// UpdateCode gives $LATEST new code, which runs at once when it was just stored, and else once Run has verified it; until
// then the old code does, and for good when verifying fails. It gives $LATEST, or the version published. Kinds: KindNotFound, KindConflict (not settled yet),
// KindPrecondition, KindLimit.
func (r *Registry) UpdateCode(ctx context.Context, owner kiln.AccountID, name string, u CodeUpdate) (Configuration, error) {
	return r.update(ctx, "registry: update code", owner, name, u, func(v *kiln.Version) error {
		v.Package, v.PackageBytes = u.Package, u.PackageBytes
		if u.Architecture != "" {
			v.Architecture = u.Architecture
		}
		return nil
	})
}

// UpdateConfiguration changes $LATEST's configuration by a function of the caller's, which is given a copy to change and may
// be called more than once. revision, unless empty, must be $LATEST's. Kinds as UpdateCode's, and the caller's own.
func (r *Registry) UpdateConfiguration(ctx context.Context, owner kiln.AccountID, name, revision string,
	set func(*kiln.Version) error) (Configuration, error) {
	return r.update(ctx, "registry: update configuration", owner, name, CodeUpdate{Revision: revision}, set)
}

// update changes $LATEST; of u only how is used, what is set's.
func (r *Registry) update(ctx context.Context, op string, owner kiln.AccountID, name string, u CodeUpdate,
	set func(*kiln.Version) error) (Configuration, error) {
	var version *kiln.Version
	unlock, err := r.aloneOn(ctx, op, owner, name)
	if err != nil {
		return Configuration{}, err
	}
	defer unlock()
	f, err := r.change(ctx, op, owner, name, func(f *Function) (_ *kiln.Version, err error) {
		if f.unsettled() {
			return nil, r.busy(op, f)
		}
		if u.Revision != "" && u.Revision != f.Latest.Revision {
			return nil, staleRevision(op)
		}
		v := copyVersion(f.Latest)
		if err := set(v); err != nil {
			return nil, err
		}
		// Whose it is, is not for the caller to set.
		v.Account, v.Function = f.Account, f.Name
		if (v.Provider == "") != (f.Latest.Provider == "") {
			return nil, invalid(op, "A function cannot move between capacity providers and Lambda's own instances; create another.")
		}
		if v.Provider != "" {
			if err := r.checkProvider(op, v, u.Publish); err != nil {
				return nil, err
			}
		}
		if err := r.check(op, v, v.PackageBytes-f.Latest.PackageBytes); err != nil {
			return nil, err
		}
		r.stamp(v)
		f.Next = v
		f.LastUpdate, f.LastUpdateReason, f.LastUpdateReasonCode = UpdateInProgress, creatingReason, creatingCode
		if version, err = r.publishing(op, f, u.Publish, u.PublishLatest); err != nil {
			return nil, err
		}
		if u.Stored {
			f.settled(nil)
		}
		if u.DryRun {
			return nil, errNothing
		}
		return version, nil
	})
	if err != nil {
		return Configuration{}, err
	}
	return seen(f, version, u.PublishLatest), nil
}

// PublishInput asks for a version of $LATEST.
type PublishInput struct {
	// Description is the version's own; $LATEST's when empty.
	Description string
	// CodeSHA256, unless empty, must be $LATEST's, in AWS's form: see CodeSHA256.
	CodeSHA256 string
	// Revision, unless empty, must be $LATEST's.
	Revision string
	// Latest publishes to $LATEST.PUBLISHED.
	Latest bool
}

// PublishVersion makes a version of $LATEST, or gives the last one when nothing has changed since. Kinds: KindNotFound,
// KindConflict (not settled yet), KindPrecondition, KindInvalid (CodeSHA256), KindLimit.
func (r *Registry) PublishVersion(ctx context.Context, owner kiln.AccountID, name string, in PublishInput) (Configuration, error) {
	const op = "registry: publish version"
	unlock, err := r.aloneOn(ctx, op, owner, name)
	if err != nil {
		return Configuration{}, err
	}
	defer unlock()
	number := ""
	_, err = r.change(ctx, op, owner, name, func(f *Function) (*kiln.Version, error) {
		if f.unsettled() {
			return nil, r.busy(op, f)
		}
		if in.Revision != "" && in.Revision != f.Latest.Revision {
			return nil, staleRevision(op)
		}
		if now := CodeSHA256(f.Latest.Package); in.CodeSHA256 != "" && in.CodeSHA256 != now {
			return nil, invalid(op, "CodeSHA256 (%s) is different from current CodeSHA256 in $LATEST (%s). "+
				"Please try again with the CodeSHA256 in $LATEST.", in.CodeSHA256, now)
		}
		if in.Latest {
			number = kiln.LatestPublished
			return nil, r.publishLatest(op, f, in.Description)
		}
		if n := len(f.Versions); n > 0 && f.Versions[n-1].Content == content(f.Latest) {
			number = decimal(f.Versions[n-1].Number)
			return nil, errNothing
		}
		v, err := r.publish(op, f, in.Description)
		if err != nil {
			return nil, err
		}
		number = v.Number
		return v, nil
	})
	if err != nil {
		return Configuration{}, err
	}
	return r.Get(owner, name, number)
}

// publish adds a version of what $LATEST is, or is about to be, to a function's list and gives the version to be written.
func (r *Registry) publish(op string, f *Function, description string) (*kiln.Version, error) {
	if f.current().Provider != "" {
		if err := r.checkProvider(op, f.current(), true); err != nil {
			return nil, err
		}
	}
	if len(f.Versions) >= MaxVersions {
		return nil, limit(op, "ServiceQuotaExceededException", "A function has at most %d versions.", MaxVersions)
	}
	if err := r.checkStorage(op, f.Account, f.current().PackageBytes); err != nil {
		return nil, err
	}
	v := copyVersion(f.current())
	p := Published{Number: f.LastNumber + 1, Revision: uuid.NewString(), Package: v.Package, Content: content(v), State: f.State}
	if f.unsettled() {
		p.State = StatePending
	}
	v.Number, v.Revision, v.Modified = decimal(p.Number), p.Revision, r.cfg.Now().UTC()
	if description != "" {
		v.Description = description
	}
	f.LastNumber = p.Number
	f.Versions = append(f.Versions, p)
	return v, nil
}

// Delete removes a function with all its versions and aliases or, with a version's number, that version. Kinds:
// KindNotFound, KindConflict (an alias points to the version), KindInvalid (the qualifier is $LATEST or an alias).
func (r *Registry) Delete(ctx context.Context, owner kiln.AccountID, name, qualifier string) error {
	const op = "registry: delete function"
	if qualifier != "" {
		return r.deleteVersion(ctx, op, owner, name, qualifier)
	}
	for range changeTries {
		doc, ok := r.docs.Get(headKey(owner, name))
		if !ok {
			return r.notFound(op, owner, name, "")
		}
		err := r.docs.Delete(ctx, headKey(owner, name), doc.Revision)
		if kiln.KindOf(err) == kiln.KindConflict {
			continue
		}
		if err != nil {
			return err
		}
		r.dropListed(ctx, doc.Value)
		return nil
	}
	return kiln.Errorf(kiln.KindConflict, op, "The function is being changed by too many others. Try again.")
}

// dropListed deletes the versions that a deleted head lists.
func (r *Registry) dropListed(ctx context.Context, head []byte) {
	f := new(Function)
	if err := json.Unmarshal(head, f); err != nil {
		r.cfg.Logger.Error("registry document unreadable", "error", err)
		return
	}
	for i := range f.Versions {
		revision := f.Versions[i].Revision
		if doc, ok := r.docs.Get(versionKey(f.Account, f.Name, revision)); ok {
			r.dropVersion(ctx, f, revision, doc.Revision)
		}
	}
}

// deleteVersion removes one published version.
func (r *Registry) deleteVersion(ctx context.Context, op string, owner kiln.AccountID, name, number string) error {
	if number == kiln.Latest {
		return invalid(op, "$LATEST version cannot be deleted without deleting the function.")
	}
	var gone Published
	f, err := r.change(ctx, op, owner, name, func(f *Function) (*kiln.Version, error) {
		if _, alias := f.Aliases[number]; alias {
			return nil, invalid(op, "Deletion of aliases is not currently supported.")
		}
		i := f.find(number)
		if !f.published(number) {
			return nil, r.notFound(op, owner, name, number)
		}
		if names := f.aliasesOf(number); len(names) > 0 {
			return nil, kiln.Errorf(kiln.KindConflict, op,
				"Unable to delete version because the following aliases reference it: %v", names)
		}
		if number == kiln.LatestPublished {
			f.LatestPublished = nil
			f.dropQualifier(number)
			return nil, nil
		}
		if f.unsettled() && f.Versions[i].State == StatePending {
			return nil, r.busy(op, f)
		}
		gone = f.Versions[i]
		f.Versions = append(f.Versions[:i:i], f.Versions[i+1:]...)
		f.dropQualifier(number)
		return nil, nil
	})
	if err != nil {
		return err
	}
	if doc, ok := r.docs.Get(versionKey(owner, name, gone.Revision)); ok {
		r.dropVersion(ctx, f, gone.Revision, doc.Revision)
	}
	return nil
}

// SetTags adds and replaces tags of a function. Kinds: KindNotFound, KindInvalid.
func (r *Registry) SetTags(ctx context.Context, owner kiln.AccountID, name string, tags map[string]string) error {
	const op = "registry: set tags"
	_, err := r.change(ctx, op, owner, name, func(f *Function) (*kiln.Version, error) {
		before := concurrencyTag(f.Tags)
		if f.Tags == nil {
			f.Tags = map[string]string{}
		}
		maps.Copy(f.Tags, tags)
		if err := checkTags(op, f.Tags); err != nil {
			return nil, err
		}
		r.declare(f, before)
		return nil, nil
	})
	return err
}

// RemoveTags removes tags of a function; missing ones are no error. Kinds: KindNotFound.
func (r *Registry) RemoveTags(ctx context.Context, owner kiln.AccountID, name string, keys []string) error {
	_, err := r.change(ctx, "registry: remove tags", owner, name, func(f *Function) (*kiln.Version, error) {
		before := concurrencyTag(f.Tags)
		for _, key := range keys {
			delete(f.Tags, key)
		}
		r.declare(f, before)
		return nil, nil
	})
	return err
}

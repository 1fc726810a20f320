package engine

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"kiln"
)

// Snapshot is all documents of one bucket at one instant, in the order they were written: who refers to another was
// written after it. Nothing of it may be changed.
type Snapshot struct {
	Bucket    string
	Keys      []string
	Documents []Document // by the same index
}

// Snapshot gives the documents of all open buckets as they were at one instant. The values are shared with the local
// copies: a snapshot costs its keys.
func (e *Engine) Snapshot() []Snapshot {
	opened := e.opened()
	for _, d := range opened {
		d.mu.RLock()
		defer d.mu.RUnlock()
	}
	all := make([]Snapshot, 0, len(opened))
	for _, d := range opened {
		s := Snapshot{Bucket: d.bucket, Keys: slices.Clone(d.keys), Documents: make([]Document, 0, len(d.keys))}
		slices.SortFunc(s.Keys, func(a, b string) int { return cmp.Compare(d.copies[a].Revision, d.copies[b].Revision) })
		for _, key := range s.Keys {
			s.Documents = append(s.Documents, d.copies[key])
		}
		all = append(all, s)
	}
	return all
}

// Buckets lists the buckets there are in the store, open or not, sorted. Kinds: KindUnavailable.
func (e *Engine) Buckets(ctx context.Context) ([]string, error) {
	names := e.current().js.StreamNames(ctx)
	var all []string
	for name := range names.Name() {
		if bucket, ours := strings.CutPrefix(name, "KV_"); ours {
			all = append(all, bucket)
		}
	}
	if err := names.Err(); err != nil {
		return nil, kiln.Wrap(kiln.KindUnavailable, "engine: list buckets", "the store does not tell its buckets", err)
	}
	slices.Sort(all)
	return all, nil
}

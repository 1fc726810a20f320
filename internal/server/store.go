package server

import (
	"context"

	"kiln"
	"kiln/internal/engine"
)

// poolStore is the pools' part of the engine: what the operator turned and what was learned of days and weeks.
type poolStore struct{ docs *engine.Documents }

// openPoolStore opens the bucket it is in.
func openPoolStore(ctx context.Context, e *engine.Engine) (poolStore, error) {
	docs, err := e.Documents(ctx, "pools", nil)
	return poolStore{docs}, err
}

// Read is pool.Store's.
func (s poolStore) Read(key string) ([]byte, bool) {
	d, ok := s.docs.Get(key)
	return d.Value, ok
}

// Write is pool.Store's.
func (s poolStore) Write(ctx context.Context, key string, value []byte) (err error) {
	if d, ok := s.docs.Get(key); ok {
		_, err = s.docs.Update(ctx, key, value, d.Revision)
	} else {
		_, err = s.docs.Create(ctx, key, value)
	}
	if err != nil {
		return kiln.Wrap(kiln.KindOf(err), "server: keep pools", "What is kept of the pools could not be written.", err)
	}
	return nil
}

// Delete is pool.Store's.
func (s poolStore) Delete(ctx context.Context, key string) error {
	d, ok := s.docs.Get(key)
	if !ok {
		return nil
	}
	if err := s.docs.Delete(ctx, key, d.Revision); err != nil {
		return kiln.Wrap(kiln.KindOf(err), "server: forget pools", "What is kept of the pools could not be deleted.", err)
	}
	return nil
}

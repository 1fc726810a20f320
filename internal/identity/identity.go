// Package identity keeps accounts and their access keys, and tells whose a signed request is.
//
// It verifies AWS's Signature Version 4, as header and as query, over the very headers the client signed. It does not decide
// what a caller may do with which function (grants come later, beside the registry), and it does not read bodies from a
// connection. It is called by the frontend for every request and by the operations API to make accounts and keys.
//
// An Identity is safe for use by many goroutines. Keys are found in a local copy, without I/O; the copies are replaced by
// the engine's hook alone. One lock, mu, guards them; nothing is called with it held. Authenticate does not allocate for a
// request with a signature in its header, once the day's signing key is known.
package identity

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/big"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"kiln"
	"kiln/internal/engine"
)

// Bounds of what is kept.
const (
	// MaxAccounts bounds the accounts of a server.
	MaxAccounts = 10_000
	// MaxKeys bounds the access keys of one account.
	MaxKeys = 100
	// idTries bounds the tries to find an account's number that is not taken.
	idTries = 16
)

// Config tells identity what it needs from others.
type Config struct {
	// Services are the names of the services a signature may be for. "lambda", "kiln" and "sts" when nil.
	Services []string
	// Skew is how far a request's date may be from the clock; DefaultSkew when 0.
	Skew time.Duration
	// Now is the clock; time.Now when nil.
	Now func() time.Time
	// Random gives the bytes of new keys; crypto/rand's reader when nil. It must be as good.
	Random io.Reader
}

// Account is an owner of functions.
type Account struct {
	ID      kiln.AccountID `json:"id"`
	Created time.Time      `json:"created"`
}

// Key is an access key. The secret is kept as it is, since signatures cannot be verified without it; the engine's folder is
// closed to other users.
type Key struct {
	ID      string         `json:"id"`
	Secret  string         `json:"secret"`
	Account kiln.AccountID `json:"account"`
	// Operator is true for keys that may see and do everything.
	Operator bool      `json:"operator,omitempty"`
	Created  time.Time `json:"created"`
}

// Identity holds all accounts and keys.
type Identity struct {
	cfg  Config
	docs *engine.Documents
	pool sync.Pool // of *scratch

	mu          sync.RWMutex
	accounts    map[kiln.AccountID]Account // guarded by mu
	credentials map[string]*credential     // guarded by mu: by key id
}

// credential is a key, decoded, with the signing keys that were derived from it.
type credential struct {
	key     Key
	signing atomic.Pointer[[]signingKey] // replaced as a whole
}

// Open reads all accounts and keys. On the first start it makes the default account and its key, which is also the
// operator's. ctx bounds the opening only. Kinds: KindUnavailable, KindInternal.
func Open(ctx context.Context, e *engine.Engine, cfg Config) (*Identity, error) {
	if cfg.Services == nil {
		cfg.Services = []string{"lambda", "kiln", "sts"}
	}
	if cfg.Skew == 0 {
		cfg.Skew = DefaultSkew
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Random == nil {
		cfg.Random = rand.Reader
	}
	i := &Identity{cfg: cfg, accounts: map[kiln.AccountID]Account{}, credentials: map[string]*credential{}}
	i.pool.New = func() any { return new(scratch) }
	docs, err := e.Documents(ctx, "identity", i.apply)
	if err != nil {
		return nil, err
	}
	i.docs = docs
	return i, i.first(ctx)
}

// first makes what a first start makes, and what one that was cut short did not.
func (i *Identity) first(ctx context.Context) error {
	if _, ok := i.Account(kiln.DefaultAccount); !ok {
		if err := i.createAccount(ctx, kiln.DefaultAccount); err != nil {
			return err
		}
	}
	if _, ok := i.DefaultKey(); ok {
		return nil
	}
	_, err := i.createKey(ctx, kiln.DefaultAccount, true)
	return err
}

const (
	accountPrefix = "account/"
	keyPrefix     = "key/"
)

// apply is the engine's hook: it decodes a change once, for all readers. A document that cannot be read gives nobody access.
func (i *Identity) apply(c engine.Change) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if id, ok := strings.CutPrefix(c.Key, accountPrefix); ok {
		var a Account
		if c.Deleted || json.Unmarshal(c.Document.Value, &a) != nil {
			delete(i.accounts, kiln.AccountID(id))
			return
		}
		i.accounts[a.ID] = a
		return
	}
	var k Key
	if c.Deleted || json.Unmarshal(c.Document.Value, &k) != nil || k.Secret == "" {
		delete(i.credentials, strings.TrimPrefix(c.Key, keyPrefix))
		return
	}
	i.credentials[k.ID] = &credential{key: k}
}

// CreateAccount makes an account with a number of its own. Kinds: KindLimit, KindUnavailable.
func (i *Identity) CreateAccount(ctx context.Context) (kiln.AccountID, error) {
	const op = "identity: create account"
	if len(i.Accounts()) >= MaxAccounts {
		return "", kiln.Errorf(kiln.KindLimit, op, "a server has at most %d accounts", MaxAccounts)
	}
	for range idTries {
		n, err := rand.Int(i.cfg.Random, big.NewInt(1e12))
		if err != nil {
			return "", kiln.Wrap(kiln.KindInternal, op, "no random number", err)
		}
		id := kiln.AccountID(fmt.Sprintf("%012d", n))
		err = i.createAccount(ctx, id)
		if kiln.KindOf(err) != kiln.KindConflict {
			return id, err
		}
	}
	return "", kiln.Errorf(kiln.KindInternal, op, "no free account number in %d tries", idTries)
}

func (i *Identity) createAccount(ctx context.Context, id kiln.AccountID) error {
	value, err := json.Marshal(Account{ID: id, Created: i.cfg.Now().UTC()})
	if err != nil {
		return kiln.Wrap(kiln.KindInternal, "identity: create account", "the account cannot be written", err)
	}
	_, err = i.docs.Create(ctx, accountPrefix+string(id), value)
	return err
}

// CreateKey makes an access key for an account. Kinds: KindNotFound, KindLimit, KindUnavailable.
func (i *Identity) CreateKey(ctx context.Context, owner kiln.AccountID) (Key, error) {
	const op = "identity: create key"
	if _, ok := i.Account(owner); !ok {
		return Key{}, kiln.Errorf(kiln.KindNotFound, op, "there is no account %q", owner)
	}
	if len(i.Keys(owner)) >= MaxKeys {
		return Key{}, kiln.Errorf(kiln.KindLimit, op, "an account has at most %d keys", MaxKeys)
	}
	return i.createKey(ctx, owner, false)
}

// keyLetters are those of AWS's key ids: base 32.
const keyLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

func (i *Identity) createKey(ctx context.Context, owner kiln.AccountID, operator bool) (Key, error) {
	const op = "identity: create key"
	var random [16 + 30]byte
	if _, err := io.ReadFull(i.cfg.Random, random[:]); err != nil {
		return Key{}, kiln.Wrap(kiln.KindInternal, op, "no random bytes", err)
	}
	id := []byte("AKIA")
	for _, b := range random[:16] {
		id = append(id, keyLetters[b&31])
	}
	k := Key{ID: string(id), Secret: base64.StdEncoding.EncodeToString(random[16:]), Account: owner, Operator: operator,
		Created: i.cfg.Now().UTC()}
	value, err := json.Marshal(k)
	if err != nil {
		return Key{}, kiln.Wrap(kiln.KindInternal, op, "the key cannot be written", err)
	}
	if _, err := i.docs.Create(ctx, keyPrefix+k.ID, value); err != nil {
		return Key{}, err
	}
	return k, nil
}

// DeleteKey removes an access key: requests signed with it are refused from then on. The last operator's key stays. Kinds:
// KindNotFound, KindConflict, KindUnavailable.
func (i *Identity) DeleteKey(ctx context.Context, id string) error {
	const op = "identity: delete key"
	doc, ok := i.docs.Get(keyPrefix + id)
	if !ok {
		return kiln.Errorf(kiln.KindNotFound, op, "there is no key %q", id)
	}
	if k, ok := i.DefaultKey(); ok && k.ID == id {
		return kiln.Errorf(kiln.KindConflict, op, "the operator's own key cannot be deleted")
	}
	return i.docs.Delete(ctx, keyPrefix+id, doc.Revision)
}

// DefaultKey gives the key of the first start, which is also the operator's.
func (i *Identity) DefaultKey() (Key, bool) {
	for _, k := range i.Keys(kiln.DefaultAccount) {
		if k.Operator {
			return k, true
		}
	}
	return Key{}, false
}

// Account gives an account.
func (i *Identity) Account(id kiln.AccountID) (Account, bool) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	a, ok := i.accounts[id]
	return a, ok
}

// Accounts gives all accounts by number.
func (i *Identity) Accounts() []Account {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return slices.SortedFunc(maps.Values(i.accounts), func(a, b Account) int {
		return strings.Compare(string(a.ID), string(b.ID))
	})
}

// Keys gives an account's keys, the oldest first.
func (i *Identity) Keys(owner kiln.AccountID) []Key {
	i.mu.RLock()
	defer i.mu.RUnlock()
	var keys []Key
	for _, c := range i.credentials {
		if c.key.Account == owner {
			keys = append(keys, c.key)
		}
	}
	slices.SortFunc(keys, func(a, b Key) int {
		if n := a.Created.Compare(b.Created); n != 0 {
			return n
		}
		return strings.Compare(a.ID, b.ID)
	})
	return keys
}

// credential finds a key.
func (i *Identity) credential(id string) *credential {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.credentials[id]
}

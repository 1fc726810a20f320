package kiln

import (
	"encoding/json"
	"strings"
	"time"
)

// Version is one immutable combination of configuration and code: what a container runs. $LATEST is the version a
// function's head points to for now; each change of it makes a new one.
type Version struct {
	// Account and Function own the version; Number is "$LATEST" or a decimal number.
	Account  AccountID `json:"account"`
	Function string    `json:"function"`
	Number   string    `json:"number"`
	// Revision is new at every change of the code or of the configuration (AWS: RevisionId).
	Revision string `json:"revision"`

	Package       Digest `json:"package"`
	PackageBytes  int64  `json:"packageBytes"`
	Runtime       string `json:"runtime"` // AWS's identifier, e.g. "python3.12"
	Handler       string `json:"handler"`
	MemoryMiB     int    `json:"memoryMiB"`
	TimeoutMillis int64  `json:"timeoutMs"`
	DiskMiB       int    `json:"diskMiB"`
	Architecture  string `json:"architecture"` // "x86_64" or "arm64"
	Role          string `json:"role"`
	Description   string `json:"description,omitempty"`
	// Provider is the capacity provider, one of the account's, whose instances it runs on; empty for the operator's.
	Provider string `json:"provider,omitempty"`
	// Concurrency is how many executions at once one container of the version runs, as declared; 0 and 1 are one.
	Concurrency int `json:"concurrency,omitempty"`
	// Environment holds the variables the user set.
	Environment map[string]string `json:"environment,omitempty"`
	// Modified is when this version was made.
	Modified time.Time `json:"modified"`
	// Kept holds the members of AWS's configuration that Kiln keeps and returns but does not act on, by AWS's name.
	Kept map[string]json.RawMessage `json:"kept,omitempty"`
}

// ID names the version for good: two versions with the same ID hold the same configuration and code.
func (v *Version) ID() VersionID {
	return VersionID(string(v.Account) + "/" + v.Function + "/" + v.Number + "@" + v.Revision)
}

// Slots is how many executions at once one container of the version is given: what is declared, within MaxConcurrency.
func (v *Version) Slots() int { return min(max(v.Concurrency, 1), MaxConcurrency) }

// StartsFresh reports whether the version needs a container started for it alone: variables of its own act only when a
// process starts, and a prepared interpreter has started. What a compiled package brings is started at binding anyway.
func (v *Version) StartsFresh() bool {
	if strings.HasPrefix(v.Runtime, "provided") {
		return false
	}
	for name := range v.Environment {
		switch {
		case strings.HasPrefix(name, "LD_"), strings.HasPrefix(name, "PYTHON"), strings.HasPrefix(name, "MALLOC_"),
			strings.HasPrefix(name, "LC_"), name == "LANG", name == "NODE_OPTIONS", name == "NODE_EXTRA_CA_CERTS",
			strings.HasPrefix(name, "UV_"), name == "GLIBC_TUNABLES", name == "OPENSSL_CONF", name == "SSL_CERT_FILE":
			return true
		}
	}
	return false
}

// Timeout is the most one execution may take.
func (v *Version) Timeout() time.Duration { return time.Duration(v.TimeoutMillis) * time.Millisecond }

package registry

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"kiln"
)

// State says whether a version can run, in AWS's words.
type State string

// The states of a version.
const (
	StatePending State = "Pending"
	StateActive  State = "Active"
	StateFailed  State = "Failed"
	// StateNonInvocable is $LATEST's of a function on a capacity provider: what is published is invoked.
	StateNonInvocable State = "ActiveNonInvocable"
	// StateDeactivated is a version's on a capacity provider that may have no container.
	StateDeactivated State = "Deactivated"
)

// UpdateState says how the last change of $LATEST went, in AWS's words.
type UpdateState string

// The states of an update.
const (
	UpdateInProgress UpdateState = "InProgress"
	UpdateSuccessful UpdateState = "Successful"
	UpdateFailed     UpdateState = "Failed"
)

// Status is where a version stands. Reasons and their codes are AWS's; they are empty when all is well.
type Status struct {
	State                State       `json:"state"`
	StateReason          string      `json:"stateReason,omitempty"`
	StateReasonCode      string      `json:"stateReasonCode,omitempty"`
	LastUpdate           UpdateState `json:"lastUpdate,omitempty"`
	LastUpdateReason     string      `json:"lastUpdateReason,omitempty"`
	LastUpdateReasonCode string      `json:"lastUpdateReasonCode,omitempty"`
}

// Function is the head document: everything about a function but its published versions' contents.
type Function struct {
	Account kiln.AccountID `json:"account"`
	Name    string         `json:"name"`
	// Latest is what $LATEST runs.
	Latest *kiln.Version `json:"latest"`
	// Next is an update of $LATEST whose package is not verified yet; nil otherwise. Until it is, Latest runs.
	Next *kiln.Version `json:"next,omitempty"`
	Status
	Tags    map[string]string `json:"tags,omitempty"`
	Aliases map[string]*Alias `json:"aliases,omitempty"`
	// Versions lists the published versions by rising number.
	Versions []Published `json:"versions,omitempty"`
	// Reserved is how many executions at once are kept for the function, and the most it may have; nil without.
	Reserved *int `json:"reserved,omitempty"`
	// Provisioned is by qualifier: an alias's name or a published version's number.
	Provisioned map[string]*Provisioned `json:"provisioned,omitempty"`
	// Policies and URLs are by qualifier: the function's own under the empty one, else an alias's or, of policies, a version's.
	Policies map[string]*Policy `json:"policies,omitempty"`
	URLs     map[string]*URL    `json:"urls,omitempty"`
	// Scaling bounds the containers of published versions on a capacity provider, by number.
	Scaling map[string]*Scaling `json:"scaling,omitempty"`
	// LatestPublished is $LATEST.PUBLISHED, of a function on a capacity provider; nil before anything was published to it.
	LatestPublished *LatestPublished `json:"latestPublished,omitempty"`
	// LastNumber is the greatest number ever given to a version of this function; numbers are not used again.
	LastNumber int `json:"lastNumber,omitempty"`
}

// Published is a version as its function lists it. The version itself is a document of its own.
type Published struct {
	Number   int         `json:"number"`
	Revision string      `json:"revision"` // with the function's name, the document's key
	Package  kiln.Digest `json:"package"`
	// Content is the digest of the configuration and code it was published from: the same again makes no new version.
	Content     string `json:"content"`
	State       State  `json:"state"`
	StateReason string `json:"stateReason,omitempty"`
}

// Configuration is one version as its owner sees it.
type Configuration struct {
	Version *kiln.Version
	Status
}

// current gives $LATEST as its owner sees it: an update under way included.
func (f *Function) current() *kiln.Version {
	if f.Next != nil {
		return f.Next
	}
	return f.Latest
}

// configuration gives $LATEST as its owner sees it.
func (f *Function) configuration() Configuration {
	c := Configuration{f.current(), f.Status}
	c.State = f.latestState()
	return c
}

// latestState gives $LATEST's state.
func (f *Function) latestState() State {
	if f.State == StateActive && f.Latest.Provider != "" {
		return StateNonInvocable
	}
	return f.State
}

// unsettled reports whether the function waits for its package to be verified.
func (f *Function) unsettled() bool { return f.State == StatePending || f.Next != nil }

// lists reports whether a version of this revision is published.
func (f *Function) lists(revision string) bool {
	return slices.ContainsFunc(f.Versions, func(p Published) bool { return p.Revision == revision })
}

// find gives the index of a published version by its number in decimals, -1 when there is none.
func (f *Function) find(number string) int {
	return slices.IndexFunc(f.Versions, func(p Published) bool { return decimal(p.Number) == number })
}

// CodeSHA256 gives a digest as AWS's API shows it: base64 of the SHA-256. Empty for what is no digest.
func CodeSHA256(digest kiln.Digest) string {
	sum, err := hex.DecodeString(string(digest))
	if err != nil {
		return ""
	}
	return base64.StdEncoding.EncodeToString(sum)
}

// content is the digest of all that makes a version differ from another, which its number, revision and date do not.
func content(v *kiln.Version) string {
	c := *v
	c.Number, c.Revision, c.Modified = "", "", time.Time{}
	b, err := json.Marshal(&c) // maps are written in the order of their keys
	if err != nil {
		panic("registry: a version cannot be written as JSON: " + err.Error())
	}
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// copyVersion gives a version that may be changed without changing the other.
func copyVersion(v *kiln.Version) *kiln.Version {
	c := *v
	c.Environment = maps.Clone(v.Environment)
	c.Kept = maps.Clone(v.Kept)
	return &c
}

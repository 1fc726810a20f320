// Package kiln holds the words of Kiln: the identifiers, states, amounts, records, events and errors that every
// other package speaks. One word stands for one thing, in the code, the API, the command line, the logs and the
// documentation.
//
// It is not a place for behaviour: nothing here does I/O, keeps time, starts goroutines or decides. It imports the
// standard library only, and everything imports it. Values are plain data and safe to share once they are no longer
// written.
package kiln

import "time"

// Identifiers. All are opaque to everyone but their maker; they are compared, shown and used as keys.
type (
	// AccountID is the owner of functions and instances, the trust boundary: twelve decimal digits, as AWS's.
	AccountID string
	// NodeID names one machine that runs Kiln.
	NodeID string
	// InstanceID names a virtual machine instance: "i-" and 16 hexadecimal digits. Never used twice.
	InstanceID string
	// ContainerID names a container inside an instance: "c-" and 16 hexadecimal digits. Never used twice.
	ContainerID string
	// RequestID names one request and its execution: a UUID in lower case.
	RequestID string
	// Digest addresses a package: the SHA-256 of its zip in 64 lower-case hexadecimal digits.
	Digest string
	// VersionID names one immutable combination of configuration and code: see Version.ID.
	VersionID string
)

// Defaults and fixed words that more than one room needs.
const (
	// DefaultAccount is the account made by the first start; its first key is also the operator's.
	DefaultAccount AccountID = "000000000000"
	// DefaultRegion is the region ARNs carry unless configured otherwise.
	DefaultRegion = "us-east-1"
	// Latest is the qualifier of a function's unpublished version.
	Latest = "$LATEST"
	// LatestPublished is the qualifier of what a function on a capacity provider published last to it.
	LatestPublished = "$LATEST.PUBLISHED"
	// FleetLowVolume is where code runs that is rarely called, and where new code starts.
	FleetLowVolume = "low-volume"
	// FleetHighVolume is where frequently called code runs.
	FleetHighVolume = "high-volume"
)

// Limits of AWS Lambda that more than one room holds to. Source: AWS Lambda quotas, mid 2026.
const (
	// MaxPayloadBytes bounds a synchronous request's event and its answer: 6 MiB and 100 bytes.
	MaxPayloadBytes = 6*1024*1024 + 100
	// MaxPackageZipBytes bounds a directly uploaded package (50 MB as AWS counts it).
	MaxPackageZipBytes = 50 * 1024 * 1024
	// MaxPackageUnpackedBytes bounds a package once unpacked (250 MB as AWS counts it).
	MaxPackageUnpackedBytes = 250 * 1024 * 1024
	// MinMemoryMiB and MaxMemoryMiB bound a function's memory.
	MinMemoryMiB = 128
	MaxMemoryMiB = 10240
	// MaxConcurrency bounds the executions at once in one container. AWS's own bound on what may be declared is 1,600 for
	// its larger environments; what is declared beyond this one is served in more containers.
	MaxConcurrency = 64
	// InitLimit bounds a function's own initialisation.
	InitLimit = 10 * time.Second
)

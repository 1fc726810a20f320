package kiln

import (
	"errors"
	"fmt"
)

// Kind sorts errors by what the caller can do about them. One table in frontend maps kinds to AWS's names and statuses.
type Kind uint8

// The kinds of error.
const (
	// KindInternal: our fault. The caller may try again.
	KindInternal Kind = iota
	// KindInvalid: a value of the request is wrong.
	KindInvalid
	// KindMalformed: the request's body cannot be read at all (AWS: InvalidRequestContentException).
	KindMalformed
	// KindNotFound: no such thing in this account.
	KindNotFound
	// KindConflict: the thing exists already, or is in a state that forbids the call.
	KindConflict
	// KindPrecondition: the revision the caller named is not the current one.
	KindPrecondition
	// KindDenied: the caller may not do this.
	KindDenied
	// KindUnauthenticated: the caller is not who it says, or does not say.
	KindUnauthenticated
	// KindThrottled: a limit of concurrency or of capacity is reached; try again later. Reason tells which.
	KindThrottled
	// KindTooLarge: a body is over its bound.
	KindTooLarge
	// KindUnsupported: understood, and not served here.
	KindUnsupported
	// KindUnavailable: something needed is out of reach for now (disk full, server ending).
	KindUnavailable
	// KindCorrupt: stored bytes are not what their digest says.
	KindCorrupt
	// KindLimit: a stored quantity is at its quota (code storage, versions, aliases).
	KindLimit
)

var kindNames = [...]string{"internal", "invalid", "malformed", "not-found", "conflict", "precondition", "denied",
	"unauthenticated", "throttled", "too-large", "unsupported", "unavailable", "corrupt", "limit"}

// String gives the kind's word.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("invalid(%d)", k)
}

// Error is the one error type of Kiln. A failing function is a result, not an error.
type Error struct {
	Kind Kind
	// Op is the operation that failed, "package: verb object", for the operator.
	Op string
	// Message is for the caller: what is wrong and what to do.
	Message string
	// Reason is AWS's own code where the kind alone does not tell it, e.g. "ReservedFunctionConcurrentInvocationLimitExceeded".
	Reason string
	// Cause is for the operator and the log; never shown to a caller.
	Cause error
}

// Error gives operation, message and cause, for the log.
func (e *Error) Error() string {
	s := e.Op + ": " + e.Message
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Errorf makes an error with a message for the caller and no cause.
func Errorf(kind Kind, op, format string, args ...any) *Error {
	return &Error{Kind: kind, Op: op, Message: fmt.Sprintf(format, args...)}
}

// Wrap makes an error of a kind from a cause. The message is for the caller, the cause for the operator.
func Wrap(kind Kind, op, message string, cause error) *Error {
	return &Error{Kind: kind, Op: op, Message: message, Cause: cause}
}

// KindOf gives an error's kind: KindInternal for one that is not ours.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return KindInternal
}

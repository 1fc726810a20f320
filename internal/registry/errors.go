package registry

import (
	"strconv"

	"kiln"
)

// decimal writes a version's number.
func decimal(n int) string { return strconv.Itoa(n) }

// The messages are AWS's own, which clients and their users know.

func (r *Registry) notFound(op string, owner kiln.AccountID, name, qualifier string) error {
	return kiln.Errorf(kiln.KindNotFound, op, "Function not found: %s", kiln.FunctionARN(r.cfg.Region, owner, name, qualifier))
}

func (r *Registry) aliasNotFound(op string, owner kiln.AccountID, name, alias string) error {
	return kiln.Errorf(kiln.KindNotFound, op, "Cannot find alias arn: %s", kiln.FunctionARN(r.cfg.Region, owner, name, alias))
}

func inState(op string, s State) error {
	return kiln.Errorf(kiln.KindConflict, op,
		"The operation cannot be performed at this time. The function is currently in the following state: %s", s)
}

func (r *Registry) busy(op string, f *Function) error {
	if f.State == StatePending {
		return inState(op, f.State)
	}
	return kiln.Errorf(kiln.KindConflict, op,
		"The operation cannot be performed at this time. An update is in progress for resource: %s",
		kiln.FunctionARN(r.cfg.Region, f.Account, f.Name, ""))
}

func staleRevision(op string) error {
	return kiln.Errorf(kiln.KindPrecondition, op, "The Revision Id provided does not match the latest Revision Id. "+
		"Call the GetFunction/GetAlias API to retrieve the latest Revision Id")
}

func invalid(op, format string, args ...any) error {
	return kiln.Errorf(kiln.KindInvalid, op, format, args...)
}

// limit is a quota reached. The reason is AWS's code for it.
func limit(op, reason, format string, args ...any) error {
	e := kiln.Errorf(kiln.KindLimit, op, format, args...)
	e.Reason = reason
	return e
}

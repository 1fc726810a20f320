package registry

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"kiln"
	"kiln/internal/fleet"
	"kiln/internal/promise"
)

// reserved reports whether a variable is one the runtime sets itself (AWS's list).
func reserved(key string) bool {
	switch key {
	case "_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV",
		"AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION",
		"AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_MAX_CONCURRENCY", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME",
		"AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API",
		"LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR":
		return true
	}
	return false
}

// check refuses a version that AWS would refuse for what the wire's own constraints cannot tell. more is what it adds to
// the account's code, in bytes.
func (r *Registry) check(op string, v *kiln.Version, more int64) error {
	const cannot = "Lambda was unable to configure your environment variables because the environment variables you have provided "
	var taken []string
	for key := range v.Environment {
		if reserved(key) {
			taken = append(taken, key)
		}
	}
	if len(taken) > 0 {
		slices.Sort(taken)
		return invalid(op, cannot+"contains reserved keys that are currently not supported for modification. "+
			"Reserved keys used in this request: %s", strings.Join(taken, ", "))
	}
	measured, err := json.Marshal(v.Environment)
	if err != nil {
		return kiln.Wrap(kiln.KindInvalid, op, "the variables cannot be written as JSON", err)
	}
	if len(measured) > MaxEnvironmentBytes {
		return invalid(op, cannot+"exceeded the 4KB limit.")
	}
	return r.checkStorage(op, v.Account, more)
}

// checkStorage refuses more code than an account may keep. Calls at once may exceed the bound by what they bring.
func (r *Registry) checkStorage(op string, owner kiln.AccountID, more int64) error {
	if more > 0 && r.Usage(owner).CodeBytes+more > MaxCodeBytes {
		return limit(op, "CodeStorageExceededException", "Code storage limit exceeded.")
	}
	return nil
}

// checkTags refuses too many tags, and those with a meaning here that cannot be read.
func checkTags(op string, tags map[string]string) error {
	if len(tags) > MaxTags {
		return invalid(op, "A function has at most %d tags.", MaxTags)
	}
	if _, there := tags[TagConcurrency]; there && concurrencyTag(tags) == 0 {
		return invalid(op, "The tag %s must be a whole number from 1 to %d: the executions at once in one container.", TagConcurrency, kiln.MaxConcurrency)
	}
	if name, tagged := tags[TagFleet]; tagged {
		if _, known := fleet.Pinned(name); !known {
			return invalid(op, "The tag %s is %q; it must be %s or %s, or be left out for the fleet to follow how often the function is called.",
				TagFleet, name, fleet.Low, fleet.High)
		}
	}
	return new(promise.Settings).Read(tags[promise.ScheduleTag], tags[promise.TargetTag])
}

// concurrencyTag is the number a function's tag declares; 0 without one, or with one that says nothing.
func concurrencyTag(tags map[string]string) int {
	n, err := strconv.Atoi(tags[TagConcurrency])
	if err != nil || n < 1 || n > kiln.MaxConcurrency {
		return 0
	}
	return n
}

// declare has $LATEST declare what its function's tag does now, when that has changed: in a revision of its own, so that
// containers made before are not given what they cannot run. Published versions stay as they are. Of a function on a capacity
// provider its configuration there says it, and the tag nothing.
func (r *Registry) declare(f *Function, before int) {
	n := concurrencyTag(f.Tags)
	if n == before {
		return
	}
	for _, v := range []**kiln.Version{&f.Latest, &f.Next} {
		if *v != nil && (*v).Provider == "" {
			*v = copyVersion(*v)
			(*v).Concurrency = n
			r.stamp(*v)
		}
	}
}

// TagFleet is the tag that pins a function to a fleet.
const TagFleet = "kiln:fleet"

// pin is what a function's owner says about its fleet: by its capacity provider, if it names one, or by a tag.
func (f *Function) pin() fleet.Pin {
	if f.current().Provider != "" {
		return fleet.PinProvider
	}
	pin, _ := fleet.Pinned(f.Tags[TagFleet]) // what names no fleet was refused when it was set
	return pin
}

// Pin gives what a function's owner says about its fleet; false when there is no such function.
func (r *Registry) Pin(owner kiln.AccountID, name string) (fleet.Pin, bool) {
	if e := r.entry(owner, name); e != nil {
		return e.pin, true
	}
	return fleet.Free, false
}

// aliasesOf gives the names of the aliases that may resolve to a version, sorted.
func (f *Function) aliasesOf(number string) []string {
	var names []string
	for name, a := range f.Aliases {
		if a.pointsTo(number) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

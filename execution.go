package kiln

import (
	"fmt"
	"strconv"
	"time"
)

// Outcome says how an execution ended.
type Outcome string

// The outcomes. Everything but success and throttled is a failed execution; the caller still gets an answer.
const (
	OutcomeSuccess   Outcome = "success"
	OutcomeError     Outcome = "error"     // the function reported an error
	OutcomeTimeout   Outcome = "timeout"   // the function's time limit ended it
	OutcomeCrash     Outcome = "crash"     // the process ended, or closed its connection
	OutcomeMemory    Outcome = "memory"    // the kernel ended it for want of memory
	OutcomeInit      Outcome = "init"      // the function's own initialisation failed
	OutcomeThrottled Outcome = "throttled" // no capacity within the bound; no code ran
	OutcomeFailed    Outcome = "failed"    // Kiln failed; no code may have run
)

// Trigger says what made a request.
type Trigger string

// The triggers.
const (
	TriggerInvoke Trigger = "invoke" // the Lambda API's Invoke
	TriggerRun    Trigger = "run"    // a request that carried its own code
	TriggerURL    Trigger = "url"    // an HTTP request through a function's URL
)

// Time is an instant as Kiln shows it: RFC 3339 in UTC with microseconds; the zero time is JSON null.
type Time struct{ time.Time }

const timeLayout = "2006-01-02T15:04:05.000000Z"

// MarshalJSON gives the instant in UTC with microseconds, or null.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return t.UTC().AppendFormat(nil, `"`+timeLayout+`"`), nil
}

// UnmarshalJSON reads what MarshalJSON gives.
func (t *Time) UnmarshalJSON(b []byte) error {
	s := string(b)
	if s == "null" {
		*t = Time{}
		return nil
	}
	q, err := strconv.Unquote(s)
	if err != nil {
		return fmt.Errorf("time: %w", err)
	}
	u, err := time.Parse(time.RFC3339Nano, q)
	if err != nil {
		return fmt.Errorf("time: %w", err)
	}
	t.Time = u
	return nil
}

// Millis is a duration as Kiln shows it: milliseconds with three decimals.
type Millis time.Duration

// MarshalJSON gives milliseconds with three decimals.
func (m Millis) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(m)/1e6, 'f', 3, 64), nil
}

// UnmarshalJSON reads milliseconds.
func (m *Millis) UnmarshalJSON(b []byte) error {
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return fmt.Errorf("duration: %w", err)
	}
	*m = Millis(f * 1e6)
	return nil
}

// Record is the one record each execution leaves.
type Record struct {
	RequestID       RequestID    `json:"requestId"`
	Account         AccountID    `json:"account"`
	Function        string       `json:"function"` // empty for code that was never registered
	VersionAsked    string       `json:"versionAsked"`
	VersionExecuted string       `json:"versionExecuted"`
	Trigger         Trigger      `json:"trigger"`
	Fleet           string       `json:"fleet"`
	Node            NodeID       `json:"node"`
	Instance        InstanceID   `json:"instance"`
	Container       ContainerID  `json:"container"`
	Driver          string       `json:"driver"`
	RuntimeAsked    string       `json:"runtimeAsked"`
	RuntimeUsed     string       `json:"runtimeUsed"`
	Path            Path         `json:"path"`
	Outcome         Outcome      `json:"outcome"`
	ErrorType       string       `json:"errorType,omitempty"`
	ErrorMessage    string       `json:"errorMessage,omitempty"`
	Memory          MemoryRecord `json:"memory"`
	Times           Times        `json:"times"`
	// InitMs is the function's own initialisation, when this execution waited for it.
	InitMs Millis `json:"initMs,omitzero"`
	// DurationMs is code start to code end; BilledMs the same rounded up to whole milliseconds, with InitMs.
	DurationMs Millis `json:"durationMs"`
	BilledMs   Millis `json:"billedMs"`
	CPUMs      Millis `json:"cpuMs"`
	// ThrottledMs is time the processor limit held the container back.
	ThrottledMs   Millis `json:"throttledMs"`
	RequestBytes  int    `json:"requestBytes"`
	ResponseBytes int    `json:"responseBytes"`
	// Choice says why that place was chosen.
	Choice Choice `json:"choice"`
}

// MemoryRecord is the memory of one execution.
type MemoryRecord struct {
	AskedMiB     int   `json:"asked"`     // MiB the request or the registration asked for
	AllocatedMiB int   `json:"allocated"` // MiB the container had
	UsedBytes    int64 `json:"used"`      // bytes at the container's greatest
}

// Times are an execution's instants. Each is zero when that point was never reached.
type Times struct {
	Received  Time `json:"received"`  // the request's last byte was read
	Resolved  Time `json:"resolved"`  // its function was found and the request counted to its usage; no two of a function's are equal
	Admitted  Time `json:"admitted"`  // authenticated, resolved, within its limits
	Acquired  Time `json:"acquired"`  // a container is held
	CodeStart Time `json:"codeStart"` // the event was handed to the code
	CodeEnd   Time `json:"codeEnd"`   // the code's answer was read
	Answered  Time `json:"answered"`  // the answer was handed to the caller
}

// Choice is one reason for the place chosen and, for each rung of the ladder that was passed, why it was.
type Choice struct {
	// Reason is a constant phrase, e.g. "idle container holds the version".
	Reason string `json:"reason"`
	// Passed counts, per rung in the order of Paths, the candidates that were looked at and could not serve.
	Passed [len(Paths)]int32 `json:"passed"`
	// Waited is how long the request stood in line, zero when it did not.
	Waited Millis `json:"waitedMs,omitzero"`
}

// EventKind names what happened to an instance, a container or a package.
type EventKind string

// The kinds of pool event. Pool sizes can be rebuilt from them.
const (
	EventInstanceCreate     EventKind = "instance.create"
	EventInstanceWarm       EventKind = "instance.warm"
	EventInstanceAssign     EventKind = "instance.assign"
	EventInstanceDrain      EventKind = "instance.drain"
	EventInstanceTerminate  EventKind = "instance.terminate"
	EventInstanceFail       EventKind = "instance.fail"
	EventContainerCreate    EventKind = "container.create"
	EventContainerBind      EventKind = "container.bind"
	EventContainerTerminate EventKind = "container.terminate"
	EventContainerFail      EventKind = "container.fail"
	EventCodeFetch          EventKind = "code.fetch"
	EventCodeAttach         EventKind = "code.attach"
	EventCodeDetach         EventKind = "code.detach"
	// EventFleetChange: another fleet serves a function from now on; the cause has how often it was asked for.
	EventFleetChange EventKind = "fleet.change"
	// EventStartBreach: an execution's code started later than the bound of its acquisition path; the cause has the stages.
	EventStartBreach EventKind = "start.breach"
)

// Event is one thing that happened to capacity, with its cause.
type Event struct {
	// ID grows by one with each event of a node; it orders them.
	ID        uint64      `json:"id"`
	Time      Time        `json:"time"`
	Kind      EventKind   `json:"kind"`
	Cause     string      `json:"cause"`
	RequestID RequestID   `json:"requestId,omitempty"`
	Account   AccountID   `json:"account,omitempty"`
	Function  string      `json:"function,omitempty"`
	Version   string      `json:"version,omitempty"`
	Package   Digest      `json:"package,omitempty"`
	Node      NodeID      `json:"node,omitempty"`
	Instance  InstanceID  `json:"instance,omitempty"`
	Container ContainerID `json:"container,omitempty"`
}

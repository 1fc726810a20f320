package kiln

import "time"

// The values a driver is given and gives back. The driver interface itself is package node's.

// InstanceSpec asks a driver for an instance.
type InstanceSpec struct {
	ID            InstanceID
	BootID        string // a UUID without dashes; the guest's /etc/machine-id
	Configuration Configuration
	// Allowance is memory beyond the shape, for prepared containers and the boundary itself, in MiB.
	AllowanceMiB int
}

// RuntimeKind tells how a prepared container of a runtime is told its version.
type RuntimeKind uint8

// The kinds of runtime.
const (
	// RuntimeManaged starts with our bootstrap, which asks for its binding over the Runtime API link
	// (GET /kiln/binding) and blocks until there is one.
	RuntimeManaged RuntimeKind = iota + 1
	// RuntimeProvided starts as a shell that reads its binding as a script on standard input and becomes the package's
	// own bootstrap by exec.
	RuntimeProvided
)

// Runtime is one language runtime found on this node, ready to be started in a container.
type Runtime struct {
	Name string // the interpreter's own name: "python3.11", "nodejs20", "provided"
	Kind RuntimeKind
	// Command starts the prepared process inside the container.
	Command []string
	// Environment is what the process starts with, before it has a version.
	Environment map[string]string
	// Copies is true when a process of it that waits for its binding may be copied: what must differ between two copies, above
	// all what their random numbers are drawn from, is made anew at the binding or later.
	Copies bool
	// BootstrapDir is the node's folder with our bootstraps, seen read-only at /var/runtime inside the container.
	BootstrapDir string
}

// ContainerSpec asks a driver for a container inside an instance.
type ContainerSpec struct {
	ID       ContainerID
	Instance InstanceID
	Runtime  Runtime
	// Fresh, when not nil, starts the container for this binding alone: variables that act only when a process starts
	// are set from the beginning. Such a container is never prepared; BindContainer with the same binding follows.
	Fresh *Binding
}

// Binding tells a prepared container which version it is.
type Binding struct {
	Version *Version
	Amounts Amounts
	// Environment is everything the function sees, AWS's own variables and the user's, complete but for
	// AWS_LAMBDA_RUNTIME_API, which the driver knows.
	Environment map[string]string
	// CodeDir is the node's read-only folder with the unpacked package, seen at /var/task.
	CodeDir string
	// InitLimit bounds the function's own initialisation.
	InitLimit time.Duration
}

// InitResult says how the function's own initialisation ended. A failing one is a result, not an error.
type InitResult struct {
	Duration time.Duration
	// Failure is nil when the container is idle and can execute. Otherwise it has ended or must be deleted.
	Failure *Failure
}

// Failure is a failed execution or initialisation, as its caller sees it.
type Failure struct {
	Outcome Outcome
	// Type is AWS's error type, e.g. "Runtime.ExitError", or the function's own.
	Type string
	// Payload is the answer's body: JSON with errorType and errorMessage unless the function gave another.
	Payload []byte
}

// Delivery is one event for a container to execute.
type Delivery struct {
	RequestID     RequestID
	Payload       []byte
	Deadline      time.Time
	ARN           string // as the caller named it, with qualifier
	TraceID       string
	ClientContext string // JSON, as the caller gave it after base64
}

// Answer is what a container made of a delivery.
type Answer struct {
	// Payload is the code's answer, or the failure's body.
	Payload []byte
	// Failure is nil when the code answered.
	Failure *Failure
	// Usage is the container's, read after the answer; Before is what it was when it became idle, so that the difference
	// is this execution's.
	Usage, Before Usage
	// Start and End are when the event was handed over and when the answer was read. Zero when it never was.
	Start, End time.Time
	// Lost is true when the container can execute nothing more and must be deleted.
	Lost bool
	// Undelivered is true when the event was certainly never handed to the code: another container may have it.
	Undelivered bool
}

// Exit tells that a container or a whole instance ended without being asked to.
type Exit struct {
	Instance  InstanceID
	Container ContainerID // empty when the whole instance is gone
	Status    string      // "exit status 1", "signal: killed"
	Memory    bool        // by the kernel, for want of memory
}

// Capabilities is what a driver can do on this machine.
type Capabilities struct {
	// Name is the driver's word.
	Name string
	// Isolated is true when code of different accounts may run side by side.
	Isolated bool
	// Limits is true when memory, processor and process limits are enforced.
	Limits bool
	// Resize is true when a running container's amounts can change.
	Resize bool
	// Pause is true when a container can be stopped between its executions, so that nothing in it runs.
	Pause bool
	// Notes are sentences for the operator: what is weaker here than elsewhere, and why.
	Notes []string
}

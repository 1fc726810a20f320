package manager

import (
	"time"

	"kiln"
	"kiln/internal/capacity"
)

// EventKind says what happened.
type EventKind uint8

// The events. Beside each, the fields of Event that are read.
const (
	Requested  EventKind = iota + 1 // Request
	Cancelled                       // Request: its caller no longer waits
	Ended                           // Container, RequestID, Lost, Unused: an execution is over
	Booted                          // Instance, BootID, Err
	Prepared                        // Container, PID, Err
	Bound                           // Container, Init, Err
	Paused                          // Container, Pauses, Err
	Deleted                         // Instance or Container: nothing of it is left
	NotDeleted                      // Instance or Container, Err: something of it may be left
	Detached                        // Instance, Package: it left the code cache
	Exited                          // Instance, Container, Cause: it ended by itself
	Asked                           // Instance or Container, Cause: the operator wants it deleted
	Drain                           // Instance, Cause: take no new work, end when idle
	Forget                          // Version: it will not be asked for again
	Promised                        // Request (its first part), Count: so many containers are provisioned for its version
	Recalled                        // Request (its first part), At: there was such a request before
	Expected                        // Request (its first part), At: until then such requests are about to come
	Moved                           // Account, Function: another fleet serves it from now on
	Changed                         // Settings
	Elsewhere                       // Elsewhere: what other managers of the machine serve
	Tick                            // a time asked for with Wake has come
	Refusing                        // Cause: take no new requests, told why, and boot nothing for the pools
	Halted                          // Cause: the same until Resumed, and those that wait are refused
	Resumed                         // go on after Halted
	Stopped                         // delete everything
)

// Event is one thing that happened.
type Event struct {
	Kind      EventKind
	Request   *Request
	RequestID kiln.RequestID
	Instance  kiln.InstanceID
	Container kiln.ContainerID
	Lost      bool // the container can execute nothing more
	Unused    bool // nothing was executed: its time tells nothing
	Init      kiln.InitResult
	Err       error
	PID       int
	BootID    string
	Cause     string
	Package   kiln.Digest
	Version   kiln.VersionID
	Account   kiln.AccountID
	Function  string
	Settings  *Settings
	Elsewhere []capacity.Elsewhere
	Pauses    uint64
	Count     int
	At        time.Time
}

// ActionKind says what is to be done.
type ActionKind uint8

// The actions. Those that take time are answered by the event named beside them, whatever comes of them.
const (
	Boot            ActionKind = iota + 1 // Instance, Configuration, AllowanceMiB, Urgent → Booted
	Prepare                               // Container, Instance, Configuration, Urgent; Version, Amounts with Fresh → Prepared
	Bind                                  // Container, Instance, Configuration, Version, Amounts, RequestID, Cause, Provisioned → Bound
	Hasten                                // Instance or Container: a request waits for it now
	Pause                                 // Container, Pauses → Paused
	DeleteContainer                       // Container → Deleted or NotDeleted
	DeleteInstance                        // Instance → Deleted or NotDeleted
	Deliver                               // Request: its answer's fields are set
	Refuse                                // Request: its Err is set
	Tell                                  // Event
	Wake                                  // At: send a Tick then, instead of any earlier wish
)

// Action is one thing to be done. It is valid until the next Step.
type Action struct {
	Kind          ActionKind
	Urgent        bool
	Fresh         bool
	Request       *Request
	RequestID     kiln.RequestID
	Cause         string
	Instance      kiln.InstanceID
	Container     kiln.ContainerID
	Configuration kiln.Configuration
	Version       *kiln.Version
	Amounts       kiln.Amounts
	AllowanceMiB  int
	At            time.Time
	Event         kiln.Event
	Pauses        uint64 // which of the container's pauses, from 1
	Provisioned   bool
}

// Request is one request for a container. The shell makes it and fills the first part; the manager fills the second
// before Deliver or Refuse, and then knows it no more.
type Request struct {
	ID        kiln.RequestID
	Version   *kiln.Version
	MemoryMiB int
	Driver    string
	Runtime   string // the interpreter's own name
	Fresh     bool
	// Holder is the shell's own record of the request.
	Holder any

	Container     kiln.ContainerID
	Instance      kiln.InstanceID
	Configuration kiln.Configuration
	Path          kiln.Path
	Choice        kiln.Choice
	Amounts       kiln.Amounts
	// Init is set when the request waited for it. With a Failure the container is being deleted already.
	Init kiln.InitResult
	// Resume, unless 0, is the pause of the container that is to be taken back before it can execute.
	Resume uint64
	// Provisioned is true when the container was promised.
	Provisioned bool
	Err         error

	group    *group // while it waits
	previous *Request
	next     *Request
	since    time.Time
	deadline time.Time
	// blocked: nothing of its version was executing when it came, so that it waited for a start first.
	blocked bool
}

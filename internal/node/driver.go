package node

import (
	"context"

	"kiln"
)

// Driver makes instances and containers: the boundary the code runs behind. Implementations are below this package and
// do not import it; drivertest is the suite each passes.
//
// A driver is told two functions when it is made: Exited, called once for a container or an instance that ended without
// being asked to, and Output, called with what a bound container wrote to its standard output and error. Neither may
// block for long; neither is called with a lock of the driver held.
//
// All methods may be called at once from many goroutines, for different ids; for one container they are called one at a
// time, Execute as many at once as its version declares (kiln.Version.Slots), but DeleteContainer and DeleteInstance may come at any moment and make the others end. Errors are *kiln.Error.
type Driver interface {
	// Capabilities says what this driver can do here. Does not block.
	Capabilities() kiln.Capabilities

	// CreateInstance boots an instance; when it returns, containers can be made in it. Blocks for the boot. On an error
	// nothing is left. Kinds: KindUnavailable (the machine is out of something), KindInternal.
	CreateInstance(ctx context.Context, spec kiln.InstanceSpec) error

	// DeleteInstance ends an instance with all its containers and leaves nothing of it. Blocks until it is gone. May be
	// repeated; an unknown id is no error.
	DeleteInstance(ctx context.Context, id kiln.InstanceID) error

	// AttachPackage puts an unpacked package, a read-only folder of the node, into the instance's code cache. May be
	// repeated. Kinds: KindNotFound (no such instance), KindInternal.
	AttachPackage(ctx context.Context, id kiln.InstanceID, digest kiln.Digest, dir string) error

	// CreateContainer makes a container and starts its runtime; when it returns the container is prepared, or, with
	// spec.Fresh, ready to be bound. It gives the process id of the container's first process on the node, 0 where there
	// is none to see. Blocks for the start. On an error nothing is left. Kinds: KindNotFound (no such instance),
	// KindUnavailable, KindInternal.
	CreateContainer(ctx context.Context, spec kiln.ContainerSpec) (pid int, err error)

	// BindContainer puts the code (binding.Version.Package, attached before), the environment and the limits in and runs
	// the function's own initialisation, without a processor limit. Blocks for that, at most InitLimit. A failing function
	// is a result; an error means the container is of no use (KindNotFound, KindInternal) and must be deleted.
	BindContainer(ctx context.Context, id kiln.ContainerID, binding kiln.Binding) (kiln.InitResult, error)

	// Execute hands the event to an idle container and blocks until its answer, its end or the deadline. It never
	// returns later than the deadline and a bounded grace; an answer that is Lost asks for DeleteContainer, when the
	// executions beside it have ended: they are answered for themselves, and nothing further begins.
	Execute(ctx context.Context, id kiln.ContainerID, d *kiln.Delivery) kiln.Answer

	// DeleteContainer ends a container and leaves nothing of it. Blocks until it is gone. May be repeated; an unknown id
	// is no error. Exited is not called for it.
	DeleteContainer(ctx context.Context, id kiln.ContainerID) error
}

// Resizer is what a driver adds that can change a running container's amounts.
type Resizer interface {
	// Resize changes the limits of a bound container. Blocks shortly. KindConflict when it uses more than it would get.
	Resize(ctx context.Context, id kiln.ContainerID, amounts kiln.Amounts) error
}

// Pauser is what a driver adds that can stop an idle container, so that nothing of it runs between two executions: neither
// the function's own threads nor what it left in the background. Its memory stays.
type Pauser interface {
	// Pause stops every process of an idle container. What runs just now may rest only a moment after it returns. Blocks
	// shortly; may be repeated. Kinds: KindNotFound, KindInternal: it may be stopped in part, and Resume lets it run again.
	Pause(ctx context.Context, id kiln.ContainerID) error
	// Resume lets a stopped container run on; it is on the caller's path. Without it an execution would find nobody. Blocks
	// for no more than a write to the kernel; may be repeated, and is no error for a container that is not stopped. Kinds:
	// KindNotFound, KindInternal: the container is of no use.
	Resume(ctx context.Context, id kiln.ContainerID) error
}

// Detacher is what a driver adds that can take a package out of an instance's code cache again. Without it packages stay
// until their instance ends.
type Detacher interface {
	// DetachPackage undoes AttachPackage; the folder is not read any more when it returns. It is not called while a
	// container of the instance uses the package, nor at once with AttachPackage of the same. May be repeated; what is not
	// attached, and an unknown instance, is no error. Blocks shortly. Kinds: KindInternal: the package is still attached.
	DetachPackage(ctx context.Context, id kiln.InstanceID, digest kiln.Digest) error
}

// Checker is what a driver adds that can look at its instances from outside (R46).
type Checker interface {
	// Check gives what of an instance is there and of no use: the instance alone, or those of its containers of which
	// nothing is asked. A container that was paused is of use. It wakes no guest and blocks for no more than a look. An
	// unknown id gives nothing.
	Check(ctx context.Context, id kiln.InstanceID) []kiln.Exit
}

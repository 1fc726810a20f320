//go:build !linux

package container

import (
	"context"
	"log/slog"
	"time"

	"kiln"
)

// Config is what a Driver is made with, on Linux.
type Config struct {
	Dir, Launcher      string
	Networks, Launches int
	PrepareLimit       time.Duration
	Exited             func(kiln.Exit)
	Output             func(kiln.ContainerID, []byte)
	Logger             *slog.Logger
}

// Driver is the driver container, which there is on Linux only: New gives none.
type Driver struct{ driver }

// driver is what the rest of the house sees of a Driver.
type driver interface {
	Capabilities() kiln.Capabilities
	CreateInstance(context.Context, kiln.InstanceSpec) error
	DeleteInstance(context.Context, kiln.InstanceID) error
	AttachPackage(context.Context, kiln.InstanceID, kiln.Digest, string) error
	CreateContainer(context.Context, kiln.ContainerSpec) (int, error)
	BindContainer(context.Context, kiln.ContainerID, kiln.Binding) (kiln.InitResult, error)
	Execute(context.Context, kiln.ContainerID, *kiln.Delivery) kiln.Answer
	DeleteContainer(context.Context, kiln.ContainerID) error
	Resize(context.Context, kiln.ContainerID, kiln.Amounts) error
	Close(context.Context) error
}

// New says that there are no containers here.
func New(context.Context, Config) (*Driver, error) {
	return nil, kiln.Errorf(kiln.KindUnavailable, "container: open", "the driver container needs Linux; use the driver process")
}

// Probe says that there are no containers here.
func Probe(ctx context.Context) (kiln.Capabilities, error) {
	_, err := New(ctx, Config{})
	return kiln.Capabilities{Name: "container"}, err
}

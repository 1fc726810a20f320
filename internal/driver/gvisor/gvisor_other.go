//go:build !linux

// Package gvisor is the driver that runs functions behind gVisor's kernel, which there is on Linux only.
package gvisor

import (
	"context"
	"log/slog"
	"time"

	"kiln"
)

// Config is what a Driver is made with, on Linux.
type Config struct {
	Dir, Runsc, Agent string
	Launches          int
	PrepareLimit      time.Duration
	Exited            func(kiln.Exit)
	Output            func(kiln.ContainerID, []byte)
	Logger            *slog.Logger
}

// Driver is the driver gvisor, which there is on Linux only: New gives none.
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

// New says that there are no sandboxes here.
func New(context.Context, Config) (*Driver, error) {
	return nil, kiln.Errorf(kiln.KindUnavailable, "gvisor: open", "the driver gvisor needs Linux; use the driver process")
}

// Probe says that there are no sandboxes here.
func Probe(ctx context.Context) (kiln.Capabilities, error) {
	_, err := New(ctx, Config{})
	return kiln.Capabilities{Name: "gvisor"}, err
}

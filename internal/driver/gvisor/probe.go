//go:build linux

package gvisor

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"kiln"
)

// Probe tells what the driver can do on this machine by doing it: it boots an instance and a sandbox in a temporary folder
// and takes them away again, in a fifth of a second. An error's message is a sentence on what to do about it.
// Kinds: KindUnavailable.
func Probe(ctx context.Context) (kiln.Capabilities, error) {
	const op = "gvisor: probe"
	none := kiln.Capabilities{Name: "gvisor"}
	if os.Geteuid() != 0 {
		return none, kiln.Errorf(kiln.KindUnavailable, op, "the driver gvisor needs root; run the server as root, or use the driver process")
	}
	dir, err := os.MkdirTemp("", "kiln-probe-")
	if err != nil {
		return none, kiln.Wrap(kiln.KindUnavailable, op, "cannot make a temporary folder", err)
	}
	defer os.RemoveAll(dir)
	d, err := New(ctx, Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return none, err
	}
	if err := errors.Join(d.trial(ctx), d.Close(context.WithoutCancel(ctx))); err != nil {
		return none, err
	}
	return d.Capabilities(), nil
}

// trial makes one sandbox of the simplest kind.
func (d *Driver) trial(ctx context.Context) error {
	instance := kiln.InstanceSpec{ID: "i-probe", BootID: "00000000000000000000000000000000",
		Configuration: kiln.Configuration{Shape: kiln.Shape{MemoryMiB: kiln.MinMemoryMiB, CPUs: 0.5}}}
	if err := d.CreateInstance(ctx, instance); err != nil {
		return err
	}
	_, err := d.CreateContainer(ctx, kiln.ContainerSpec{ID: "c-probe", Instance: instance.ID,
		Runtime: kiln.Runtime{Name: "provided", Kind: kiln.RuntimeProvided, Command: []string{"/bin/sh"}}})
	return err
}

//go:build linux

package container

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"kiln"
	"kiln/internal/sandbox"
)

// Probe tells what the driver can do on this machine by doing it: it boots an instance and a container in a temporary
// folder and takes them away again, in a tenth of a second. An error's message is a sentence on what to do about it.
// Kinds: KindUnavailable.
func Probe(ctx context.Context) (kiln.Capabilities, error) {
	const op = "container: probe"
	if os.Geteuid() != 0 {
		return kiln.Capabilities{Name: "container"}, kiln.Errorf(kiln.KindUnavailable, op, "the driver container needs root; run the server as root, or use the driver process")
	}
	dir, err := os.MkdirTemp("", "kiln-probe-")
	if err != nil {
		return kiln.Capabilities{Name: "container"}, kiln.Wrap(kiln.KindUnavailable, op, "cannot make a temporary folder", err)
	}
	defer os.RemoveAll(dir)
	d, err := New(ctx, Config{Dir: dir, Networks: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return kiln.Capabilities{Name: "container"}, err
	}
	err = errors.Join(d.trial(ctx), d.Close(context.WithoutCancel(ctx)))
	if err != nil {
		return kiln.Capabilities{Name: "container"}, err
	}
	return d.Capabilities(), nil
}

// trial makes one container of the simplest kind.
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

// describe notes for the operator what is weaker here than elsewhere.
func (d *Driver) describe() {
	d.notes = append(d.notes, "Containers share this machine's kernel; a flaw in it is a flaw of the boundary.")
	if d.disks == nil {
		d.notes = append(d.notes, "The private /tmp of a container is in memory and counts to the function's memory.")
	}
	if d.tree.V2() {
		d.notes = append(d.notes, "On cgroup v2 a memory limit lowered below use ends processes; such a change is refused first.")
	}
	if !sandbox.Private() {
		d.notes = append(d.notes, "The server has no mount namespace of its own, so its mounts outlive a kill until the next start.")
	}
}

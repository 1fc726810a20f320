//go:build !linux

package sandbox

import "kiln"

// Sandbox tells what Enter made of this process.
type Sandbox struct {
	// Entered is true when the process has a mount namespace of its own.
	Entered bool
}

// Enter does nothing: there are mount namespaces on Linux only.
func Enter() (Sandbox, error) { return Sandbox{}, nil }

// Hybrid reports whether cgroup v2 is mounted beside v1: there are cgroups on Linux only.
func Hybrid() bool { return false }

// Disks would be the private disks of containers.
type Disks struct{}

// OpenDisks says that there are none. Kinds: KindUnavailable.
func OpenDisks(string) (*Disks, error) {
	return nil, kiln.Errorf(kiln.KindUnavailable, "sandbox: open disks", "disks for containers need Linux")
}

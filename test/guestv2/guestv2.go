// Package guestv2 runs the suites of driver container and of package sandbox once where cgroup v2 is all there is: in a
// virtual machine under QEMU in software emulation, with Debian's cloud kernel and a disk made of this machine's programs.
// What machines with v1 cannot show is shown there.
//
// It is a test with the build tag long (make test-long) and takes some ten minutes. It is called by nobody, changes nothing
// on this machine but a cache of the kernel's package, and fetches QEMU and that kernel from Debian where they are missing;
// where they cannot be had it skips, loudly. KILN_GUESTV2_CONSOLE names a file for all that the machine says,
// KILN_GUESTV2_RUNS other runs than all, in init's words.
package guestv2

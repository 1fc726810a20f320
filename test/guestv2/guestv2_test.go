//go:build long && linux && amd64

package guestv2

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln/test/kilntest"
)

const (
	// bootedWithin bounds the whole life of the machine, in software emulation.
	bootedWithin = 15 * time.Minute
	// memoryMiB and diskMiB are the machine's.
	memoryMiB, diskMiB = 3072, 2048
	kernelPackage      = "linux-image-cloud-amd64"
)

// modules are what Debian's cloud kernel needs to see a virtio disk and to make loop devices, in the order of loading.
var modules = []string{ // never written
	"drivers/virtio/virtio_ring.ko", "drivers/virtio/virtio.ko", "drivers/virtio/virtio_pci_modern_dev.ko", "drivers/virtio/virtio_pci_legacy_dev.ko",
	"drivers/virtio/virtio_pci.ko", "drivers/block/virtio_blk.ko", "drivers/block/loop.ko",
}

// programs are what the tests and the driver start, from this machine.
var programs = []string{ // never written
	"sh", "crun", "runc", "python3", "mkfs.ext4", "mke2fs", "mount", "umount", "unshare", "env", "cat", "ls", "id", "stat", "touch", "dd", "grep", "wc", "cut", "tail",
	"head", "tr", "expr", "xargs", "sleep", "true", "false", "cp", "mkdir", "rm", "readlink", "sed", "echo", "printf", "test", "chmod", "ln", "dmesg", "uname",
}

// The suites of driver container and of package sandbox pass under cgroup v2 alone, in a virtual machine with Debian's
// kernel: at the machine's own cgroup root, and in a cgroup namespace whose root holds processes. A server stands steps of the
// clock there, which is nobody else's. R42 R44 R86 R87 R101 R102
func TestCgroupV2(t *testing.T) {
	if os.Geteuid() != 0 {
		kilntest.Skip(t, "this needs root, to make a disk image with the files of this machine")
	}
	qemu, kernel := emulator(t), kernelFiles(t)
	folder := t.TempDir()
	disk := makeDisk(t, folder)
	ramDisk := filepath.Join(folder, "ramdisk")
	if err := os.WriteFile(ramDisk, makeRAMDisk(t, folder, kernel), 0o600); err != nil {
		t.Fatal(err)
	}
	images, err := filepath.Glob(filepath.Join(kernel, "boot", "vmlinuz-*"))
	if err != nil || len(images) != 1 {
		t.Fatalf("kernels: %v %v", images, err)
	}
	runs := []string{"plain:/tests/sandbox,-test.v", "plain:/tests/container,-test.v,-test.timeout=13m", "boxed:/tests/sandbox,-test.v", "boxed:/tests/container,-test.v,-test.run=Life|WhatTheGuestSees|OutOfMemory",
		"plain:/tests/clock,-test.v"}
	if other := os.Getenv("KILN_GUESTV2_RUNS"); other != "" {
		runs = strings.Split(other, ";")
	}
	ctx, cancel := context.WithTimeout(t.Context(), bootedWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, qemu, "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", fmt.Sprint(memoryMiB), "-nodefaults", "-no-user-config",
		"-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", images[0], "-initrd", ramDisk,
		"-append", "console=ttyS0 panic=-1 quiet cgroup_no_v1=all random.trust_cpu=on mitigations=off kiln.run="+strings.Join(runs, ";"),
		"-drive", "id=root,format=raw,if=none,cache=unsafe,file="+disk, "-device", "virtio-blk-pci,drive=root")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := listen(t, out)
	if err := cmd.Wait(); err != nil {
		t.Errorf("the machine: %v", err)
	}
	for _, run := range runs {
		if status, ok := ended[run]; !ok || status != "<nil>" {
			t.Errorf("%s under cgroup v2: %q (ended: %v)", run, status, ok)
		}
	}
}

var (
	endedLine  = regexp.MustCompile(`^guestv2: ended (\S+): (.*)$`)
	failedLine = regexp.MustCompile(`^\s*--- (FAIL|SKIP): `)
)

// listen reads the console to its end and gives how each program ended. What failed is told with the lines before it.
func listen(t *testing.T, console io.Reader) map[string]string {
	t.Helper()
	ended := map[string]string{}
	if path := os.Getenv("KILN_GUESTV2_CONSOLE"); path != "" {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		console = io.TeeReader(console, f)
	}
	began := time.Now()
	lines := bufio.NewScanner(console)
	lines.Buffer(nil, 1<<20)
	var all []string
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), "\r")
		all = append(all, line)
		if m := endedLine.FindStringSubmatch(line); m != nil {
			ended[m[1]] = m[2]
		}
		if failedLine.MatchString(line) || strings.HasPrefix(line, "guestv2:") {
			t.Logf("%4.0f s %s", time.Since(began).Seconds(), line)
		}
	}
	if len(ended) == 0 || slices.ContainsFunc(all, failedIn) {
		t.Logf("the end of the console:\n%s", strings.Join(all[max(0, len(all)-400):], "\n"))
	}
	return ended
}

func failedIn(line string) bool {
	return strings.Contains(line, "--- FAIL") || strings.Contains(line, "panic:")
}

// emulator finds QEMU, or fetches it as a package.
func emulator(t *testing.T) string {
	t.Helper()
	const name = "qemu-system-x86_64"
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	install := exec.CommandContext(t.Context(), "apt-get", "-o", "DPkg::Lock::Timeout=120", "install", "-y", "-qq", "--no-install-recommends", "qemu-system-x86")
	install.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	out, err := install.CombinedOutput()
	path, lookErr := exec.LookPath(name)
	if err != nil || lookErr != nil {
		t.Skipf("SKIPPED, NOT SHOWN: nothing is shown under cgroup v2; there is no %s and its package cannot be had: %v %s", name, err, tail(out))
	}
	return path
}

// kernelFiles gives a folder with the files of Debian's cloud kernel, kept between runs.
func kernelFiles(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "kiln-test-kernel")
	if found, err := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*")); err == nil && len(found) == 1 {
		return dir
	}
	skip := func(what string, err error, out []byte) {
		t.Skipf("SKIPPED, NOT SHOWN: nothing is shown under cgroup v2; %s: %v %s", what, err, tail(out))
	}
	depends, err := exec.CommandContext(t.Context(), "apt-cache", "depends", kernelPackage).Output()
	name := regexp.MustCompile(`linux-image-\S+-cloud-amd64`).FindString(string(depends))
	if err != nil || name == "" {
		skip("apt-cache does not know "+kernelPackage, err, depends)
	}
	download := exec.CommandContext(t.Context(), "apt-get", "download", name)
	download.Dir = t.TempDir()
	if out, err := download.CombinedOutput(); err != nil {
		skip("the kernel's package cannot be had", err, out)
	}
	packages, err := filepath.Glob(filepath.Join(download.Dir, "*.deb"))
	if err != nil || len(packages) != 1 {
		t.Fatalf("packages: %v %v", packages, err)
	}
	fresh := dir + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "dpkg", "-x", packages[0], fresh).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(fresh, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func tail(b []byte) string { return string(bytes.TrimSpace(b[max(0, len(b)-500):])) }

//go:build linux

package stage

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"kiln"
	"kiln/internal/sandbox"
)

// Ids and names as code finds them on AWS Lambda.
const (
	GuestUID = 993
	GuestGID = 990
)

// rootFiles are the files of /etc that are ours. Nothing of the host's users, names or keys is shown.
func rootFiles() map[string]string {
	return map[string]string{
		"etc/passwd":        "root:x:0:0:root:/root:/sbin/nologin\nsbx_user1051:x:993:990::/home/sbx_user1051:/sbin/nologin\n",
		"etc/group":         "root:x:0:\nsbx_user1051:x:990:\n",
		"etc/hosts":         "127.0.0.1 localhost\n::1 localhost\n",
		"etc/resolv.conf":   "options timeout:1 attempts:1\n",
		"etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
		"etc/machine-id":    "",
	}
}

// BuildRoot makes the root that all containers share: a skeleton of our own with the host's /usr and what programs in
// it need from /etc, all read-only. dir is on the stage; mounts below it come along with every container.
func BuildRoot(dir string) error {
	const op = "stage: build root"
	for _, d := range []string{"usr", "etc/ssl/certs", "etc/alternatives", "proc", "dev", "sys/fs/cgroup/memory", "sys/fs/cgroup/cpu",
		"sys/fs/cgroup/cpuacct", "sys/fs/cgroup/pids", "tmp", "opt", "var/task", "var/runtime", "var/tmp", "var/lib", "run", "root", "home"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return kiln.Wrap(kiln.KindUnavailable, op, "cannot make the root's skeleton", err)
		}
	}
	for name, text := range rootFiles() {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return kiln.Wrap(kiln.KindUnavailable, op, "cannot write the root's files", err)
		}
	}
	for _, name := range []string{"etc/ld.so.cache", "etc/localtime", "etc/mime.types", "etc/os-release"} {
		if err := copyFile("/"+name, filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return kiln.Wrap(kiln.KindUnavailable, op, "cannot copy /"+name, err)
		}
	}
	return mountHost(dir)
}

// mountHost shows the host's programs in the root: /usr and, where they are not links into it, /bin and the like.
func mountHost(dir string) error {
	const op = "stage: build root"
	folders := []string{"/usr", "/etc/ssl/certs", "/etc/alternatives"}
	java, err := filepath.Glob("/etc/java-*-openjdk")
	if err == nil {
		folders = append(folders, java...)
	}
	for _, name := range []string{"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"} {
		target, err := os.Readlink(name)
		switch {
		case err == nil && strings.HasPrefix(strings.TrimPrefix(target, "/"), "usr/"):
			if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
				return kiln.Wrap(kiln.KindUnavailable, op, "cannot link "+name, err)
			}
		case !errors.Is(err, os.ErrNotExist):
			folders = append(folders, name)
		}
	}
	for _, folder := range folders {
		if info, err := os.Stat(folder); err != nil || !info.IsDir() {
			continue
		}
		target := filepath.Join(dir, folder)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return kiln.Wrap(kiln.KindUnavailable, op, "cannot make a folder of the root", err)
		}
		if err := sandbox.BindReadOnly(folder, target); err != nil {
			return err
		}
	}
	return nil
}

// copyFile copies what a name leads to.
func copyFile(from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	t, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return errors.Join(err, t.Close())
}

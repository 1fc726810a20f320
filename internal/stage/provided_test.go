//go:build linux

package stage

import (
	"os/exec"
	"strings"
	"testing"
)

// Any environment comes through the stub's script unchanged.
func FuzzScript(f *testing.F) {
	f.Add("NAME", "it's `x` $y \"z\"\n\\")
	f.Add("OPTIND", "abc")
	f.Add("a.b-c", "1")
	f.Fuzz(func(t *testing.T, name, value string) {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00") || name == "PWD" || name == "_" {
			return
		}
		text := strings.ReplaceAll(Script(map[string]string{name: value}, []string{"STUB", "PATH"}), CodeDir+"/bootstrap", "/usr/bin/env")
		cmd := exec.Command("/bin/sh")
		cmd.Env = []string{"STUB=1", "PATH=/bin"}
		cmd.Stdin = strings.NewReader(strings.Replace(strings.ReplaceAll(text, "cd "+CodeDir, "cd /"), "/usr/bin/env </dev/null", "/usr/bin/env -0 </dev/null", 1))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for v := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
			if v != name+"="+value && !strings.HasPrefix(v, "PWD=") && !strings.HasPrefix(v, "OLDPWD=") {
				t.Errorf("%q", v)
			}
		}
		if !strings.Contains("\x00"+string(out), "\x00"+name+"="+value+"\x00") {
			t.Errorf("%q=%q is not in %q", name, value, out)
		}
	})
}

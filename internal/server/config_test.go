package server

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/internal/pool"
)

// TestConfigDefaults shows that nothing set gives the documented defaults, and that each is shown as it is written.
func TestConfigDefaults(t *testing.T) {
	c, err := LoadConfig(Sources{Environ: []string{"HOME=/home/u"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []kiln.Shape{{MemoryMiB: 2048, CPUs: 2}, {MemoryMiB: 10240, CPUs: 6}}
	if c.Listen != "127.0.0.1:4566" || c.InstancesMax != 32 || !slices.Equal(c.InstancesShapes, want) ||
		c.WaitMax != 10*time.Second || c.RetentionContainer != 0 || c.RetentionPolicy != "learned" || c.RetentionInstance != 20*time.Minute {
		t.Errorf("defaults are %+v", c)
	}
	if c.Data != "/home/u/.local/share/kiln" {
		t.Errorf("data is %q", c.Data)
	}
	for _, k := range c.Keys() {
		if k.Name != "data" && k.Value != k.Default {
			t.Errorf("%s: shown as %q, documented as %q", k.Name, k.Value, k.Default)
		}
		if k.Name == "" || k.Unit == "" || k.Meaning == "" {
			t.Errorf("key %+v lacks its name, unit or meaning", k)
		}
	}
}

// TestConfigOrder shows that the file beats the defaults, the environment the file, and flags the environment; nested
// and dotted keys mean the same.
func TestConfigOrder(t *testing.T) {
	path := write(t, "instances:\n  max: 4\n  shapes:\n    - {memory: 512, cpus: 0.5}\nwait.max: 3s\nlisten: 127.0.0.1:1\nregion: eu-west-1\n")
	c, err := LoadConfig(Sources{
		File:    path,
		Environ: []string{"XDG_DATA_HOME=/x", "KILN_LISTEN=127.0.0.1:2", "KILN_REGION=eu-west-2", "KILN_ACCOUNT_ID=1", `KILN_INSTANCES_SHAPES=[{"memoryMiB":1024,"cpus":2},{"memory":256,"cpus":1}]`},
		Flags:   map[string]string{"listen": "127.0.0.1:3"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.InstancesMax != 4 || c.WaitMax != 3*time.Second || c.Region != "eu-west-2" || c.Listen != "127.0.0.1:3" || c.Data != "/x/kiln" {
		t.Errorf("got %+v", c)
	}
	if want := []kiln.Shape{{MemoryMiB: 256, CPUs: 1}, {MemoryMiB: 1024, CPUs: 2}}; !slices.Equal(c.InstancesShapes, want) {
		t.Errorf("shapes are %v, smallest first expected", c.InstancesShapes)
	}
}

// TestConfigMistakes shows that each mistake is refused as KindInvalid with a message that names the key and what to do.
func TestConfigMistakes(t *testing.T) {
	for name, row := range map[string]struct{ file, want string }{
		"unknown key":     {"instances.maximum: 3\n", `there is no key "instances.maximum"; the nearest is "instances.max"`},
		"unknown nested":  {"instances:\n  mx: 3\n", `line 2: there is no key "instances.mx"; the nearest is "instances.max"`},
		"unknown section": {"instance:\n  max: 3\n", `there is no key "instance"`},
		"twice":           {"instances:\n  max: 3\ninstances.max: 4\n", "instances.max is set twice"},
		"too small":       {"instances.max: 0\n", "instances.max is 0; give 1 to 100000"},
		"no number":       {"instances.max: many\n", "give a whole number of instances"},
		"no duration":     {"wait.max: 10\n", `wait.max is "10"; give a duration such as`},
		"negative":        {"wait.max: -1s\n", "wait.max is -1s; give 0s to 15m"},
		"no such word":    {"driver: docker\n", "give one of auto, container, gvisor, microvm, process"},
		"listen":          {"listen: '4566'\n", "give host:port"},
		"retention":       {"retention.instance: 1m\n", "make it at least as long"},
		"no shapes":       {"instances.shapes: []\n", "there are 0 shapes"},
		"shape too small": {"instances.shapes: [{memory: 64, cpus: 1}]\n", "give at least 128"},
		"shape without":   {"instances.shapes: [{memory: 512}]\n", "give 0.01 to 4096"},
		"shape misspelt":  {"instances.shapes: [{ram: 512, cpus: 1}]\n", "give a list like"},
		"shapes alike":    {"instances.shapes: [{memory: 512, cpus: 1}, {memory: 512, cpus: 2}]\n", "leave one out"},
		"two documents":   {"listen: a:1\n---\nlisten: a:2\n", "more than one YAML document"},
		"no mapping":      {"- 1\n", "write keys and values"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := LoadConfig(Sources{File: write(t, row.file), Environ: []string{"HOME=/h"}})
			if kiln.KindOf(err) != kiln.KindInvalid || err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
}

// TestConfigAllMistakesAtOnce shows that one start tells every mistake.
func TestConfigAllMistakesAtOnce(t *testing.T) {
	_, err := LoadConfig(Sources{Flags: map[string]string{"driver": "x", "wait.max": "y"}})
	for _, want := range []string{"driver is", "wait.max is", "give --data DIR"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

// TestConfigOrigins shows that a mistake names the place to mend it.
func TestConfigOrigins(t *testing.T) {
	file := write(t, "wait.max: soon\nretention.container: 1h\n")
	_, err := LoadConfig(Sources{File: file, Environ: []string{"HOME=/h", "KILN_INSTANCES_MAX=no", "KILN_RETENTION_INSTANCE=1m"}, Flags: map[string]string{"driver": "x"}})
	for _, want := range []string{"10s or 5m (from " + file + ")", "instances (from KILN_INSTANCES_MAX)", "process (from --driver)",
		"as long (from KILN_RETENTION_INSTANCE and " + file + ")"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

// TestMisspelt shows which variables are taken for a key's that was misspelt.
func TestMisspelt(t *testing.T) {
	got := Misspelt([]string{"KILN_INSTANCE_MAX=1", "KILN_LISTN=x", "KILN_LISTEN=x", "KILN_DATA=x", "KILN_CONFIG=x", "KILN_BIN=x", "KILN_TEST_WAIT=1",
		"KILN_MY_OWN_THING=1", "KILN_ACCOUNT_ID=1", "LISTEN=1"})
	if len(got) != 2 || !strings.Contains(got[0], "KILN_INSTANCE_MAX sets nothing; is KILN_INSTANCES_MAX meant?") || !strings.Contains(got[1], "KILN_LISTN ") {
		t.Errorf("got %q", got)
	}
}

// FuzzConfigFile shows that no file makes the reader panic, and that what it accepts it also shows and reads again.
func FuzzConfigFile(f *testing.F) {
	for _, s := range []string{"", "a", "listen: x:1", "instances:\n  max: 4\n", "instances.shapes: [{memory: 512, cpus: 1}]", "? [a]\n: b", "x: &a [*a]", "{}", "~"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		values, err := parseFile(b)
		if err != nil {
			return
		}
		c, err := makeConfig(values, map[string]string{"HOME": "/h"}, nil)
		if err != nil {
			return
		}
		again := map[string]string{}
		for _, k := range c.Keys() {
			again[k.Name] = k.Value
		}
		d, err := makeConfig(again, nil, nil)
		if err != nil {
			t.Fatalf("what was shown cannot be read: %v", err)
		}
		if !slices.Equal(c.InstancesShapes, d.InstancesShapes) || c.WaitMax != d.WaitMax || c.Listen != d.Listen {
			t.Fatalf("%+v was read again as %+v", c, d)
		}
	})
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kiln.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// There are never more capacity providers than the pools have fleets for, and no more than instances for them.
func TestProvidersMax(t *testing.T) {
	for instances, want := range map[int]int{0: 0, 8: 8, pool.FleetsMax: pool.FleetsMax - 2, 100_000: pool.FleetsMax - 2} {
		c := Config{ProvidersInstancesMax: instances}
		if got := c.providersMax(); got != want {
			t.Errorf("with %d instances there may be %d providers, want %d", instances, got, want)
		}
	}
}

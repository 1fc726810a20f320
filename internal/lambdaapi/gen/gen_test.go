package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Shows that the committed files are what the generator makes of AWS's model, to the byte, twice over. Without a model
// at hand (KILN_LAMBDA_MODEL, or ../shared/api beside the module) it cannot tell, and says so.
func TestCommittedFilesAreGenerated(t *testing.T) {
	path := os.Getenv("KILN_LAMBDA_MODEL")
	if path == "" {
		path = besideModule(".")
	}
	if path == "" {
		t.Skip("THE GENERATED FILES ARE NOT CHECKED: no model of the Lambda API found; set KILN_LAMBDA_MODEL to a service-2.json")
	}
	raw, err := readModel(path)
	if err != nil {
		t.Fatal(err)
	}
	first, err := generate(raw)
	if err != nil {
		t.Fatal(err)
	}
	second, err := generate(raw)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range first {
		if !bytes.Equal(text, second[name]) {
			t.Errorf("%s: two runs differ", name)
		}
		committed, err := os.ReadFile(filepath.Join("..", name))
		if err != nil || !bytes.Equal(text, committed) {
			t.Errorf("%s is not what the generator writes (%v): run go generate in internal/lambdaapi", name, err)
		}
	}
	found, _ := filepath.Glob("../zz_*_gen*.go")
	if len(found) != len(first) {
		t.Errorf("generated files %q, but the generator writes %d", found, len(first))
	}
}

// Shows that the generator refuses what it does not know instead of guessing.
func TestGenerateRefusesTheUnknown(t *testing.T) {
	const model = `{"operations":{"Get":{"name":"Get","http":{"method":"GET","requestUri":"/x","responseCode":200},"input":{"shape":"In"}}},
		"shapes":{"In":{"type":"structure","members":{"A":{"shape":"S"SPOT}}},"S":SHAPE}}`
	for _, c := range []struct{ spot, shape, want string }{
		{``, `{"type":"string"}`, ""},
		{``, `{"type":"string","pattern":"(?!a)b"}`, "shape S: error parsing regexp"},
		{``, `{"type":"document"}`, "shape S: type document"},
		{`,"location":"headers"`, `{"type":"string"}`, "member A is headers string"},
		{`,"location":"header"`, `{"type":"boolean"}`, "member A is header boolean"},
	} {
		_, err := generate([]byte(strings.NewReplacer("SPOT", c.spot, "SHAPE", c.shape).Replace(model)))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s %s: %v, want %q", c.spot, c.shape, err, c.want)
		}
	}
}

// Shows what translation spells out.
func TestTranslate(t *testing.T) {
	for pattern, want := range map[string]string{
		`.*`:               `\A(?:[^\n\r\x{85}\x{2028}\x{2029}]*)\z`,
		`[^\s]+\.[.]`:      `\A(?:[^\s\x0b]+\.[.])\z`,
		`\s`:               `\A(?:[\s\x0b])\z`,
		`a|b`:              `\A(?:a|b)\z`,
		`[0-9a-zA-Z-_\.]+`: `\A(?:[0-9a-zA-Z-_\.]+)\z`,
	} {
		if got, err := translate(pattern); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", pattern, got, err, want)
		}
	}
}

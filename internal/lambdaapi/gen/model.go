package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// maxModelBytes bounds an unpacked model.
const maxModelBytes = 64 << 20

// model is botocore's form of an AWS API, as far as it matters here.
type model struct {
	Operations map[string]*operation
	Shapes     map[string]*shape
}

type operation struct {
	Name string
	HTTP struct {
		Method       string
		RequestURI   string
		ResponseCode int
	}
	Input, Output ref
}

type ref struct{ Shape string }

type shape struct {
	Type        string
	Members     members
	Member      ref
	Key, Value  ref
	Required    []string
	Payload     string
	Min, Max    *float64
	Pattern     string
	Enum        []string
	Sensitive   bool
	Exception   bool
	Fault       bool
	EventStream bool
	Error       struct {
		Code           string
		HTTPStatusCode int
	}
}

type member struct {
	Name         string `json:"-"`
	Shape        string
	Location     string
	LocationName string
	Deprecated   bool
}

// wire is the member's name in the query, the headers or the path.
func (m member) wire() string {
	if m.LocationName != "" {
		return m.LocationName
	}
	return m.Name
}

// members keeps the model's own order.
type members struct{ list []member }

// UnmarshalJSON reads an object in order.
func (m *members) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if _, err := d.Token(); err != nil {
		return err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		var one member
		if err := d.Decode(&one); err != nil {
			return err
		}
		one.Name, _ = name.(string)
		m.list = append(m.list, one)
	}
	return nil
}

// findModel gives the model's path: the one named, KILN_LAMBDA_MODEL, ../shared/api beside the module (dir is below it),
// or botocore's.
func findModel(path, dir string) (string, error) {
	if path != "" {
		return path, nil
	}
	if path = os.Getenv("KILN_LAMBDA_MODEL"); path != "" {
		return path, nil
	}
	if path = besideModule(dir); path != "" {
		return path, nil
	}
	out, err := exec.Command("python3", "-c", "import botocore, os; print(os.path.dirname(botocore.__file__))").Output()
	if err == nil {
		found, _ := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "data/lambda/2015-03-31/service-2.json*"))
		if len(found) > 0 {
			return found[0], nil
		}
	}
	return "", errors.New("no model found: give -model, set KILN_LAMBDA_MODEL, or install botocore")
}

// besideModule gives ../shared/api/lambda-2015-03-31.service-2.json beside the folder with go.mod, or "".
func besideModule(dir string) string {
	dir, err := filepath.Abs(dir)
	for err == nil && dir != filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			path := filepath.Join(dir, "../shared/api/lambda-2015-03-31.service-2.json")
			if _, err := os.Stat(path); err == nil {
				return path
			}
			return ""
		}
		dir = filepath.Dir(dir)
	}
	return ""
}

// readModel reads a model, packed or not.
func readModel(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil || !strings.HasSuffix(path, ".gz") {
		return raw, err
	}
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return io.ReadAll(io.LimitReader(z, maxModelBytes))
}

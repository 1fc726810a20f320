package conformance

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kiln/test/kilntest"
)

// tool gives a command that runs a tool of Debian's as the account would. The tests never use one found elsewhere, so
// that what is shown is shown for the unmodified package.
func tool(t *testing.T, a *kilntest.Account, path, pkg string, args ...string) *exec.Cmd {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		kilntest.Skip(t, "there is no %s on this machine (Debian: %s)", path, pkg)
	}
	cmd := exec.CommandContext(within(t, 2*time.Minute), path, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(a.Environ(), "PATH=/usr/bin:/bin", "HOME="+cmd.Dir, "LANG=C.UTF-8", "AWS_PAGER=")
	return cmd
}

// AWS's own command-line tool, Debian's package, deploys, waits, invokes, publishes and deletes. // R8
func TestAWSCommandLine(t *testing.T) {
	a := account(t)
	folder := t.TempDir()
	zip := filepath.Join(folder, "f.zip")
	if err := os.WriteFile(zip, python("tooled", greet).Zip(t), 0o600); err != nil {
		t.Fatal(err)
	}
	answer := filepath.Join(folder, "answer")
	aws := func(args ...string) map[string]any {
		t.Helper()
		cmd := tool(t, a, "/usr/bin/aws", "awscli", append([]string{"--endpoint-url", a.Server.URL, "--output", "json"}, args...)...)
		var errors bytes.Buffer
		cmd.Stderr = &errors
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("aws %s: %v: %s", strings.Join(args, " "), err, errors.String())
		}
		var got map[string]any
		if len(bytes.TrimSpace(out)) > 0 {
			if err := json.Unmarshal(out, &got); err != nil {
				t.Fatalf("aws %s printed %s", strings.Join(args, " "), out)
			}
		}
		return got
	}
	aws("lambda", "create-function", "--function-name", "tooled", "--runtime", "python3.9", "--handler", "f.handler", "--role", kilntest.Role, "--zip-file", "fileb://"+zip)
	aws("lambda", "wait", "function-active-v2", "--function-name", "tooled")
	got := aws("lambda", "invoke", "--function-name", "tooled", "--cli-binary-format", "raw-in-base64-out", "--payload", `{"name":"tool"}`, "--log-type", "Tail", answer)
	if got["StatusCode"] != 200.0 || got["ExecutedVersion"] != "$LATEST" || got["LogResult"] == nil {
		t.Errorf("invoke printed %v", got)
	}
	if b, err := os.ReadFile(answer); err != nil || !strings.Contains(string(b), `"tool"`) {
		t.Errorf("the answer is %s (%v)", b, err)
	}
	if v := aws("lambda", "publish-version", "--function-name", "tooled"); v["Version"] != "1" {
		t.Errorf("published %v", v)
	}
	aws("lambda", "create-alias", "--function-name", "tooled", "--name", "live", "--function-version", "1")
	if got := aws("lambda", "invoke", "--function-name", "tooled:live", answer); got["ExecutedVersion"] != "1" {
		t.Errorf("invoke of the alias printed %v", got)
	}
	if list, ok := aws("lambda", "list-functions")["Functions"].([]any); !ok || len(list) != 1 {
		t.Errorf("listed %v", list)
	}
	if who := aws("sts", "get-caller-identity"); who["Account"] != a.ID {
		t.Errorf("identity %v", who)
	}
	aws("lambda", "delete-function", "--function-name", "tooled")
	gone := tool(t, a, "/usr/bin/aws", "awscli", "--endpoint-url", a.Server.URL, "lambda", "get-function", "--function-name", "tooled")
	if out, err := gone.CombinedOutput(); err == nil || !strings.Contains(string(out), "(ResourceNotFoundException) when calling the GetFunction operation: Function not found: arn:aws:lambda:") {
		t.Errorf("after delete: %v %s", err, out)
	}
}

// boto3, Debian's package, with its waiters, paginators and exceptions. // R7
func TestBoto3(t *testing.T) {
	a := account(t)
	cmd := tool(t, a, "/usr/bin/python3", "python3-boto3", "-")
	probe := tool(t, a, "/usr/bin/python3", "python3-boto3", "-c", "import boto3")
	if out, err := probe.CombinedOutput(); err != nil {
		kilntest.Skip(t, "there is no boto3 on this machine (Debian: python3-boto3): %s", out)
	}
	script, err := os.ReadFile("boto3.py")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = bytes.NewReader(script)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "boto3: all as expected") {
		t.Errorf("%v\n%s", err, out)
	}
}

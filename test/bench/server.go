//go:build linux

package main

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/rand"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"kiln/internal/client"
	"kiln/test/kilntest"
)

//go:embed guests/*.py guests/*.mjs
var sources embed.FS

// server is a running kiln serve, seen as its operator.
type server struct {
	*kilntest.Server
	operator *client.Client
}

// launch starts a server with settings on a new data directory. The caller stops it.
func launch(settings map[string]string) (*server, error) {
	s, err := kilntest.Launch(kilntest.Options{Driver: "container", Settings: settings})
	if err != nil {
		return nil, err
	}
	key, err := client.ReadCredentials(s.Data)
	if err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	operator, err := client.New(s.URL, key)
	if err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return &server{s, operator}, nil
}

// stop ends the server and keeps its complaint about what it left behind. Deferred.
func (s *server) stop(err *error) { *err = errors.Join(*err, s.Stop()) }

// newAccount makes an account with one key.
func (s *server) newAccount(ctx context.Context) (*client.Client, error) {
	var made struct {
		Account string `json:"account"`
	}
	if err := s.operator.JSON(ctx, client.Request{Method: http.MethodPost, Path: "/kiln/v1/accounts"}, struct{}{}, &made); err != nil {
		return nil, err
	}
	var key client.Credentials
	if err := s.operator.JSON(ctx, client.Request{Method: http.MethodPost, Path: "/kiln/v1/keys"}, made, &key); err != nil {
		return nil, err
	}
	return client.New(s.URL, key)
}

// function is what is deployed.
type function struct {
	name, runtime, handler string
	files                  map[string][]byte
	memoryMiB              int32
}

// guest gives one of the functions of this folder under a name.
func guest(kind, name string, memoryMiB int32) (function, error) {
	f := function{name: name, memoryMiB: memoryMiB, files: map[string][]byte{}}
	var err error
	switch kind {
	case "python":
		f.runtime, f.handler = kilntest.PythonRuntime, "echo.handler"
		f.files["echo.py"], err = sources.ReadFile("guests/echo.py")
	case "node":
		f.runtime, f.handler = kilntest.NodeRuntime, "echo.handler"
		f.files["echo.mjs"], err = sources.ReadFile("guests/echo.mjs")
	default:
		f.runtime, f.handler = kilntest.ProvidedRuntime, "bootstrap"
		f.files["bootstrap"], err = compiled(kind)
	}
	return f, err
}

// compiled builds one of the main packages below guests.
func compiled(kind string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "kiln-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, kind)
	if err := kilntest.GoBuild("kiln/test/bench/guests/"+kind, path); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// zip packs the function's files, and one more that no other package has.
func (f function) zip() ([]byte, error) {
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	put := func(name string, mode os.FileMode, content []byte) error {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate}
		h.SetMode(mode)
		to, err := w.CreateHeader(h)
		if err != nil {
			return err
		}
		_, err = to.Write(content)
		return err
	}
	err := put("unique", 0o644, []byte(rand.Text()))
	for name, content := range f.files {
		err = errors.Join(err, put(name, 0o755, content))
	}
	err = errors.Join(err, w.Close())
	return buf.Bytes(), err
}

func (f function) input() (*lambda.CreateFunctionInput, error) {
	packed, err := f.zip()
	return &lambda.CreateFunctionInput{
		FunctionName: aws.String(f.name), Runtime: types.Runtime(f.runtime), Handler: aws.String(f.handler), Role: aws.String(kilntest.Role),
		Code: &types.FunctionCode{ZipFile: packed}, MemorySize: aws.Int32(f.memoryMiB), Timeout: aws.Int32(60),
	}, err
}

// deploy creates a function and waits until it can be invoked.
func deploy(ctx context.Context, to *client.Client, f function) error {
	in, err := f.input()
	if err != nil {
		return err
	}
	api := to.Lambda()
	if _, err := api.CreateFunction(ctx, in); err != nil {
		return fmt.Errorf("create %s: %w", f.name, err)
	}
	return eventually(ctx, 10*time.Second, func() error {
		c, err := api.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: in.FunctionName})
		if err == nil && c.State != types.StateActive {
			err = fmt.Errorf("%s is %s: %s", f.name, c.State, aws.ToString(c.StateReason))
		}
		return err
	})
}

// invocation is a job that invokes a function.
func invocation(as *client.Client, name, payload string) job {
	key := as.Key()
	return job{URL: as.Endpoint() + "/2015-03-31/functions/" + url.PathEscape(name) + "/invocations", Body: payload, Key: &key}
}

// place is an instance or a container as /kiln/v1 lists it.
type place struct {
	ID       string   `json:"id"`
	Instance string   `json:"instance"`
	State    string   `json:"state"`
	Account  string   `json:"account"`
	Function string   `json:"function"`
	Runtimes []string `json:"runtimes"`
	PID      int      `json:"pid"`
}

// record is the part of an execution record that is measured here.
type record struct {
	RequestID string `json:"requestId"`
	Path      string `json:"path"`
	Times     struct {
		Received, Admitted, Acquired, CodeStart, CodeEnd, Answered time.Time
	} `json:"times"`
}

// list reads a list of /kiln/v1 as the operator; limit 0 reads all.
func list[T any](ctx context.Context, s *server, what string, query url.Values, limit int) ([]T, error) {
	raw, err := s.operator.List(ctx, what, query, limit)
	if err != nil {
		return nil, err
	}
	all := make([]T, len(raw))
	for i, text := range raw {
		if err := json.Unmarshal(text, &all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// record reads the record of one execution, which may be written a moment after the answer.
func (s *server) record(ctx context.Context, id string) (r record, err error) {
	err = eventually(ctx, 5*time.Second, func() error {
		return s.operator.JSON(ctx, client.Request{Method: http.MethodGet, Path: "/kiln/v1/executions/" + id}, nil, &r)
	})
	return r, err
}

// end ends an instance or a container ("instances", "containers") as the operator.
func (s *server) end(ctx context.Context, kind, id string) error {
	return s.operator.JSON(ctx, client.Request{Method: http.MethodDelete, Path: "/kiln/v1/" + kind + "/" + id}, nil, nil)
}

// awaitWarm waits until n instances with the runtime are warm and hold a prepared container.
func (s *server) awaitWarm(ctx context.Context, runtime string, n int) error {
	return eventually(ctx, 20*time.Second, func() error {
		instances, err := list[place](ctx, s, "instances", url.Values{"state": {"warm"}}, 0)
		if err != nil {
			return err
		}
		containers, err := list[place](ctx, s, "containers", url.Values{"state": {"prepared"}}, 0)
		if err != nil {
			return err
		}
		prepared := map[string]bool{}
		for _, c := range containers {
			prepared[c.Instance] = true
		}
		ready := 0
		for _, i := range instances {
			if hasRuntime(i, runtime) && prepared[i.ID] {
				ready++
			}
		}
		if ready < n {
			return fmt.Errorf("%d of %d instances of %s are warm", ready, n, runtime)
		}
		return nil
	})
}

// eventually asks until the answer is nil, at most for the bound; then it gives the last answer.
func eventually(ctx context.Context, within time.Duration, ask func() error) error {
	end := time.Now().Add(within)
	for {
		err := ask()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("not within %s: %w", within, err)
		}
		if stopped := pause(ctx, 10*time.Millisecond); stopped != nil {
			return errors.Join(err, stopped)
		}
	}
}

// pause waits, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"kiln/internal/client"
)

// callLimit bounds one request of the client.
const callLimit = time.Minute

// job is what the client is asked to do: Clients callers send the same request over and over, each over a connection of
// its own and never two at once, until the time is over or the requests are made.
type job struct {
	URL     string
	Body    string
	Key     *client.Credentials // signed when there is one
	Clients int
	For     time.Duration // 0: until Requests are made
	// Requests bounds the requests of all callers together; 0: none but the time's.
	Requests int
	// Samples asks for each request's own answer and times.
	Samples bool
}

// sample is one request, by the client's clock (Unix nanoseconds).
type sample struct {
	Sent, Answered  int64
	Body            string
	ID              string // the request's
	Container, Path string // where the server says it ran, and how it came there
}

// tally is what came of a job. Times are in nanoseconds.
type tally struct {
	Requests, Failures int
	Failure            string // the first
	Elapsed            time.Duration
	P50, P95, P99      float64
	Samples            []sample
}

func (t tally) perSecond() float64 { return float64(t.Requests) / t.Elapsed.Seconds() }

// check makes an error of a tally that is of no use.
func (t tally) check() error {
	if t.Failures > 0 {
		return fmt.Errorf("%d of %d requests failed, the first so: %s", t.Failures, t.Requests+t.Failures, t.Failure)
	}
	if t.Requests == 0 {
		return errors.New("no request was answered")
	}
	return nil
}

// caller is the client's process.
type caller struct{ *process }

func (b *bench) newCaller(ctx context.Context) (caller, error) {
	var word string
	p, err := b.start(ctx, roleClient, &word, nil)
	return caller{p}, err
}

// do has the client do a job, none of whose requests may fail.
func (c caller) do(j job) (tally, error) {
	t, err := c.try(j)
	if err == nil {
		err = t.check()
	}
	return t, err
}

func (c caller) try(j job) (t tally, err error) {
	err = c.ask(j, &t)
	return t, err
}

// playClient is the client's side: an ordinary net/http client with keep-alive. A request is signed once for each job
// and the signature sent with every repetition (it is good for fifteen minutes), so that what is measured is the server
// and not the SDK's signer; the server verifies each one.
func playClient() error {
	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	c := &http.Client{Transport: transport, Timeout: callLimit}
	out, in := json.NewEncoder(os.Stdout), json.NewDecoder(os.Stdin)
	if err := out.Encode("up"); err != nil {
		return err
	}
	for {
		var j job
		if err := in.Decode(&j); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		t, err := perform(c, j)
		if err != nil {
			return err
		}
		if err := out.Encode(t); err != nil {
			return err
		}
	}
}

// request makes the request of a job, signed when it has a key.
func (j job) request() (*http.Request, error) {
	ctx := context.Background()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, j.URL, bytes.NewReader([]byte(j.Body)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if j.Key == nil {
		return req, nil
	}
	sum := sha256.Sum256([]byte(j.Body))
	key := aws.Credentials{AccessKeyID: j.Key.AccessKeyID, SecretAccessKey: j.Key.SecretAccessKey}
	return req, v4.NewSigner().SignHTTP(ctx, key, req, hex.EncodeToString(sum[:]), "lambda", j.Key.Region, time.Now())
}

// lane is one of a job's callers and what it saw.
type lane struct {
	took    []float64
	samples []sample
	failed  int
	failure string
}

func perform(c *http.Client, j job) (tally, error) {
	template, err := j.request()
	if err != nil {
		return tally{}, err
	}
	var left atomic.Int64
	left.Store(int64(j.Requests))
	begin := time.Now()
	end := begin.Add(j.For)
	lanes := make([]lane, j.Clients)
	var wg sync.WaitGroup
	for i := range lanes {
		wg.Go(func() {
			for (j.Requests == 0 || left.Add(-1) >= 0) && (j.For == 0 || time.Now().Before(end)) {
				lanes[i].once(c, template, j)
			}
		})
	}
	wg.Wait()
	t := tally{Elapsed: time.Since(begin)}
	var took []float64
	for _, l := range lanes {
		took = append(took, l.took...)
		t.Samples = append(t.Samples, l.samples...)
		t.Failures += l.failed
		if t.Failure == "" {
			t.Failure = l.failure
		}
	}
	t.Requests = len(took)
	t.P50, t.P95, t.P99 = quantile(took, 0.5), quantile(took, 0.95), quantile(took, 0.99)
	slices.SortFunc(t.Samples, func(a, b sample) int { return int(a.Answered - b.Answered) })
	return t, nil
}

// once sends the request and reads the whole answer.
func (l *lane) once(c *http.Client, template *http.Request, j job) {
	req := template.Clone(template.Context())
	req.Body = io.NopCloser(bytes.NewReader([]byte(j.Body)))
	sent := time.Now()
	body, res, err := send(c, req)
	answered := time.Now()
	if err == nil && (res.StatusCode != http.StatusOK || res.Header.Get("X-Amz-Function-Error") != "") {
		err = fmt.Errorf("%s %s: %.300s", res.Status, res.Header.Get("X-Amz-Function-Error"), body)
	}
	if err != nil {
		if l.failed++; l.failed == 1 {
			l.failure = err.Error()
		}
		return
	}
	l.took = append(l.took, float64(answered.Sub(sent)))
	if j.Samples {
		l.samples = append(l.samples, sample{
			Sent: sent.UnixNano(), Answered: answered.UnixNano(), Body: string(body), ID: res.Header.Get("X-Amzn-Requestid"),
			Container: res.Header.Get("X-Kiln-Container"), Path: res.Header.Get("X-Kiln-Acquisition-Path"),
		})
	}
}

func send(c *http.Client, req *http.Request) ([]byte, *http.Response, error) {
	res, err := c.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return body, res, err
}

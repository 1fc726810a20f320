package main

import (
	"bytes"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"kiln"
	"kiln/internal/client"
)

func (a *app) runCommand() *cobra.Command {
	var event, runtime, handler string
	var memory, timeout int
	var tail, verbose bool
	c := &cobra.Command{
		Use:     "run DIR|ZIP|FILE [-d JSON|@FILE|-]",
		Short:   "Run code once without registering it",
		Example: "  kiln run handler.py -d '{\"name\": \"Ada\"}'\n  kiln run ./bin/program --memory 512",
		Args:    oneName,
		RunE: func(c *cobra.Command, args []string) error {
			payload, err := a.readEvent(event)
			if err != nil {
				return err
			}
			p, err := pack(args[0])
			if err != nil {
				return err
			}
			cl, err := a.connect()
			if err != nil {
				return err
			}
			runtime, handler, err := a.guess(c.Context(), cl, p, runtime, handler)
			if err != nil {
				return err
			}
			q := url.Values{"runtime": {runtime}, "handler": {handler}}
			if memory > 0 {
				q.Set("memory", strconv.Itoa(memory))
			}
			if timeout > 0 {
				q.Set("timeout", strconv.Itoa(timeout))
			}
			req, err := runRequest(p.zip, payload, q)
			if err != nil {
				return err
			}
			if tail {
				req.Header.Set("X-Amz-Log-Type", "Tail")
			}
			got, err := a.send(c, cl, req, "running "+args[0])
			if err != nil {
				return err
			}
			return a.printAnswer(got, verbose)
		},
	}
	f := c.Flags()
	f.StringVarP(&event, "event", "d", "", "the event: JSON, @FILE, or - for standard input (default {})")
	f.StringVar(&runtime, "runtime", "", "AWS's identifier (guessed unless given)")
	f.StringVar(&handler, "handler", "", "what to call (guessed unless given)")
	f.IntVar(&memory, "memory", 0, "memory in MiB (128 unless given)")
	f.IntVar(&timeout, "timeout", 0, "the most it may take, in seconds (3 unless given)")
	f.BoolVar(&tail, "tail", false, "show the end of the log, on standard error")
	f.BoolVarP(&verbose, "verbose", "v", false, "show the acquisition path and where it ran, on standard error")
	return c
}

// runRequest makes the multipart body: the code, then the event.
func runRequest(code, event []byte, q url.Values) (client.Request, error) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, part := range []struct {
		name, file, kind string
		data             []byte
	}{{"code", "code.zip", "application/zip", code}, {"event", "event.json", "application/json", event}} {
		h := textproto.MIMEHeader{"Content-Type": {part.kind},
			"Content-Disposition": {`form-data; name="` + part.name + `"; filename="` + part.file + `"`}}
		p, err := w.CreatePart(h)
		if err != nil {
			return client.Request{}, err
		}
		if _, err := p.Write(part.data); err != nil {
			return client.Request{}, err
		}
	}
	if err := w.Close(); err != nil {
		return client.Request{}, err
	}
	return client.Request{Method: http.MethodPost, Path: "/kiln/v1/run", Query: q, Body: b.Bytes(),
		Header: http.Header{"Content-Type": {w.FormDataContentType()}}}, nil
}

// send makes an answer of a request that is answered as an invoke is.
func (a *app) send(c *cobra.Command, cl *client.Client, req client.Request, what string) (answer, error) {
	done := a.progress(what)
	defer done()
	start := time.Now()
	res, err := cl.Do(c.Context(), req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	raw, err := client.ReadAll(res.Body)
	if err != nil {
		return answer{}, err
	}
	got := answer{Status: res.StatusCode, FunctionError: res.Header.Get("X-Amz-Function-Error"), raw: raw,
		ExecutedVersion: res.Header.Get("X-Amz-Executed-Version"), TookMs: kiln.Millis(time.Since(start)),
		Log: decodeLog(res.Header.Get("X-Amz-Log-Result"))}
	got.readHeader(res.Header)
	return got, nil
}

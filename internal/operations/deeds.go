package operations

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
	"time"

	"kiln"
	"kiln/internal/invoke"
	"kiln/internal/ledger"
)

func (o *Operations) deleteInstance(c *call) error {
	if err := operatorOnly(c); err != nil {
		return err
	}
	if err := o.cfg.Pool.DeleteInstance(kiln.InstanceID(c.PathValue("id"))); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

func (o *Operations) deleteContainer(c *call) error {
	if err := operatorOnly(c); err != nil {
		return err
	}
	if err := o.cfg.Pool.DeleteContainer(kiln.ContainerID(c.PathValue("id"))); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// account is an account as this API shows it.
type account struct {
	Account kiln.AccountID `json:"account"`
	Created kiln.Time      `json:"created"`
}

func (o *Operations) accounts(c *call) error {
	if err := operatorOnly(c); err != nil {
		return err
	}
	out := list[account]{Items: []account{}}
	for _, a := range o.cfg.Identity.Accounts() {
		out.Items = append(out.Items, account{a.ID, kiln.Time{Time: a.Created}})
	}
	return o.ok(c, out)
}

func (o *Operations) createAccount(c *call) error {
	if err := operatorOnly(c); err != nil {
		return err
	}
	id, err := o.cfg.Identity.CreateAccount(c.Context())
	if err != nil {
		return err
	}
	return o.ok(c, account{id, kiln.Time{Time: time.Now()}})
}

// key is an access key as this API shows it. The secret is shown once, when the key is made.
type key struct {
	AccessKeyID     string         `json:"accessKeyId"`
	SecretAccessKey string         `json:"secretAccessKey,omitempty"`
	Account         kiln.AccountID `json:"account"`
	Region          string         `json:"region"`
	Created         kiln.Time      `json:"created"`
}

func (o *Operations) keys(c *call) error {
	whose, err := owner(c)
	if err != nil {
		return err
	}
	out := list[key]{Items: []key{}}
	for _, a := range o.cfg.Identity.Accounts() {
		if whose != "" && a.ID != whose {
			continue
		}
		for _, k := range o.cfg.Identity.Keys(a.ID) {
			out.Items = append(out.Items, key{AccessKeyID: k.ID, Account: k.Account, Region: o.cfg.Region, Created: kiln.Time{Time: k.Created}})
		}
	}
	return o.ok(c, out)
}

func (o *Operations) createKey(c *call) error {
	if err := operatorOnly(c); err != nil {
		return err
	}
	var in struct {
		Account kiln.AccountID `json:"account"`
	}
	if err := json.Unmarshal(c.body, &in); err != nil || in.Account == "" {
		return kiln.Errorf(kiln.KindInvalid, "operations: create key", `the body must be {"account": "…"}`)
	}
	k, err := o.cfg.Identity.CreateKey(c.Context(), in.Account)
	if err != nil {
		return err
	}
	return o.ok(c, key{AccessKeyID: k.ID, SecretAccessKey: k.Secret, Account: k.Account, Region: o.cfg.Region, Created: kiln.Time{Time: k.Created}})
}

// deleteKey takes an access key back: requests signed with it are refused from then on.
func (o *Operations) deleteKey(c *call) error {
	if err := operatorOnly(c); err != nil {
		return err
	}
	if err := o.cfg.Identity.DeleteKey(c.Context(), c.PathValue("id")); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// logs answers the lines of a function's log: the newest, or with follow=1 also those to come until the client goes.
func (o *Operations) logs(c *call) error {
	since, err := instant(c, "since")
	if err != nil {
		return err
	}
	n, err := limit(c)
	if err != nil {
		return err
	}
	whose := c.caller.Account
	if asked, err := owner(c); err != nil {
		return err
	} else if asked != "" {
		whose = asked
	}
	name := c.PathValue("function")
	if _, err := o.cfg.Registry.Get(whose, name, ""); err != nil {
		return err
	}
	log := o.cfg.Ledger.Log(whose, name)
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	c.w.Header().Set("X-Amzn-RequestId", string(c.id))
	tail := ledger.Tail{Lines: n, Since: since}
	if c.URL.Query().Get("follow") == "" {
		for _, line := range log.Tail(tail) {
			_, _ = io.WriteString(c.w, line.Text+"\n")
		}
		return nil
	}
	return o.follow(c, log, tail)
}

// follow writes lines as they come until the client or the server goes.
func (o *Operations) follow(c *call, log *ledger.Log, tail ledger.Tail) error {
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	defer context.AfterFunc(o.cfg.Draining, cancel)()
	lines, err := log.Follow(ctx, tail)
	if err != nil {
		return err
	}
	flusher := http.NewResponseController(c.w)
	_ = flusher.Flush()
	for line := range lines {
		if _, err := io.WriteString(c.w, line.Text+"\n"); err != nil {
			return nil
		}
		_ = flusher.Flush()
	}
	return nil
}

// run executes code that came with its request and is registered nowhere.
func (o *Operations) run(c *call) error {
	received := time.Now()
	zip, event, err := parts(c)
	if err != nil {
		return err
	}
	version, err := o.passing(c, zip)
	if err != nil {
		return err
	}
	c.body = nil
	c.received() // what was large is put away: executing takes no place
	req := invoke.Request{
		ID: c.id, Caller: c.caller.Account, Trigger: kiln.TriggerRun, Account: c.caller.Account, Version: version,
		Payload: event, Tail: c.Header.Get("X-Amz-Log-Type") == "Tail", Received: received,
	}
	var res invoke.Result
	if err := o.cfg.Invoker.Invoke(o.cfg.Ended, &req, &res); err != nil {
		return err
	}
	o.cfg.Pool.Forget(version.ID())
	h := c.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Amzn-RequestId", string(c.id))
	for name, value := range res.Headers {
		h.Set(name, value)
	}
	h.Set("Content-Length", strconv.Itoa(len(res.Payload)))
	_, _ = c.w.Write(res.Payload)
	return nil
}

// passing makes the version that a request with code of its own runs, and puts the code away.
func (o *Operations) passing(c *call, zip []byte) (*kiln.Version, error) {
	const op = "operations: read code"
	q := c.URL.Query()
	if err := known(q, "runtime", "handler", "memory", "timeout"); err != nil {
		return nil, err
	}
	v := &kiln.Version{
		Account: c.caller.Account, Number: kiln.Latest, Revision: string(c.id), Runtime: q.Get("runtime"), Handler: q.Get("handler"),
		MemoryMiB: kiln.MinMemoryMiB, TimeoutMillis: 3000, DiskMiB: 512, Architecture: o.cfg.Architecture, Modified: time.Now(),
	}
	if v.Runtime == "" || v.Handler == "" {
		return nil, kiln.Errorf(kiln.KindInvalid, op, "say runtime and handler in the query, e.g. ?runtime=python3.12&handler=index.handler")
	}
	for name, set := range map[string]func(int) bool{
		"memory":  func(n int) bool { v.MemoryMiB = n; return n >= kiln.MinMemoryMiB && n <= kiln.MaxMemoryMiB },
		"timeout": func(n int) bool { v.TimeoutMillis = int64(n) * 1000; return n >= 1 && n <= 900 },
	} {
		if text := q.Get(name); text != "" {
			if n, err := strconv.Atoi(text); err != nil || !set(n) {
				return nil, kiln.Errorf(kiln.KindInvalid, op, "%s is out of range: memory is 128 to 10240 MiB, timeout 1 to 900 seconds", name)
			}
		}
	}
	if err := o.cfg.RuntimeKnown(v.Runtime, v.Architecture); err != nil {
		return nil, err
	}
	if err := o.cfg.Room(); err != nil {
		return nil, err
	}
	var err error
	v.Package, v.PackageBytes, err = o.cfg.Packages.PutZip(c.Context(), bytes.NewReader(zip), int64(len(zip)))
	return v, err
}

// parts reads the body of run: a part "code", a zip, and a part "event", JSON.
func parts(c *call) (zip, event []byte, err error) {
	const op = "operations: read body"
	kind, params, err := mime.ParseMediaType(c.Header.Get("Content-Type"))
	if err != nil || !strings.HasPrefix(kind, "multipart/") {
		return nil, nil, kiln.Errorf(kiln.KindInvalid, op, "send multipart/form-data with a part code (a zip) and a part event (JSON)")
	}
	form := multipart.NewReader(bytes.NewReader(c.body), params["boundary"])
	for {
		part, err := form.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, nil, kiln.Wrap(kiln.KindMalformed, op, "the parts of the body cannot be told apart", err)
		}
		b, err := io.ReadAll(part)
		if err != nil {
			return nil, nil, kiln.Wrap(kiln.KindMalformed, op, "a part of the body cannot be read", err)
		}
		switch part.FormName() {
		case "code":
			zip = b
		case "event":
			event = b
		}
	}
	if len(zip) == 0 {
		return nil, nil, kiln.Errorf(kiln.KindInvalid, op, "the part code, a zip, is missing")
	}
	if len(event) > kiln.MaxPayloadBytes {
		return nil, nil, kiln.Errorf(kiln.KindTooLarge, op, "the event must be at most %d bytes", kiln.MaxPayloadBytes)
	}
	return zip, event, nil
}

package frontend

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"kiln"
	"kiln/internal/identity"
	"kiln/internal/invoke"
)

// maxClientContextBytes bounds X-Amz-Client-Context, in base64 (AWS: 3,583 bytes).
const maxClientContextBytes = 3583

// invocation is one Invoke being answered.
type invocation struct {
	id       kiln.RequestID
	received time.Time
	dryRun   bool
	result   invoke.Result
}

// answer executes the Invoke whose head and body were read and appends the whole HTTP answer to out.
func (f *Frontend) answer(out []byte, h *head, body []byte, bodyErr error, chance source, keep bool) []byte {
	in := invocation{id: newRequestID(chance), received: time.Now()}
	err := bodyErr
	if err == nil {
		err = f.invoke(&in, h, body, chance)
	}
	if err != nil {
		return f.appendError(out, in.id, err, keep)
	}
	return f.appendAnswer(out, &in, keep)
}

// invoke finds out who asks for what and has it executed.
func (f *Frontend) invoke(in *invocation, h *head, body []byte, chance source) error {
	caller, err := f.authenticate(h, body)
	if err != nil {
		return err
	}
	req := invoke.Request{ID: in.id, Caller: caller.Account, Trigger: kiln.TriggerInvoke, Payload: body, Received: in.received}
	if err := f.named(&req, h, caller); err != nil {
		return err
	}
	if err := f.asked(in, &req, h); err != nil {
		return err
	}
	if in.dryRun {
		_, err := f.cfg.Invoker.Resolve(req.Account, req.Function, req.Qualifier)
		return err
	}
	if req.TraceID = string(h.get("x-amzn-trace-id")); req.TraceID == "" || len(req.TraceID) > 256 {
		req.TraceID = newTraceID(chance, in.received)
	}
	// The server's own context: code that runs outlives its caller's connection, as on AWS.
	return f.cfg.Invoker.Invoke(f.cfg.Ended, &req, &in.result)
}

// named reads which function the path and the query name, and whether the caller may name it.
func (f *Frontend) named(req *invoke.Request, h *head, caller identity.Caller) error {
	const op = "frontend: read function name"
	escaped := bytes.TrimSuffix(bytes.TrimSuffix(h.path[len(invokePrefix):], []byte("/")), []byte(invokeSuffix))
	name := string(escaped)
	if bytes.IndexByte(escaped, '%') >= 0 {
		var err error
		if name, err = url.PathUnescape(name); err != nil {
			return kiln.Errorf(kiln.KindInvalid, op, "the function name is not well escaped")
		}
	}
	qualifier := ""
	if len(h.query) > 0 {
		q, err := url.ParseQuery(string(h.query))
		if err != nil {
			return kiln.Errorf(kiln.KindInvalid, op, "the query is not well escaped")
		}
		qualifier = q.Get("Qualifier")
	}
	ref, err := f.readReference(name, qualifier, caller)
	if err != nil {
		return err
	}
	if err := f.mayInvoke(ref, caller); err != nil {
		return err
	}
	req.Account, req.Function, req.Qualifier = ref.Account, ref.Name, ref.Qualifier
	return nil
}

// asked reads how the function is to be executed.
func (f *Frontend) asked(in *invocation, req *invoke.Request, h *head) error {
	const op = "frontend: read invoke"
	switch kind := string(h.get("x-amz-invocation-type")); kind {
	case "", "RequestResponse":
	case "DryRun":
		in.dryRun = true
	case "Event":
		return kiln.Errorf(kiln.KindUnsupported, op, "Kiln does not serve Invoke with the invocation type Event yet; use RequestResponse.")
	default:
		return invalidEnum("invocationType", kind, "[Event, RequestResponse, DryRun]")
	}
	switch kind := string(h.get("x-amz-log-type")); kind {
	case "", "None":
	case "Tail":
		req.Tail = true
	default:
		return invalidEnum("logType", kind, "[None, Tail]")
	}
	if encoded := h.get("x-amz-client-context"); len(encoded) > 0 {
		if len(encoded) > maxClientContextBytes {
			return kiln.Errorf(kiln.KindInvalid, op, "Client context must be at most %d bytes in base64", maxClientContextBytes)
		}
		decoded, err := base64.StdEncoding.AppendDecode(nil, encoded)
		if err != nil {
			return kiln.Errorf(kiln.KindInvalid, op, "Client context must be a valid Base64-encoded JSON object.")
		}
		req.ClientContext = decoded
	}
	if text := h.get("x-kiln-memory"); len(text) > 0 {
		n, err := strconv.Atoi(string(text))
		if err != nil || n <= 0 {
			return kiln.Errorf(kiln.KindInvalid, op, "X-Kiln-Memory must be a whole number of MiB")
		}
		req.MemoryMiB = n
	}
	return nil
}

func invalidEnum(member, value, set string) error {
	e := kiln.Errorf(kiln.KindInvalid, "frontend: read invoke", "1 validation error detected: Value '%s' at '%s' failed to satisfy constraint: Member must satisfy enum value set: %s", value, member, set)
	e.Reason = "ValidationException"
	return e
}

// reference reads a function as a caller named it, in path and query, and refuses another account's, whose owner alone may
// read and change it: nobody else may learn whether it exists.
func (f *Frontend) reference(c *call, name, qualifier string) (kiln.FunctionRef, error) {
	ref, err := f.readReference(name, qualifier, c.caller)
	if err == nil && ref.Account != c.caller.Account {
		err = kiln.Errorf(kiln.KindDenied, "frontend: read function name",
			"User: arn:aws:iam::%s:root is not authorized to perform: lambda:%s on resource: %s because no resource-based policy allows the lambda:%s action",
			c.caller.Account, c.operation, kiln.FunctionARN(f.cfg.Region, ref.Account, ref.Name, ref.Qualifier), c.operation)
	}
	return ref, err
}

// readReference reads a function as a caller named it, in path and query. One without an account is the caller's.
func (f *Frontend) readReference(name, qualifier string, caller identity.Caller) (kiln.FunctionRef, error) {
	const op = "frontend: read function name"
	ref, ok := kiln.ParseFunctionRef(name)
	if !ok {
		e := kiln.Errorf(kiln.KindInvalid, op, "1 validation error detected: Value '%s' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: (arn:(aws[a-zA-Z-]*)?:lambda:)?([a-z]{2}(-gov)?-[a-z]+-\\d{1}:)?(\\d{12}:)?(function:)?([a-zA-Z0-9-_\\.]+)(:(\\$LATEST|[a-zA-Z0-9-_]+))?", name)
		e.Reason = "ValidationException"
		return ref, e
	}
	if ref.Account == "" {
		ref.Account = caller.Account
	}
	if ref.Region != "" && ref.Region != f.cfg.Region {
		return ref, kiln.Errorf(kiln.KindNotFound, op, "Functions from '%s' are not reachable in this region ('%s')", ref.Region, f.cfg.Region)
	}
	switch {
	case ref.Qualifier == "":
		ref.Qualifier = qualifier
	case qualifier != "" && qualifier != ref.Qualifier:
		return ref, kiln.Errorf(kiln.KindInvalid, op, "The derived qualifier from the function name does not match the specified qualifier.")
	}
	return ref, nil
}

// appendAnswer writes the answer of an Invoke that was executed, or would have been.
func (f *Frontend) appendAnswer(out []byte, in *invocation, keep bool) []byte {
	if in.dryRun {
		out = append(out, "HTTP/1.1 204 No Content\r\nx-amzn-RequestId: "...)
		out = append(append(out, in.id...), "\r\n"...)
		return append(appendConnection(out, keep), "\r\n"...)
	}
	out = append(out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: "...)
	out = in.received.UTC().AppendFormat(out, http.TimeFormat)
	out = appendField(out, "x-amzn-RequestId", string(in.id))
	for name, value := range in.result.Headers {
		out = appendField(out, name, value)
	}
	out = append(out, "\r\nContent-Length: "...)
	out = strconv.AppendInt(out, int64(len(in.result.Payload)), 10)
	out = append(appendConnection(append(out, "\r\n"...), keep), "\r\n"...)
	return append(out, in.result.Payload...)
}

func appendField(out []byte, name, value string) []byte {
	out = append(out, "\r\n"...)
	out = append(out, name...)
	out = append(out, ": "...)
	return append(out, value...)
}

func appendConnection(out []byte, keep bool) []byte {
	if keep {
		return out
	}
	return append(out, "Connection: close\r\n"...)
}

// appendError writes an error answer. Errors are not in a hurry: they are written by the code of the ordinary way.
func (f *Frontend) appendError(out []byte, id kiln.RequestID, err error, keep bool) []byte {
	m := memory{header: http.Header{}}
	f.writeError(&m, id, nil, err)
	m.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	m.header.Set("Content-Length", strconv.Itoa(m.body.Len()))
	if !keep {
		m.header.Set("Connection", "close")
	}
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 " + strconv.Itoa(m.status) + " " + http.StatusText(m.status) + "\r\n")
	_ = m.header.Write(&b)
	b.WriteString("\r\n")
	_, _ = m.body.WriteTo(&b)
	return append(out, b.Bytes()...)
}

// memory is a ResponseWriter that keeps what it is given.
type memory struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (m *memory) Header() http.Header { return m.header }

// WriteHeader implements http.ResponseWriter.
func (m *memory) WriteHeader(status int) { m.status = status }

// Write implements http.ResponseWriter.
func (m *memory) Write(b []byte) (int, error) { return m.body.Write(b) }

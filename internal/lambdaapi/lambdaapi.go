// Package lambdaapi is the wire of the AWS Lambda API (2015-03-31): which operation a request is, its typed input with
// AWS's constraints checked in AWS's words, and answers and errors as AWS writes them. Types, checks, operations and
// errors are generated from AWS's own model (zz_*_gen.go, by gen); the rest is by hand.
//
// It is not for deciding anything, signatures, the frames of streamed answers, or other services. Only package frontend
// calls it. It keeps no state: everything is safe to call from many goroutines, and there are no locks.
//
// How the model's shapes became Go: a member is a pointer, nil when absent, but for lists, maps and blobs, nil when
// absent as they are (empty and not nil is written as [] or {}), and for what the path gives, which is always there. An
// integer is int32, a long int64, a timestamp Time. The shape Operation is DurableOperation here.
package lambdaapi

//go:generate go run ./gen

import (
	"bytes"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"kiln"
)

// Operation is one operation of the API. The values are shared and must not be changed.
type Operation struct {
	// Name is AWS's, "CreateFunction".
	Name string
	// Method is the HTTP method.
	Method string
	// Status is the status of a good answer, unless the answer says another.
	Status int
	// Path is the model's, "/2015-03-31/functions/{FunctionName}".
	Path string

	// splitKey and splitValue are the query that tells the operation from another on the same path.
	splitKey, splitValue string
	decode               func(*request) (checked, any)
	encode               func(*answer, any) bool // nil when there is no answer to write
}

// Operations gives every operation, by name.
func Operations() iter.Seq[*Operation] {
	return func(yield func(*Operation) bool) {
		for i := range operations {
			if !yield(&operations[i]) {
				return
			}
		}
	}
}

// Decode reads a request of the operation Route found into its generated struct (a *CreateFunctionRequest for
// CreateFunction; *InvocationRequest for Invoke) and checks AWS's constraints. Members nobody knows are passed over; an
// empty body counts as {}. The input keeps body when the body is the payload. The caller bounds the body. Header names
// must be in canonical form, as net/http gives them.
//
// Errors: KindMalformed with Reason "InvalidRequestContentException" for a body that is no JSON or holds a wrong type,
// or "SerializationException" for a number, boolean or time of the path or query that is none; KindInvalid with Reason
// "ValidationException" and AWS's text.
func Decode(op *Operation, params map[string]string, query url.Values, header http.Header, body []byte) (input any, err error) {
	r := request{op: op, params: params, query: query, header: header, body: body}
	in, input := op.decode(&r)
	if r.err != nil {
		return nil, r.err
	}
	if err := check(in); err != nil {
		return nil, err
	}
	return input, nil
}

// The media types of answers.
const (
	typeJSON   = "application/json"
	typeStream = "application/vnd.amazon.eventstream"
)

// answer is an answer being made ready.
type answer struct {
	header   http.Header
	status   int
	json     any
	raw      []byte
	isRaw    bool
	isStream bool
}

func (a *answer) set(name string, value *string) {
	if value != nil {
		a.header[name] = []string{*value}
	}
}

// encodeBody takes an answer that is nothing but JSON.
func encodeBody[T any](a *answer, output any) bool {
	out, ok := output.(*T)
	a.json = out
	return ok && out != nil
}

// Encode writes a good answer: the status (the output's own where it has one), header members, then the body: JSON, or
// the payload as it is. Of InvokeWithResponseStream it writes the head only; the frames are the caller's. The content
// type is JSON unless the header has one already. Output is the generated struct by pointer, or nil for an operation
// that answers nothing.
//
// Errors: KindInternal, with nothing written, for an output that is not the operation's; KindUnavailable when the
// connection failed.
func Encode(w http.ResponseWriter, op *Operation, output any) error {
	const doing = "lambdaapi: encode"
	a := answer{header: w.Header(), status: op.Status}
	if op.encode == nil && output != nil || op.encode != nil && !op.encode(&a, output) {
		return kiln.Errorf(kiln.KindInternal, doing, "%s does not answer %T", op.Name, output)
	}
	if a.isStream {
		setDefault(a.header, "Content-Type", typeStream)
		w.WriteHeader(a.status)
		return nil
	}
	body := a.raw
	if a.json != nil {
		var err error
		if body, err = marshal(a.json); err != nil {
			return kiln.Wrap(kiln.KindInternal, doing, op.Name+" cannot be written", err)
		}
	}
	if a.status == http.StatusNoContent {
		body = nil
	} else {
		a.header["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	if len(body) > 0 {
		setDefault(a.header, "Content-Type", typeJSON)
	}
	return write(w, a.status, body)
}

func write(w http.ResponseWriter, status int, body []byte) error {
	w.WriteHeader(status)
	if len(body) == 0 {
		return nil
	}
	if _, err := w.Write(body); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, "lambdaapi: write answer", "the connection failed", err)
	}
	return nil
}

func setDefault(h http.Header, name, value string) {
	if len(h[name]) == 0 {
		h[name] = []string{value}
	}
}

// marshal writes JSON without escaping what only HTML needs escaped.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

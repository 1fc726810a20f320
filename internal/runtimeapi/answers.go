package runtimeapi

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"kiln"
)

// What the calls of the API answer. The texts are AWS's.
const (
	statusOK = `{"status":"OK"}` + "\n"
	accepted = "HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n" + statusOK
	proceed  = "HTTP/1.1 100 Continue\r\n\r\n"
	pong     = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 4\r\n\r\npong"
)

// refusal is an answer that tells the runtime it did something wrong.
type refusal struct {
	status  string
	kind    string
	message string
	header  string // one further header line, with its end
	ends    bool   // the connection is closed after it
}

var ( // never written
	refuseID        = refusal{status: "400 Bad Request", kind: "InvalidRequestID", message: "Invalid request ID"}
	refuseMode      = refusal{status: "400 Bad Request", kind: "InvalidFunctionResponseMode", message: "Invalid function response mode"}
	refuseTruncated = refusal{status: "400 Bad Request", kind: "TruncatedHTTPRequest", message: "HTTP request detected as truncated", ends: true}
	refuseMalformed = refusal{status: "400 Bad Request", kind: "InvalidRequestFormat", message: "Malformed HTTP request", ends: true}
	refuseHead      = refusal{status: "431 Request Header Fields Too Large", kind: "RequestHeaderTooLarge", message: "Request header over its limit", ends: true}
	refuseVersion   = refusal{status: "505 HTTP Version Not Supported", kind: "InvalidRequestFormat", message: "Only HTTP/1.0 and HTTP/1.1 are spoken here", ends: true}
	refuseEncoding  = refusal{status: "501 Not Implemented", kind: "InvalidRequestFormat", message: "Only the chunked transfer encoding is understood", ends: true}
	refuseSlow      = refusal{status: "408 Request Timeout", kind: "RequestTimeout", message: "The request took too long to arrive", ends: true}
	refusePath      = refusal{status: "404 Not Found", kind: "NotFound", message: "404 page not found"}
)

// refuseState is AWS's answer to a call that the runtime's state forbids.
func refuseState(from, to string) refusal {
	return refusal{status: "403 Forbidden", kind: "InvalidStateTransition",
		message: "State transition from " + from + " to " + to + " failed for runtime. Error: State transition is not allowed"}
}

func refuseTooLarge(limit int) refusal {
	return refusal{status: "413 Request Entity Too Large", kind: "RequestEntityTooLarge",
		message: "Exceeded maximum allowed payload size (" + strconv.Itoa(limit) + " bytes)."}
}

func refuseMethod(allow string) refusal {
	return refusal{status: "405 Method Not Allowed", kind: "MethodNotAllowed", message: "Method not allowed", header: "Allow: " + allow + "\r\n"}
}

// append renders the refusal as a whole response.
func (f refusal) append(b []byte) []byte {
	body := errorBody("", f.kind, f.message, true)
	b = append(b, "HTTP/1.1 "...)
	b = append(b, f.status...)
	b = append(b, "\r\nContent-Type: application/json\r\n"...)
	b = append(b, f.header...)
	if f.ends {
		b = append(b, "Connection: close\r\n"...)
	}
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(b, "\r\n\r\n"...)
	return append(b, body...)
}

// appendEvent renders the event as the answer to GET /next. Headers are there only when they say something.
func appendEvent(b []byte, d *kiln.Delivery) []byte {
	b = append(b, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: "...)
	b = append(b, d.RequestID...)
	b = append(b, "\r\nLambda-Runtime-Deadline-Ms: "...)
	b = strconv.AppendInt(b, d.Deadline.UnixMilli(), 10)
	b = appendHeader(b, "\r\nLambda-Runtime-Invoked-Function-Arn: ", d.ARN)
	b = appendHeader(b, "\r\nLambda-Runtime-Trace-Id: ", d.TraceID)
	b = appendHeader(b, "\r\nLambda-Runtime-Client-Context: ", d.ClientContext)
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(d.Payload)), 10)
	return append(b, "\r\n\r\n"...)
}

// appendHeader adds a header unless its value is empty. What callers gave may hold line ends (client context is JSON as
// they wrote it): control characters become spaces, so that no caller writes headers of his own.
func appendHeader(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, name...)
	from := len(b)
	b = append(b, value...)
	for i, c := range b[from:] {
		if c < ' ' || c == 0x7f {
			b[from+i] = ' '
		}
	}
	return b
}

// errorBody is AWS's JSON for an error. messageFirst chooses between its two orders of the members.
func errorBody(id kiln.RequestID, kind, message string, messageFirst bool) []byte {
	if id != "" {
		message = "RequestId: " + string(id) + " Error: " + message
	}
	m, _ := json.Marshal(message) // a string always marshals
	k, _ := json.Marshal(kind)
	if messageFirst {
		return fmt.Appendf(nil, `{"errorMessage":%s,"errorType":%s}`, m, k)
	}
	return fmt.Appendf(nil, `{"errorType":%s,"errorMessage":%s}`, k, m)
}

// timedOut is the failure of an execution or initialisation that took longer than limit. The limit is shown as the
// function's own setting: what is left at the hand-over is a little less, so it is rounded to tenths of a second.
func timedOut(outcome kiln.Outcome, id kiln.RequestID, limit time.Duration) *kiln.Failure {
	seconds := max(limit, 0).Round(100 * time.Millisecond).Seconds()
	return &kiln.Failure{Outcome: outcome, Type: "Sandbox.Timedout",
		Payload: errorBody(id, "Sandbox.Timedout", fmt.Sprintf("Task timed out after %.2f seconds", seconds), false)}
}

// exited is the failure of an execution or initialisation whose process ended.
func exited(outcome kiln.Outcome, id kiln.RequestID, e *kiln.Exit) *kiln.Failure {
	if e.Memory {
		return &kiln.Failure{Outcome: kiln.OutcomeMemory, Type: "Runtime.OutOfMemory",
			Payload: errorBody(id, "Runtime.OutOfMemory", "Runtime exited with error: signal: killed", false)}
	}
	message := "Runtime exited with error: " + e.Status
	if e.Status == "" || e.Status == "exit status 0" {
		message = "Runtime exited without providing a reason"
	}
	return &kiln.Failure{Outcome: outcome, Type: "Runtime.ExitError", Payload: errorBody(id, "Runtime.ExitError", message, false)}
}

// ended is the failure of an execution whose container was taken away, or whose caller gave up.
func ended(id kiln.RequestID, why string) *kiln.Failure {
	return &kiln.Failure{Outcome: kiln.OutcomeFailed, Type: "Sandbox.Failure", Payload: errorBody(id, "Sandbox.Failure", why, false)}
}

// tooLarge is the failure of an execution that answered more than limit bytes.
func tooLarge(limit int) *kiln.Failure {
	const kind = "Function.ResponseSizeTooLarge"
	return &kiln.Failure{Outcome: kiln.OutcomeError, Type: kind, Payload: errorBody("", kind,
		"Response payload size exceeded maximum allowed payload size ("+strconv.Itoa(limit)+" bytes).", true)}
}

// truncatedAnswer is the failure of an execution whose answer broke off.
func truncatedAnswer(id kiln.RequestID) *kiln.Failure {
	const kind = "Runtime.TruncatedResponse"
	return &kiln.Failure{Outcome: kiln.OutcomeCrash, Type: kind, Payload: errorBody(id, kind, "Response from runtime was truncated", false)}
}

// reported is the failure a runtime told itself, with its own body. The type is the body's unless the header gives one
// of the platform's.
func reported(outcome kiln.Outcome, header string, body []byte) *kiln.Failure {
	kind := errorType(header)
	if kind == "Runtime.Unknown" || kind == "Function.Unknown" {
		var told struct {
			ErrorType string `json:"errorType"`
		}
		if json.Unmarshal(body, &told) == nil && told.ErrorType != "" {
			kind = told.ErrorType
		}
	}
	if kind == "Runtime.ExitError" && outcome == kiln.OutcomeError {
		outcome = kiln.OutcomeCrash // of one of the runtime's processes, where it has several
	}
	return &kiln.Failure{Outcome: outcome, Type: kind, Payload: body}
}

// streamed is the failure a streaming runtime told in the trailers, its body in base64.
func streamed(kind, body string) *kiln.Failure {
	b, err := base64.StdEncoding.DecodeString(body)
	if err != nil || len(b) == 0 {
		b = errorBody("", errorType(kind), "The response stream failed", true)
	}
	return reported(kiln.OutcomeError, kind, b)
}

var platformType = regexp.MustCompile(`^(Runtime|Function)\.[A-Z][a-zA-Z]+$`)

// errorType maps what a runtime calls its error to the names AWS lets pass.
func errorType(header string) string {
	switch {
	case platformType.MatchString(header):
		return header
	case len(header) > 9 && header[:9] == "Function.":
		return "Function.Unknown"
	}
	return "Runtime.Unknown"
}

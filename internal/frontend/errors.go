package frontend

import (
	"errors"
	"net/http"

	"kiln"
	"kiln/internal/lambdaapi"
)

// awsName is how a kind of error is called on AWS's wire. An error's Reason, where it is an AWS code of its own, comes
// first.
type awsName struct {
	code   string
	status int
}

// awsNames is the one table from kinds to AWS's names and statuses (model 2015-03-31; the names outside the model are
// those AWS's front end gives).
var awsNames = map[kiln.Kind]awsName{
	kiln.KindInternal:        {"ServiceException", http.StatusInternalServerError},
	kiln.KindInvalid:         {"InvalidParameterValueException", http.StatusBadRequest},
	kiln.KindMalformed:       {"InvalidRequestContentException", http.StatusBadRequest},
	kiln.KindNotFound:        {"ResourceNotFoundException", http.StatusNotFound},
	kiln.KindConflict:        {"ResourceConflictException", http.StatusConflict},
	kiln.KindPrecondition:    {"PreconditionFailedException", http.StatusPreconditionFailed},
	kiln.KindDenied:          {"AccessDeniedException", http.StatusForbidden},
	kiln.KindUnauthenticated: {"UnrecognizedClientException", http.StatusForbidden},
	kiln.KindThrottled:       {"TooManyRequestsException", http.StatusTooManyRequests},
	kiln.KindTooLarge:        {"RequestTooLargeException", http.StatusRequestEntityTooLarge},
	kiln.KindUnsupported:     {"UnknownOperationException", http.StatusNotImplemented},
	kiln.KindUnavailable:     {"ServiceUnavailableException", http.StatusServiceUnavailable},
	kiln.KindCorrupt:         {"ServiceException", http.StatusInternalServerError},
	kiln.KindLimit:           {"CodeStorageExceededException", http.StatusBadRequest},
}

// retryAfterSeconds is what a throttled caller is told to wait.
const retryAfterSeconds = "1"

// writeError answers an error in AWS's form. Causes go to the log, not to the caller.
func (f *Frontend) writeError(w http.ResponseWriter, id kiln.RequestID, op *lambdaapi.Operation, err error) {
	e, ok := errors.AsType[*kiln.Error](err)
	if !ok {
		e = kiln.Wrap(kiln.KindInternal, "frontend: answer", "something failed inside Kiln; the log of the server says more", err)
	}
	name := awsNames[e.Kind]
	shape, known := lambdaapi.ErrorNamed(name.code)
	if !known {
		shape = lambdaapi.ErrorShape{Code: name.code, MessageMember: "Message", Type: "User"}
	}
	shape.Status = name.status
	var extra map[string]any
	switch {
	case e.Kind == kiln.KindThrottled:
		extra = map[string]any{"Reason": e.Reason, "retryAfterSeconds": retryAfterSeconds}
	case e.Reason != "":
		if named, known := lambdaapi.ErrorNamed(e.Reason); known {
			shape = named
		} else {
			shape.Code, shape.MessageMember = e.Reason, "message"
		}
	}
	refusal := e.Kind == kiln.KindUnavailable && e.Cause == nil // told to the caller and counted; nothing has failed
	if shape.Status >= http.StatusInternalServerError && shape.Status != http.StatusNotImplemented && !refusal {
		f.cfg.Logger.Error("request failed", "request", id, "operation", operationName(op), "error", err)
	}
	f.refusals.WithLabelValues(shape.Code).Inc()
	shape.Encode(w, string(id), e.Message, extra)
}

// isUnsigned reports whether an error says that there was no signature at all.
func isUnsigned(err error) bool {
	e, ok := errors.AsType[*kiln.Error](err)
	return ok && e.Kind == kiln.KindUnauthenticated && e.Reason == "MissingAuthenticationTokenException"
}

func operationName(op *lambdaapi.Operation) string {
	if op == nil {
		return ""
	}
	return op.Name
}

package lambdaapi

import (
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"sync"
)

// ErrorShape is one error of the API as it is written.
type ErrorShape struct {
	// Code is AWS's name, "ResourceNotFoundException".
	Code string
	// Status is the HTTP status.
	Status int
	// MessageMember is the member that holds the message: "Message" or "message", as the shape has it.
	MessageMember string
	// Type is "User" for the caller's fault, "Service" for ours, "" where AWS writes none.
	Type string

	// headerMember is the one member that travels as a header.
	headerMember, header string
}

// unmodelled are errors that AWS's front answers with and the model does not have.
var unmodelled = [...]ErrorShape{
	{Code: "AccessDeniedException", Status: 403, MessageMember: "Message"},
	{Code: "ExpiredTokenException", Status: 403, MessageMember: "message"},
	{Code: "IncompleteSignatureException", Status: 403, MessageMember: "message"},
	{Code: "InvalidSignatureException", Status: 403, MessageMember: "message"},
	{Code: "MissingAuthenticationTokenException", Status: 403, MessageMember: "message"},
	{Code: "UnrecognizedClientException", Status: 403, MessageMember: "message"},
	{Code: "RequestEntityTooLargeException", Status: 413, MessageMember: "message"},
	{Code: "SerializationException", Status: 400, MessageMember: "Message"},
	{Code: "ServiceUnavailableException", Status: 503, MessageMember: "message"},
	{Code: "UnknownOperationException", Status: 404, MessageMember: "message"},
	{Code: "ValidationException", Status: 400, MessageMember: "message"},
}

var errorsByCode = sync.OnceValue(func() map[string]ErrorShape {
	all := make(map[string]ErrorShape, len(errorShapes)+len(unmodelled))
	for _, s := range unmodelled {
		all[s.Code] = s
	}
	for _, s := range errorShapes {
		all[s.Code] = s
	}
	return all
})

// ErrorNamed gives the error of a code: the model's, and those that AWS's front answers with.
func ErrorNamed(code string) (ErrorShape, bool) {
	s, ok := errorsByCode()[code]
	return s, ok
}

// Encode writes an error answer of this shape. Extra are further members, such as Reason; one that the shape sends as a
// header (retryAfterSeconds) is sent as one. A failed connection is passed over: there is nobody left to tell.
func (s ErrorShape) Encode(w http.ResponseWriter, requestID, message string, extra map[string]any) {
	body := make(map[string]any, 2+len(extra))
	if s.Type != "" {
		body["Type"] = s.Type
	}
	maps.Copy(body, extra)
	member := s.MessageMember
	if member == "" {
		member = "message"
	}
	body[member] = message
	h := w.Header()
	if v, ok := body[s.headerMember]; ok && s.header != "" {
		h.Set(s.header, fmt.Sprint(v))
		delete(body, s.headerMember)
	}
	text, err := marshal(body)
	if err != nil { // extra held what JSON cannot: our own mistake
		panic(fmt.Sprintf("lambdaapi: error %s with %v: %v", s.Code, extra, err))
	}
	h.Set("Content-Type", typeJSON)
	h.Set("Content-Length", strconv.Itoa(len(text)))
	h.Set("X-Amzn-ErrorType", s.Code)
	h.Set("X-Amzn-RequestId", requestID)
	_ = write(w, s.Status, text)
}

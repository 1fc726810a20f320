package ledger

import (
	"encoding/json"

	"kiln"
)

// appendRecord appends a record as one line of JSON.
func appendRecord(b []byte, r *kiln.Record) []byte { return appendJSON(b, r) }

// appendEvent appends an event as one line of JSON.
func appendEvent(b []byte, e *kiln.Event) []byte { return appendJSON(b, e) }

func appendJSON(b []byte, v any) []byte {
	line, err := json.Marshal(v)
	if err != nil {
		panic("ledger: plain data does not encode: " + err.Error())
	}
	return append(b, line...)
}

package ledger

import (
	"encoding/json"
	"strconv"

	"kiln"
)

// A record is encoded by hand, some ten times faster than by reflection: it is done once for each execution, on the
// processors the executions run on. A test holds it to encoding/json, field by field; events are rare enough for that.

// appendRecord appends a record as one line of JSON, as json.Marshal gives it.
func appendRecord(b []byte, r *kiln.Record) []byte {
	b = appendString(append(b, `{"requestId":`...), string(r.RequestID))
	b = appendString(append(b, `,"account":`...), string(r.Account))
	b = appendString(append(b, `,"function":`...), r.Function)
	b = appendString(append(b, `,"versionAsked":`...), r.VersionAsked)
	b = appendString(append(b, `,"versionExecuted":`...), r.VersionExecuted)
	b = appendString(append(b, `,"trigger":`...), string(r.Trigger))
	b = appendString(append(b, `,"fleet":`...), r.Fleet)
	b = appendString(append(b, `,"node":`...), string(r.Node))
	b = appendString(append(b, `,"instance":`...), string(r.Instance))
	b = appendString(append(b, `,"container":`...), string(r.Container))
	b = appendString(append(b, `,"driver":`...), r.Driver)
	b = appendString(append(b, `,"runtimeAsked":`...), r.RuntimeAsked)
	b = appendString(append(b, `,"runtimeUsed":`...), r.RuntimeUsed)
	b = appendString(append(b, `,"path":`...), string(r.Path))
	b = appendString(append(b, `,"outcome":`...), string(r.Outcome))
	if r.ErrorType != "" {
		b = appendString(append(b, `,"errorType":`...), r.ErrorType)
	}
	if r.ErrorMessage != "" {
		b = appendString(append(b, `,"errorMessage":`...), r.ErrorMessage)
	}
	b = appendInt(append(b, `,"memory":{"asked":`...), int64(r.Memory.AskedMiB))
	b = appendInt(append(b, `,"allocated":`...), int64(r.Memory.AllocatedMiB))
	b = appendInt(append(b, `,"used":`...), r.Memory.UsedBytes)
	b = appendTimes(append(b, `},"times":`...), &r.Times)
	if r.InitMs != 0 {
		b = appendDuration(append(b, `,"initMs":`...), r.InitMs)
	}
	b = appendDuration(append(b, `,"durationMs":`...), r.DurationMs)
	b = appendDuration(append(b, `,"billedMs":`...), r.BilledMs)
	b = appendDuration(append(b, `,"cpuMs":`...), r.CPUMs)
	b = appendDuration(append(b, `,"throttledMs":`...), r.ThrottledMs)
	b = appendInt(append(b, `,"requestBytes":`...), int64(r.RequestBytes))
	b = appendInt(append(b, `,"responseBytes":`...), int64(r.ResponseBytes))
	return append(appendChoice(append(b, `,"choice":`...), &r.Choice), '}')
}

func appendTimes(b []byte, t *kiln.Times) []byte {
	b = appendTime(append(b, `{"received":`...), t.Received)
	b = appendTime(append(b, `,"resolved":`...), t.Resolved)
	b = appendTime(append(b, `,"admitted":`...), t.Admitted)
	b = appendTime(append(b, `,"acquired":`...), t.Acquired)
	b = appendTime(append(b, `,"codeStart":`...), t.CodeStart)
	b = appendTime(append(b, `,"codeEnd":`...), t.CodeEnd)
	b = appendTime(append(b, `,"answered":`...), t.Answered)
	return append(b, '}')
}

func appendChoice(b []byte, c *kiln.Choice) []byte {
	b = appendString(append(b, `{"reason":`...), c.Reason)
	b = append(b, `,"passed":[`...)
	for i, n := range c.Passed {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendInt(b, int64(n))
	}
	b = append(b, ']')
	if c.Waited != 0 {
		b = appendDuration(append(b, `,"waitedMs":`...), c.Waited)
	}
	return append(b, '}')
}

// appendEvent appends an event as one line of JSON.
func appendEvent(b []byte, e *kiln.Event) []byte { return appendJSON(b, e) }

func appendInt(b []byte, n int64) []byte { return strconv.AppendInt(b, n, 10) }

// appendDuration appends milliseconds with three decimals.
func appendDuration(b []byte, m kiln.Millis) []byte {
	return strconv.AppendFloat(b, float64(m)/1e6, 'f', 3, 64)
}

// appendTime appends an instant as kiln.Time shows it.
func appendTime(b []byte, t kiln.Time) []byte {
	if t.IsZero() {
		return append(b, "null"...)
	}
	return t.UTC().AppendFormat(b, `"2006-01-02T15:04:05.000000Z"`)
}

// appendString appends a JSON string. Plain ones, nearly all, are copied; the others are encoding/json's.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return appendJSON(b, s)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

func appendJSON(b []byte, v any) []byte {
	line, err := json.Marshal(v)
	if err != nil {
		panic("ledger: plain data does not encode: " + err.Error())
	}
	return append(b, line...)
}

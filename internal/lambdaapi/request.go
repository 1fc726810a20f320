package lambdaapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"kiln"
)

// request is a request being read. The first thing that is wrong stays in err.
type request struct {
	op     *Operation
	params map[string]string
	query  url.Values
	header http.Header
	body   []byte
	err    *kiln.Error
}

// json reads the body's members into a struct.
func (r *request) json(into any) {
	if len(bytes.TrimSpace(r.body)) == 0 {
		return
	}
	err := json.Unmarshal(r.body, into)
	if err == nil || r.err != nil {
		return
	}
	// The messages of encoding/json name Go types; say it in the API's words.
	why := err.Error()
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		why = "Cannot read a JSON " + wrong.Value + " here"
		if wrong.Field != "" {
			why = "Cannot read a JSON " + wrong.Value + " as member " + wrong.Field
		}
	} else if _, ok := errors.AsType[*json.SyntaxError](err); !ok {
		why = "a value is not what its member takes"
	}
	r.err = kiln.Wrap(kiln.KindMalformed, "lambdaapi: decode "+r.op.Name, "Could not parse request body into json: "+why, err)
	r.err.Reason = "InvalidRequestContentException"
}

// payload reads a body that is one structure; nil when there is none.
func payload[T any](r *request) *T {
	if len(bytes.TrimSpace(r.body)) == 0 {
		return nil
	}
	v := new(T)
	r.json(v)
	return v
}

// unreadable notes that a text of the path or query is not what its member takes.
func (r *request) unreadable(kind string) {
	if r.err != nil {
		return
	}
	r.err = kiln.Errorf(kiln.KindMalformed, "lambdaapi: decode "+r.op.Name, "STRING_VALUE can not be converted to %s", kind)
	r.err.Reason = "SerializationException"
}

func (r *request) pathLong(name string) int64 {
	n, err := strconv.ParseInt(r.params[name], 10, 64)
	if err != nil {
		r.unreadable("a Long")
	}
	return n
}

func (r *request) queryText(name string) *string {
	if all := r.query[name]; len(all) > 0 {
		return &all[0]
	}
	return nil
}

func (r *request) queryInteger(name string) *int32 {
	text := r.queryText(name)
	if text == nil {
		return nil
	}
	n, err := strconv.ParseInt(*text, 10, 32)
	if err != nil {
		r.unreadable("an Integer")
	}
	return new(int32(n))
}

func (r *request) queryBoolean(name string) *bool {
	text := r.queryText(name)
	if text == nil {
		return nil
	}
	if *text != "true" && *text != "false" {
		r.unreadable("a Boolean")
	}
	return new(*text == "true")
}

func (r *request) queryTime(name string) *Time {
	text := r.queryText(name)
	if text == nil {
		return nil
	}
	t, ok := parseTime(*text)
	if !ok {
		r.unreadable("a Timestamp")
	}
	return &t
}

func (r *request) queryList(name string) []string { return r.query[name] }

// headerText takes a header's name in canonical form.
func (r *request) headerText(name string) *string {
	if all := r.header[name]; len(all) > 0 && all[0] != "" {
		return &all[0]
	}
	return nil
}

// Time is an instant as the API writes it: seconds since 1970, with milliseconds after the point. The zero value is
// never sent: absent is a nil pointer.
type Time struct{ time.Time }

// MarshalJSON gives seconds with three decimals.
func (t Time) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(t.UnixMilli())/1000, 'f', 3, 64), nil
}

// UnmarshalJSON reads seconds, or a text as of RFC 3339.
func (t *Time) UnmarshalJSON(b []byte) error {
	text := string(b)
	if text == "null" {
		return nil
	}
	if text[0] == '"' {
		if err := json.Unmarshal(b, &text); err != nil {
			return err
		}
	}
	read, ok := parseTime(text)
	if !ok {
		return errors.New("no instant")
	}
	*t = read
	return nil
}

// maxSeconds is the last second of the year 9999, the last that RFC 3339 can write.
const maxSeconds = 253402300799

func parseTime(text string) (Time, bool) {
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return Time{t.UTC()}, true
	}
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || !(math.Abs(seconds) <= maxSeconds) { // NaN too
		return Time{}, false
	}
	return Time{time.UnixMilli(int64(math.Round(seconds * 1000))).UTC()}, true
}

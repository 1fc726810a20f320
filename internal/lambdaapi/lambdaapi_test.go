package lambdaapi

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"kiln"
)

func operationNamed(t testing.TB, name string) *Operation {
	t.Helper()
	for op := range Operations() {
		if op.Name == name {
			return op
		}
	}
	t.Fatal("no operation ", name)
	return nil
}

// Shows that absent, empty and zero stay apart in what Update operations read, and that unknown members are passed over.
func TestDecodeTellsAbsentFromZero(t *testing.T) {
	op := operationNamed(t, "UpdateFunctionConfiguration")
	in, err := Decode(op, map[string]string{"FunctionName": "f"}, nil, nil,
		[]byte(`{"Description":"","Layers":[],"Environment":{"Variables":{}},"VpcConfig":null,"Unknown":{"A":[1]}}`))
	if err != nil {
		t.Fatal(err)
	}
	got := in.(*UpdateFunctionConfigurationRequest)
	want := &UpdateFunctionConfigurationRequest{FunctionName: "f", Description: new(""), Layers: []string{},
		Environment: &Environment{Variables: map[string]string{}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	in, err = Decode(op, map[string]string{"FunctionName": "f"}, nil, nil, nil)
	if err != nil || !reflect.DeepEqual(in, &UpdateFunctionConfigurationRequest{FunctionName: "f"}) {
		t.Errorf("no body: %+v, %v", in, err)
	}
}

// Shows that a body that is the payload stays as it is, be it JSON or not, and that an operation whose body is one
// structure reads that.
func TestDecodePayloads(t *testing.T) {
	header := http.Header{"X-Amz-Invocation-Type": {"Event"}, "X-Amz-Log-Type": {"Tail"}}
	in, err := Decode(operationNamed(t, "Invoke"), map[string]string{"FunctionName": "f:live"}, url.Values{"Qualifier": {"1"}}, header, []byte("not json"))
	want := &InvocationRequest{FunctionName: "f:live", InvocationType: new("Event"), LogType: new("Tail"), Qualifier: new("1"), Payload: []byte("not json")}
	if err != nil || !reflect.DeepEqual(in, want) {
		t.Errorf("Invoke: %+v, %v", in, err)
	}
	arn := "arn:aws:lambda:eu-west-1:123456789012:function:f:$LATEST/durable-execution/a/b"
	in, err = Decode(operationNamed(t, "StopDurableExecution"), map[string]string{"DurableExecutionArn": arn}, nil, nil, []byte(`{"ErrorType":"T"}`))
	if err != nil || !reflect.DeepEqual(in, &StopDurableExecutionRequest{DurableExecutionArn: arn, Error: &ErrorObject{ErrorType: new("T")}}) {
		t.Errorf("StopDurableExecution: %+v, %v", in, err)
	}
}

// Shows what answers look like on the wire: status, headers, and empty lists that are there beside absent ones.
func TestEncode(t *testing.T) {
	for _, c := range []struct {
		op     string
		output any
		status int
		kind   string
		body   string
		header map[string]string
	}{
		{"ListFunctions", &ListFunctionsResponse{Functions: []FunctionConfiguration{}}, 200, "application/json", `{"Functions":[]}`, nil},
		{"ListFunctions", &ListFunctionsResponse{}, 200, "application/json", `{}`, nil},
		{"CreateFunction", &FunctionConfiguration{FunctionName: new("<f>"), Timeout: new(int32(0))}, 201, "application/json", `{"FunctionName":"<f>","Timeout":0}`, nil},
		{"DeleteFunction", &DeleteFunctionResponse{StatusCode: new(int32(204))}, 204, "", "", nil},
		{"DeleteAlias", nil, 204, "", "", nil},
		{"Invoke", &InvocationResponse{Payload: []byte("null"), FunctionError: new("Unhandled"), ExecutedVersion: new("$LATEST")}, 200, "application/json", "null",
			map[string]string{"X-Amz-Function-Error": "Unhandled", "X-Amz-Executed-Version": "$LATEST", "Content-Length": "4"}},
		{"Invoke", &InvocationResponse{StatusCode: new(int32(202))}, 202, "", "", map[string]string{"Content-Length": "0"}},
		{"InvokeWithResponseStream", &InvokeWithResponseStreamResponse{ExecutedVersion: new("1")}, 200, "application/vnd.amazon.eventstream", "",
			map[string]string{"X-Amz-Executed-Version": "1", "Content-Length": ""}},
		{"GetFunctionEventInvokeConfig", &FunctionEventInvokeConfig{LastModified: &Time{time.UnixMilli(1700000000250)}}, 200, "application/json", `{"LastModified":1700000000.250}`, nil},
	} {
		w := httptest.NewRecorder()
		if err := Encode(w, operationNamed(t, c.op), c.output); err != nil {
			t.Errorf("%s: %v", c.op, err)
			continue
		}
		if w.Code != c.status || w.Body.String() != c.body || w.Header().Get("Content-Type") != c.kind {
			t.Errorf("%s: %d %q %q", c.op, w.Code, w.Header(), w.Body)
		}
		for name, want := range c.header {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", c.op, name, got, want)
			}
		}
	}
}

// Shows that an output of another operation is refused with nothing written.
func TestEncodeRefusesStrangers(t *testing.T) {
	for _, output := range []any{nil, 1, &DeleteFunctionResponse{}, (*FunctionConfiguration)(nil), FunctionConfiguration{}} {
		w := httptest.NewRecorder()
		err := Encode(w, operationNamed(t, "CreateFunction"), output)
		if kiln.KindOf(err) != kiln.KindInternal || err == nil || w.Body.Len() > 0 {
			t.Errorf("%#v: %v, %q", output, err, w.Body)
		}
	}
	if err := Encode(httptest.NewRecorder(), operationNamed(t, "DeleteAlias"), &DeleteFunctionResponse{}); err == nil {
		t.Error("an answer where there is none")
	}
}

// Shows error answers: status, headers and the casing of each shape, further members, and codes the model lacks.
func TestEncodeError(t *testing.T) {
	for _, c := range []struct {
		code   string
		extra  map[string]any
		status int
		body   string
		retry  string
	}{
		{"ResourceNotFoundException", nil, 404, `{"Message":"m","Type":"User"}`, ""},
		{"InvalidParameterValueException", nil, 400, `{"Type":"User","message":"m"}`, ""},
		{"ServiceException", nil, 500, `{"Message":"m","Type":"Service"}`, ""},
		{"TooManyRequestsException", map[string]any{"Reason": "CallerRateLimitExceeded", "retryAfterSeconds": 2}, 429, `{"Reason":"CallerRateLimitExceeded","Type":"User","message":"m"}`, "2"},
		{"ValidationException", nil, 400, `{"message":"m"}`, ""},
		{"UnrecognizedClientException", nil, 403, `{"message":"m"}`, ""},
	} {
		w := httptest.NewRecorder()
		shape, ok := ErrorNamed(c.code)
		if !ok {
			t.Errorf("nobody knows %s", c.code)
		}
		shape.Encode(w, "id-1", "m", c.extra)
		h := w.Header()
		if w.Code != c.status || w.Body.String() != c.body || h.Get("x-amzn-ErrorType") != c.code ||
			h.Get("x-amzn-RequestId") != "id-1" || h.Get("Content-Type") != "application/json" || h.Get("Retry-After") != c.retry {
			t.Errorf("%s: %d %q %s", c.code, w.Code, h, w.Body)
		}
	}
	w := httptest.NewRecorder()
	ErrorShape{Code: "TeapotException", Status: 418}.Encode(w, "id", "m", nil)
	if w.Code != 418 || w.Body.String() != `{"message":"m"}` {
		t.Errorf("own shape: %d %s", w.Code, w.Body)
	}
}

// Shows that every modelled error is known by its code, with a status and a casing.
func TestErrorNamed(t *testing.T) {
	for _, s := range errorShapes {
		got, ok := ErrorNamed(s.Code)
		if !ok || got != s || s.Status < 400 || !strings.EqualFold(s.MessageMember, "message") || (s.Type == "Service") != (s.Status == 500 || s.Status == 502) {
			t.Errorf("%+v", s)
		}
	}
	if _, ok := ErrorNamed("Nothing"); ok || len(errorShapes) < 50 {
		t.Error(ok, len(errorShapes))
	}
}

// Shows that instants survive being written and read, in both spellings, and that what is none is refused.
func TestTime(t *testing.T) {
	for text, want := range map[string]int64{"1700000000.25": 1700000000250, `"2023-11-14T22:13:20.25Z"`: 1700000000250, "0": 0, "-1.5": -1500, "1.7e9": 1700000000000} {
		var got Time
		if err := json.Unmarshal([]byte(text), &got); err != nil || got.UnixMilli() != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
		b, err := json.Marshal(got)
		var again Time
		if err != nil || json.Unmarshal(b, &again) != nil || !again.Equal(got.Time) {
			t.Errorf("%s written as %s, read as %v (%v)", text, b, again, err)
		}
	}
	for _, text := range []string{`"yesterday"`, "1e300", `"NaN"`, "{}", "true"} {
		var got Time
		if err := json.Unmarshal([]byte(text), &got); err == nil {
			t.Errorf("%s is %v", text, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(uint8(7), "f", "MaxItems=1", "Event", []byte(`{"FunctionName":"f","Role":"arn:aws:iam::123456789012:role/r","Code":{"ZipFile":"UEs="},"Tags":{"a":"b"}}`))
	f.Add(uint8(6), "f", "", "", []byte(`{"FilterCriteria":{"Filters":[null,{}]},"StartingPositionTimestamp":1e999,"SelfManagedEventSource":{"Endpoints":{"a":["b"]}}}`))
	f.Add(uint8(3), "f", "StartedAfter=2020-01-01T00:00:00Z&Statuses=RUNNING", "", []byte(`{"RoutingConfig":{"AdditionalVersionWeights":{"1":0.5}}}`))
	f.Add(uint8(42), "arn:aws:lambda:eu-west-1:123456789012:function:f:1", "Qualifier=", "DryRun", []byte("\xff\x00"))
	f.Fuzz(func(t *testing.T, n uint8, param, rawQuery, header string, body []byte) {
		op := &operations[int(n)%len(operations)]
		params := map[string]string{}
		for segment := range strings.SplitSeq(op.Path, "/") {
			if strings.HasPrefix(segment, "{") {
				params[strings.Trim(segment, "{}")] = param
			}
		}
		query, _ := url.ParseQuery(rawQuery)
		in, err := Decode(op, params, query, http.Header{"X-Amz-Invocation-Type": {header}}, body)
		if err != nil {
			e, ok := err.(*kiln.Error)
			if !ok || in != nil || e.Reason == "" || e.Kind != kiln.KindInvalid && e.Kind != kiln.KindMalformed {
				t.Fatalf("%s: %v, %#v", op.Name, in, err)
			}
			if _, ok := ErrorNamed(e.Reason); !ok {
				t.Fatalf("%s is no code", e.Reason)
			}
			return
		}
		if err := validate(in); err != nil { // what Decode took stays valid
			t.Fatalf("%s: %v", op.Name, err)
		}
		// What was read can be written and read again to the same.
		text, err := marshal(in)
		if err != nil {
			t.Fatalf("%s: %v", op.Name, err)
		}
		again := reflect.New(reflect.TypeOf(in).Elem()).Interface()
		if err := json.Unmarshal(text, again); err != nil {
			t.Fatalf("%s: %s: %v", op.Name, text, err)
		}
		if text2, _ := marshal(again); string(text2) != string(text) {
			t.Fatalf("%s: %s, then %s", op.Name, text, text2)
		}
	})
}

package lambdaapi

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
)

// The values every member is filled with: what a URI, a query and a header find hard.
const fillText, fillInteger = "x y/z%:$+&=?#", 200

var fillTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// fill sets everything that can be set in a struct, one element in each list and map.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(fillTime))
			return
		}
		for i := range v.NumField() {
			if v.Field(i).CanSet() && v.Type().Field(i).Name != "ResultMetadata" {
				fill(v.Field(i))
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString(fillText)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int32, reflect.Int64:
		v.SetInt(fillInteger)
	case reflect.Uint8:
		v.SetUint(255)
	case reflect.Float64:
		v.SetFloat(fillInteger)
	case reflect.Interface:
		v.Set(reflect.ValueOf(strings.NewReader("\xff"))) // InvokeAsync's body
	default:
		panic(fmt.Sprintf("cannot fill %s", v.Type()))
	}
}

// unfilled gives the paths of what does not hold what fill puts there.
func unfilled(v reflect.Value, at string) (missing []string) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return []string{at + " is nil"}
		}
		return unfilled(v.Elem(), at)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			if got := v.Interface().(time.Time); !got.Equal(fillTime) {
				return []string{at + " is " + got.String()}
			}
			return nil
		}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Name != "ResultMetadata" {
				missing = append(missing, unfilled(v.Field(i), at+"."+f.Name)...)
			}
		}
		return missing
	case reflect.Slice:
		if v.Len() != 1 {
			return []string{fmt.Sprintf("%s has %d elements", at, v.Len())}
		}
		return unfilled(v.Index(0), at+"[0]")
	case reflect.Map:
		if v.Len() != 1 {
			return []string{fmt.Sprintf("%s has %d elements", at, v.Len())}
		}
		for k, e := range v.Seq2() {
			missing = append(unfilled(k, at+" key"), unfilled(e, at+"[]")...)
		}
		return missing
	}
	want := reflect.New(v.Type()).Elem()
	fill(want)
	if !want.Equal(v) {
		return []string{fmt.Sprintf("%s is %v", at, v.Interface())}
	}
	return nil
}

// sdkOnly are members that the SDK of go.mod knows and the model does not have yet.
var sdkOnly = regexp.MustCompile(`\.(ConsumptionMode|S3FilesConfig) is `)

// exchange is one call of the SDK as our side sees it.
type exchange struct {
	op    *Operation
	input any
	err   error
}

// serve answers every request by Route and Decode, constraints aside, with a filled output.
func (e *exchange) serve(w http.ResponseWriter, r *http.Request) {
	*e = exchange{}
	op, params, ok := Route(r.Method, r.URL.EscapedPath(), r.URL.Query())
	if !ok {
		e.err = fmt.Errorf("no route for %s %s", r.Method, r.URL)
		ErrorShape{Code: "UnknownOperationException", Status: http.StatusNotFound}.Encode(w, "id", "", nil)
		return
	}
	body := make([]byte, max(0, r.ContentLength))
	for n := 0; n < len(body); {
		m, err := r.Body.Read(body[n:])
		if n += m; err != nil {
			break
		}
	}
	read := request{op: op, params: params, query: r.URL.Query(), header: r.Header, body: body}
	_, e.input = op.decode(&read)
	if e.op = op; read.err != nil {
		e.err = read.err
	}
	var output any
	if make := newOutput[op.Name]; make != nil {
		output = make()
		fill(reflect.ValueOf(output).Elem())
	}
	if err := Encode(w, op, output); err != nil {
		e.err = err
	}
}

// Shows, for each of the 85 operations, that AWS's own SDK and we mean the same: all members the SDK sends arrive with
// their values, wherever they travel, and all members we answer with arrive at the SDK.
func TestSDKUnderstandsEveryOperation(t *testing.T) {
	var seen exchange
	server := httptest.NewServer(http.HandlerFunc(seen.serve))
	defer server.Close()
	client := reflect.ValueOf(lambda.New(lambda.Options{
		Region: "eu-west-1", BaseEndpoint: &server.URL, Retryer: aws.NopRetryer{},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: "secret"}, nil
		}),
	}))
	for op := range Operations() {
		t.Run(op.Name, func(t *testing.T) {
			call := client.MethodByName(op.Name)
			if !call.IsValid() {
				t.Fatal("the SDK does not know it")
			}
			input := reflect.New(call.Type().In(1).Elem())
			fill(input.Elem())
			results := call.Call([]reflect.Value{reflect.ValueOf(t.Context()), input})
			if err := results[1].Interface(); err != nil {
				t.Fatal(err, seen.err)
			}
			if seen.err != nil || seen.op != op {
				t.Fatal(seen.op, seen.err)
			}
			for _, what := range unfilled(reflect.ValueOf(seen.input).Elem(), "input") {
				t.Error(what)
			}
			for _, what := range unfilled(results[0].Elem(), "output") {
				if !sdkOnly.MatchString(what) {
					t.Error(what)
				}
			}
		})
	}
}

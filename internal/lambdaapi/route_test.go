package lambdaapi

import (
	"bufio"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
)

// golden reads testdata/routes.txt: every operation's name, method, path with query, status.
func golden(t testing.TB) (rows [][4]string) {
	t.Helper()
	f, err := os.Open("testdata/routes.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) == 4 {
			rows = append(rows, [4]string(fields))
		}
	}
	return rows
}

// Shows that each of the 85 operations is found by its path, plain and with a slash at the end, with a percent-encoded
// ARN that holds an encoded slash in every parameter, and that the table and the list agree in number and status.
func TestRouteFindsEveryOperation(t *testing.T) {
	const arn = "arn:aws:lambda:eu-west-1:123456789012:function:f:$LATEST/durable-execution/a b/c+d%"
	rows := golden(t)
	if len(rows) != 85 || len(operations) != 85 {
		t.Fatalf("%d rows, %d operations, want 85 of each", len(rows), len(operations))
	}
	for _, row := range rows {
		path, rawQuery, _ := strings.Cut(row[2], "?")
		query, _ := url.ParseQuery(rawQuery)
		want := map[string]string{}
		segments := strings.Split(path, "/")
		for i, s := range segments {
			if name, ok := strings.CutPrefix(s, "{"); ok {
				name = strings.TrimSuffix(name, "}")
				want[name] = name + arn
				segments[i] = url.PathEscape(want[name])
			}
		}
		for _, end := range []string{"", "/"} {
			op, params, ok := Route(row[1], strings.Join(segments, "/")+end, query)
			switch {
			case !ok:
				t.Errorf("%s%s: not found", row[0], end)
			case op.Name != row[0] || fmt.Sprint(op.Status) != row[3]:
				t.Errorf("%s%s: found %s (%d)", row[0], end, op.Name, op.Status)
			case fmt.Sprint(params) != fmt.Sprint(want):
				t.Errorf("%s%s: params %q, want %q", row[0], end, params, want)
			}
		}
	}
}

// Shows how clients in the field spell paths, and what is no route at all.
func TestRouteSpellings(t *testing.T) {
	for _, c := range []struct{ method, path, query, want string }{
		{"GET", "/2015-03-31/functions/", "", "ListFunctions"},
		{"POST", "/2014-11-13/functions/f/invoke-async/", "", "InvokeAsync"},
		{"GET", "/2018-10-31/layers", "find=LayerVersion&Arn=arn%3Aaws", "GetLayerVersionByArn"},
		{"GET", "/2018-10-31/layers", "CompatibleRuntime=python3.12", "ListLayers"},
		{"GET", "/2018-10-31/layers", "find=other", "ListLayers"},
		{"GET", "/2019-09-30/functions/f/provisioned-concurrency", "List=ALL", "ListProvisionedConcurrencyConfigs"},
		{"GET", "/2019-09-30/functions/f/provisioned-concurrency", "Qualifier=1", "GetProvisionedConcurrencyConfig"},
		{"GET", "/2017-03-31/tags/arn:aws:lambda:eu-west-1:123456789012:function:f", "", "ListTags"},
		{"GET", "/2015-03-31/functions/code", "", "GetFunction"},
		{"PATCH", "/2015-03-31/functions", "", ""},
		{"GET", "/2015-03-31/functions//", "", ""},
		{"GET", "/2015-03-31/functions//configuration", "", ""},
		{"GET", "/2015-03-31/functions/f/nothing", "", ""},
		{"GET", "/2015-03-31/functions/f/a/b/c/d/e/f/g/h/i/j/k", "", ""},
		{"GET", "/2015-03-31/functions/%zz", "", ""},
		{"GET", "/2015-03-31", "", ""},
		{"GET", "2015-03-31/functions", "", ""},
		{"GET", "/", "", ""},
		{"GET", "", "", ""},
	} {
		query, _ := url.ParseQuery(c.query)
		op, _, ok := Route(c.method, c.path, query)
		if ok != (c.want != "") || ok && op.Name != c.want {
			t.Errorf("%s %s?%s: %v %v, want %q", c.method, c.path, c.query, op, ok, c.want)
		}
	}
}

// Shows that no step of the paths has both a literal and a parameter: Route never has to go back; and that no path is
// longer than its bound.
func TestRouteTreeIsPlain(t *testing.T) {
	var walk func(*step, string, int)
	walk = func(s *step, at string, depth int) {
		if depth > maxSegments {
			t.Errorf("%s: more than %d segments", at, maxSegments)
		}
		if s.param != nil {
			if len(s.literal) > 0 {
				t.Errorf("%s: literals %v beside a parameter", at, s.literal)
			}
			walk(s.param, at+"/{}", depth+1)
		}
		for name, next := range s.literal {
			walk(next, at+"/"+name, depth+1)
		}
	}
	walk(routes(), "", 0)
}

func FuzzRoute(f *testing.F) {
	for _, row := range golden(f) {
		path, query, _ := strings.Cut(row[2], "?")
		f.Add(row[1], path, query)
	}
	f.Add("GET", "/2017-03-31/tags/arn%3Aaws%2F%zz", "a=b&a")
	f.Fuzz(func(t *testing.T, method, path, rawQuery string) {
		query, _ := url.ParseQuery(rawQuery)
		op, params, ok := Route(method, path, query)
		if !ok {
			return
		}
		if op.Method != method || len(params) != strings.Count(op.Path, "{") {
			t.Fatalf("%s %q: %s with %q", method, path, op.Name, params)
		}
		// What was found is found again when its parameters are written into the model's path.
		again := op.Path
		for name, value := range params {
			again = strings.Replace(again, "{"+name+"}", url.PathEscape(value), 1)
		}
		if op2, params2, ok := Route(method, again, query); !ok || op2 != op || fmt.Sprint(params2) != fmt.Sprint(params) {
			t.Fatalf("%q is %s %q, and %q is not", path, op.Name, params, again)
		}
	})
}

func BenchmarkInvoke(b *testing.B) {
	body := []byte(`{"key":"value"}`)
	header := map[string][]string{"X-Amz-Invocation-Type": {"RequestResponse"}}
	for b.Loop() {
		op, params, ok := Route("POST", "/2015-03-31/functions/hello/invocations", nil)
		if !ok {
			b.Fatal("not found")
		}
		if _, err := Decode(op, params, nil, header, body); err != nil {
			b.Fatal(err)
		}
	}
}

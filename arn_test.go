package kiln

import "testing"

// A function is named in AWS's four forms, and nothing else is one.
func TestParseFunctionRef(t *testing.T) {
	rows := []struct {
		text string
		want FunctionRef
		ok   bool
	}{
		{"hello", FunctionRef{Name: "hello"}, true},
		{"hello:live", FunctionRef{Name: "hello", Qualifier: "live"}, true},
		{"hello:$LATEST", FunctionRef{Name: "hello", Qualifier: "$LATEST"}, true},
		{"000000000000:function:hello", FunctionRef{Account: "000000000000", Name: "hello"}, true},
		{"arn:aws:lambda:us-east-1:000000000000:function:hello:7",
			FunctionRef{Region: "us-east-1", Account: "000000000000", Name: "hello", Qualifier: "7"}, true},
		{"000000000000", FunctionRef{Name: "000000000000"}, true},
		{"", FunctionRef{}, false},
		{"a b", FunctionRef{}, false},
		{"hello:", FunctionRef{}, false},
		{"../hello", FunctionRef{}, false},
		{"arn:aws:s3:::bucket", FunctionRef{}, false},
		{"this-name-is-longer-than-the-sixty-four-characters-that-aws-allows", FunctionRef{}, false},
	}
	for _, row := range rows {
		if got, ok := ParseFunctionRef(row.text); ok != row.ok || got != row.want {
			t.Errorf("%q: %+v, %v", row.text, got, ok)
		}
	}
}

// FuzzParseFunctionRef holds the short way for bare names against the pattern, which is AWS's.
func FuzzParseFunctionRef(f *testing.F) {
	for _, s := range []string{"hello", "hello:1", "arn:aws:lambda:us-east-1:000000000000:function:hello"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := ParseFunctionRef(s)
		if m := functionRef.FindStringSubmatch(s); len(s) <= 256 && (m != nil) != ok {
			t.Fatalf("%q: %v, the pattern says %v", s, ok, m != nil)
		} else if ok && (got.Name != m[3] || got.Qualifier != m[4] || string(got.Account) != m[2]) {
			t.Fatalf("%q: %+v, the pattern says %q", s, got, m)
		}
	})
}

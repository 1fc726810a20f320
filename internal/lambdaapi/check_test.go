package lambdaapi

import (
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"

	"kiln"
)

const pickFunctionName = `(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?`

// Shows the texts for inputs that break constraints, word for word as AWS writes them.
func TestCheckTexts(t *testing.T) {
	good := func() *CreateFunctionRequest {
		return &CreateFunctionRequest{FunctionName: new("f"), Role: new("arn:aws:iam::123456789012:role/r"), Code: &FunctionCode{}}
	}
	with := func(change func(*CreateFunctionRequest)) *CreateFunctionRequest {
		in := good()
		change(in)
		return in
	}
	for name, c := range map[string]struct {
		in   any
		want string
	}{
		"good":     {good(), ""},
		"required": {with(func(in *CreateFunctionRequest) { in.Role, in.Code = nil, nil }), "2 validation errors detected: Value null at 'role' failed to satisfy constraint: Member must not be null; Value null at 'code' failed to satisfy constraint: Member must not be null"},
		"pattern":  {with(func(in *CreateFunctionRequest) { in.FunctionName = new("a b") }), "1 validation error detected: Value 'a b' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: " + pickFunctionName},
		"length":   {with(func(in *CreateFunctionRequest) { in.FunctionName = new(strings.Repeat("a", 141)) }), "1 validation error detected: Value '" + strings.Repeat("a", 141) + "' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 140"},
		"empty":    {&GetAliasRequest{FunctionName: "f"}, "2 validation errors detected: Value '' at 'name' failed to satisfy constraint: Member must have length greater than or equal to 1; Value '' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+)"},
		"number":   {with(func(in *CreateFunctionRequest) { in.MemorySize, in.Timeout = new(int32(64)), new(int32(5401)) }), "2 validation errors detected: Value '5401' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 5400; Value '64' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128"},
		"enum":     {with(func(in *CreateFunctionRequest) { in.PackageType = new("Tar") }), "1 validation error detected: Value 'Tar' at 'packageType' failed to satisfy constraint: Member must satisfy enum value set: [Zip, Image]"},
		"nested":   {with(func(in *CreateFunctionRequest) { in.EphemeralStorage = &EphemeralStorage{Size: new(int32(1))} }), "1 validation error detected: Value '1' at 'ephemeralStorage.size' failed to satisfy constraint: Member must have value greater than or equal to 512"},
		"list":     {with(func(in *CreateFunctionRequest) { in.Architectures = []string{"X86_64"} }), "1 validation error detected: Value '[X86_64]' at 'architectures' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]"},
		"list size": {with(func(in *CreateFunctionRequest) { in.Architectures = []string{"x86_64", "arm64"} }),
			"1 validation error detected: Value '[x86_64, arm64]' at 'architectures' failed to satisfy constraint: Member must have length less than or equal to 1"},
		"list size least": {with(func(in *CreateFunctionRequest) { in.Architectures = []string{} }), "1 validation error detected: Value '[]' at 'architectures' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		"element": {&CreateFunctionUrlConfigRequest{FunctionName: "f", AuthType: new("NONE"), Cors: &Cors{AllowMethods: []string{"GET", "POST", "OPTIONS"}}},
			"1 validation error detected: Value '[GET, POST, OPTIONS]' at 'cors.allowMethods' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 6, Member must have length greater than or equal to 0, Member must satisfy regular expression pattern: .*, Member must not be null]"},
		"element structure": {&CreateEventSourceMappingRequest{FunctionName: new("f"), FilterCriteria: &FilterCriteria{Filters: []Filter{{Pattern: new("{}")}, {Pattern: new(strings.Repeat("x", 4097))}}}},
			"1 validation error detected: Value '" + strings.Repeat("x", 4096) + "...' at 'filterCriteria.filters.2.member.pattern' failed to satisfy constraint: Member must have length less than or equal to 4096"},
		"map keys": {&CreateAliasRequest{FunctionName: "f", Name: new("a"), FunctionVersion: new("1"), RoutingConfig: &AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{"$LATEST": 0.5}}},
			"1 validation error detected: Value '{$LATEST=0.5}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map keys must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: [0-9]+, Member must not be null]"},
		"map value": {&CreateAliasRequest{FunctionName: "f", Name: new("a"), FunctionVersion: new("1"), RoutingConfig: &AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{"1": 2}}},
			"1 validation error detected: Value '{1=2.0}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map value must satisfy constraint: [Member must have value less than or equal to 1, Member must have value greater than or equal to 0, Member must not be null]"},
		"secret": {with(func(in *CreateFunctionRequest) {
			in.Environment = &Environment{Variables: map[string]string{"A-B": "hush"}}
		}), "1 validation error detected: Value at 'environment.variables' failed to satisfy constraint: Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+, Member must not be null]"},
		"capitals": {with(func(in *CreateFunctionRequest) { in.KMSKeyArn = new("key") }), "1 validation error detected: Value 'key' at 'kMSKeyArn' failed to satisfy constraint: Member must satisfy regular expression pattern: (arn:(aws[a-zA-Z-]*)?:[a-z0-9-.]+:.*)|()"},
		"runes":    {with(func(in *CreateFunctionRequest) { in.Description = new(strings.Repeat("é", 256)) }), ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := validate(c.in)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			e, ok := err.(*kiln.Error)
			if !ok || e.Kind != kiln.KindInvalid || e.Reason != "ValidationException" {
				t.Fatalf("got %#v", err)
			}
			if e.Message != c.want {
				t.Errorf("got  %s\nwant %s", e.Message, c.want)
			}
		})
	}
}

// validate checks an input as Decode does.
func validate(input any) error {
	if err := check(input.(checked)); err != nil {
		return err
	}
	return nil
}

// Shows that a message stays bounded however much is wrong.
func TestCheckIsBounded(t *testing.T) {
	var many []Filter
	for range 10 * maxViolations {
		many = append(many, Filter{Pattern: new(strings.Repeat("x", 2*maxShownBytes))})
	}
	err := validate(&CreateEventSourceMappingRequest{FunctionName: new("f"), FilterCriteria: &FilterCriteria{Filters: many}})
	if n := len(err.Error()); n > maxViolations*(maxShownBytes+256) {
		t.Errorf("a message of %d bytes", n)
	}
}

// Shows that patterns mean what they mean in Java, where the whole value must match, the rewritten ones above all.
func TestPatterns(t *testing.T) {
	const full = "arn:aws:lambda:eu-west-1:123456789012:function:my-f_1"
	for _, c := range []struct {
		name      string
		rule      *textRule
		yes, nope []string
	}{
		{"FunctionName", &ruleFunctionName, []string{"f", "f:$LATEST", "f:live", full, full + ":7", "123456789012:f", "123456789012:function:f", "function:f"}, []string{"", "f/g", "f:$OTHER", "f\n", "f:", full + ":a:b"}},
		{"NamespacedFunctionName", &ruleNamespacedFunctionName, []string{"f", "f.g", "f:$LATEST.PUBLISHED", full + ":$LATEST"}, []string{"", "f g", "f:$LATEST.X"}},
		{"UnqualifiedFunctionName", &ruleUnqualifiedFunctionName, []string{"f", full}, []string{full + ":1", "a:b"}},
		{"FunctionUrlFunctionName", &ruleFunctionUrlFunctionName, []string{"f", "f:live", "f:1a", "f:a1", "f:-", full + ":live"}, []string{"f:1", "f:123", full + ":7", "f:$LATEST"}},
		{"Alias", &ruleAlias, []string{"live", "1a", "a1", "-", "_1", "1-1"}, []string{"", "1", "123", "a b", "a.b", "$LATEST"}},
		{"FunctionUrlQualifier", &ruleFunctionUrlQualifier, []string{"live", "1a", "a1"}, []string{"", "1", "123", "$LATEST"}},
		{"CollectionName", &ruleCollectionName, []string{"a", "s", "system", "sys", "systemx", "system_", "sy.stem.", "_s", "1", "systex.", "s.ystem."}, []string{"", "system.", "system.x", "a$", "$a", "-a", "sys$"}},
		{"S3Bucket", &ruleS3Bucket, []string{"abc", "a.c", "A-_", "a.b.c"}, []string{"abc.", "...", "a/b"}},
		{"Handler", &ruleHandler, []string{"a.b", "é"}, []string{"", "a b", "a\vb", "a\n"}},
		{"TagKey", &ruleTagKey, []string{"kiln:fleet", "a b", "Größe", "a+-=._:/@"}, []string{"a\tb", "a*", "a\n"}},
		{"S3Key", &ruleS3Key, []string{"a b"}, []string{"a\nb", "a\u2028b", "a\rb"}},
		{"Pattern", &rulePattern, []string{"a\nb", "\v"}, nil},
		{"DestinationArn", &ruleDestinationArn, []string{"", "kafka://t", "arn:aws:sqs:eu-west-1:123456789012:q"}, []string{"x", "kafka://.t"}},
		{"Qualifier", &ruleQualifier, []string{"$LATEST", "1", "live"}, []string{"a.b", "a b"}},
		{"RoleArn", &ruleRoleArn, []string{"arn:aws:iam::123456789012:role/a/b"}, []string{"arn:aws:iam::1:role/a", "role"}},
	} {
		for _, s := range c.yes {
			if c.rule.refuses(s) {
				t.Errorf("%s refuses %q", c.name, s)
			}
		}
		for _, s := range c.nope {
			if !c.rule.refuses(s) {
				t.Errorf("%s takes %q", c.name, s)
			}
		}
	}
}

// Shows that the short way for plain names says what the pattern says.
func TestPlainNamesMatchTheirPatterns(t *testing.T) {
	rules := map[string]*textRule{"FunctionName": &ruleFunctionName, "NamespacedFunctionName": &ruleNamespacedFunctionName,
		"UnqualifiedFunctionName": &ruleUnqualifiedFunctionName}
	const letters = "abzAZ0189-_"
	for name, rule := range rules {
		if !rule.plainName {
			t.Errorf("%s has no short way", name)
		}
		for range 1000 {
			s := make([]byte, 1+rand.IntN(20))
			for i := range s {
				s[i] = letters[rand.IntN(len(letters))]
			}
			if !isPlainName(string(s)) || !rule.pattern.match().Match(s) {
				t.Fatalf("%s: %q", name, s)
			}
		}
	}
	for _, s := range []string{"", "a.b", "a:b", "é", "a\n"} {
		if isPlainName(s) {
			t.Errorf("%q is no plain name", s)
		}
	}
}

// Shows what Decode refuses before it looks at constraints, and in which words.
func TestDecodeRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		method, path, query, body, reason, want string
	}{
		"no json":    {"POST", "/2015-03-31/functions", "", `{"Role":`, "InvalidRequestContentException", "Could not parse request body into json: unexpected end of JSON input"},
		"a list":     {"POST", "/2015-03-31/functions", "", `[]`, "InvalidRequestContentException", "Could not parse request body into json: Cannot read a JSON array here"},
		"wrong type": {"POST", "/2015-03-31/functions", "", `{"VpcConfig":{"SubnetIds":"a"}}`, "InvalidRequestContentException", "Could not parse request body into json: Cannot read a JSON string as member VpcConfig.SubnetIds"},
		"too great":  {"POST", "/2015-03-31/functions", "", `{"Timeout":3000000000}`, "InvalidRequestContentException", "Could not parse request body into json: Cannot read a JSON number 3000000000 as member Timeout"},
		"no base64":  {"POST", "/2015-03-31/functions", "", `{"Code":{"ZipFile":"*"}}`, "InvalidRequestContentException", "Could not parse request body into json: a value is not what its member takes"},
		"number":     {"GET", "/2015-03-31/functions", "MaxItems=ten", "", "SerializationException", "STRING_VALUE can not be converted to an Integer"},
		"long":       {"GET", "/2018-10-31/layers/l/versions/x", "", "", "SerializationException", "STRING_VALUE can not be converted to a Long"},
		"constraint": {"GET", "/2015-03-31/functions", "MaxItems=0", "", "ValidationException", "1 validation error detected: Value '0' at 'maxItems' failed to satisfy constraint: Member must have value greater than or equal to 1"},
	} {
		t.Run(name, func(t *testing.T) {
			query, _ := url.ParseQuery(c.query)
			op, params, ok := Route(c.method, c.path, query)
			if !ok {
				t.Fatal("no route")
			}
			in, err := Decode(op, params, query, nil, []byte(c.body))
			e, ok := err.(*kiln.Error)
			if !ok || in != nil || e.Reason != c.reason || e.Message != c.want {
				t.Errorf("got %v, %#v\nwant %s: %s", in, err, c.reason, c.want)
			}
		})
	}
}

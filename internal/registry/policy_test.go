package registry

import (
	"fmt"
	"strings"
	"testing"

	"kiln"
)

// A policy is written as AWS writes it, one a qualifier; ids, revisions and its size are held to, and it goes with the
// alias it is for. // R14
func TestPolicies(t *testing.T) {
	h := open(t, t.TempDir())
	made := h.create("f", digest("a"))
	h.settleNow()
	h.publish("f")
	if _, err := h.CreateAlias(t.Context(), owner, "f", Alias{Name: "live", Version: "1"}); err != nil {
		t.Fatal(err)
	}
	grant := func(qualifier, revision string, s Statement) (string, error) {
		return h.AddPermission(t.Context(), owner, "f", qualifier, revision, s)
	}
	_, _, err := h.Policy(owner, "f", "")
	wants(t, err, kiln.KindNotFound, "The resource you requested does not exist.")
	got, err := grant("", made.Version.Revision, Statement{ID: "s", Action: ActionInvoke, Principal: string(stranger), SourceAccount: "1"})
	want := `{"Sid":"s","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111111111111:root"},"Action":"lambda:InvokeFunction","Resource":"` +
		arn + `f","Condition":{"StringEquals":{"AWS:SourceAccount":"1"}}}`
	if err != nil || got != want {
		t.Errorf("statement %s (%v), want %s", got, err, want)
	}
	_, err = grant("", "", Statement{ID: "s", Action: ActionInvoke, Principal: "*"})
	wants(t, err, kiln.KindConflict, "The statement id (s) provided already exists. Please provide a new statement id, or remove the existing statement.")
	_, err = grant("", "stale", Statement{ID: "t", Action: ActionInvoke, Principal: "*"})
	wants(t, err, kiln.KindPrecondition, "The Revision Id provided does not match the latest Revision Id. Call the GetPolicy API to retrieve the latest Revision Id")
	_, err = grant(kiln.Latest, "", Statement{ID: "t", Action: ActionInvoke, Principal: "*"})
	wants(t, err, kiln.KindInvalid, "We currently do not support adding policies for $LATEST.")
	_, err = grant("", "", Statement{ID: "t", Action: ActionInvoke, Principal: "nobody"})
	wants(t, err, kiln.KindInvalid, "The provided principal was invalid. Please check the principal and try again.")
	_, err = grant("absent", "", Statement{ID: "t", Action: ActionInvoke, Principal: "*"})
	wants(t, err, kiln.KindNotFound, "Function not found: "+arn+"f:absent")
	if _, err := grant("live", "", Statement{ID: "a", Action: ActionInvoke, Principal: "s3.amazonaws.com", SourceARN: "arn:aws:s3:::b<"}); err != nil {
		t.Fatal(err)
	}
	document, revision, err := h.Policy(owner, "f", "live")
	want = `{"Version":"2012-10-17","Id":"default","Statement":[{"Sid":"a","Effect":"Allow","Principal":{"Service":"s3.amazonaws.com"},` +
		`"Action":"lambda:InvokeFunction","Resource":"` + arn + `f:live","Condition":{"ArnLike":{"AWS:SourceArn":"arn:aws:s3:::b<"}}}]}`
	if err != nil || document != want {
		t.Errorf("policy %s (%v), want %s", document, err, want)
	}
	wants(t, h.RemovePermission(t.Context(), owner, "f", "live", "stale", "a"), kiln.KindPrecondition, "")
	wants(t, h.RemovePermission(t.Context(), owner, "f", "live", "", "b"), kiln.KindNotFound, "Statement b is not found in resource policy.")
	if err := h.RemovePermission(t.Context(), owner, "f", "live", revision, "a"); err != nil {
		t.Error(err)
	}
	wants(t, h.RemovePermission(t.Context(), owner, "f", "live", "", "a"), kiln.KindNotFound, "No policy is associated with the given resource.")
	if _, err := grant("live", "", Statement{ID: "a", Action: ActionInvoke, Principal: "*"}); err != nil {
		t.Fatal(err)
	}
	if err := h.DeleteAlias(t.Context(), owner, "f", "live"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.CreateAlias(t.Context(), owner, "f", Alias{Name: "live", Version: "1"}); err != nil {
		t.Fatal(err)
	}
	if h.Allowed(owner, "f", "live", Access{Action: ActionInvoke, Account: stranger}) {
		t.Error("a new alias has the grants of an old one of its name")
	}
	for i := 0; err == nil; i++ {
		_, err = grant("", "", Statement{ID: fmt.Sprint(strings.Repeat("x", 90), i), Action: ActionInvoke, Principal: "*"})
	}
	wants(t, err, kiln.KindLimit, "is bigger than the limit (20480).")
}

// Who is granted what: by account in both forms and by everybody, for exactly the qualifier, under every condition, and
// through a URL only where the statement says so. // R14
func TestAllows(t *testing.T) {
	yes, no := new(true), new(false)
	direct := Access{Action: ActionInvoke, Account: stranger}
	public := Access{Action: ActionInvoke, URLAuth: URLAuthNone}
	for name, c := range map[string]struct {
		statement Statement
		access    Access
		want      bool
	}{
		"account":                 {Statement{Action: ActionInvoke, Principal: string(stranger)}, direct, true},
		"root":                    {Statement{Action: ActionInvoke, Principal: "arn:aws:iam::111111111111:root"}, direct, true},
		"user":                    {Statement{Action: ActionInvoke, Principal: "arn:aws:iam::111111111111:user/u"}, direct, false},
		"other account":           {Statement{Action: ActionInvoke, Principal: string(owner)}, direct, false},
		"everybody":               {Statement{Action: ActionInvoke, Principal: "*"}, direct, true},
		"every action":            {Statement{Action: "lambda:*", Principal: "*"}, direct, true},
		"other action":            {Statement{Action: "lambda:GetFunction", Principal: "*"}, direct, false},
		"service":                 {Statement{Action: ActionInvoke, Principal: "s3.amazonaws.com"}, direct, false},
		"source account":          {Statement{Action: ActionInvoke, Principal: "*", SourceAccount: string(stranger)}, direct, true},
		"other source account":    {Statement{Action: ActionInvoke, Principal: "*", SourceAccount: string(owner)}, direct, false},
		"source":                  {Statement{Action: ActionInvoke, Principal: "*", SourceARN: "arn:aws:s3:::b"}, direct, false},
		"token":                   {Statement{Action: ActionInvoke, Principal: "*", EventSourceToken: "t"}, direct, false},
		"organization":            {Statement{Action: ActionInvoke, Principal: "*", Organization: "o"}, direct, false},
		"through a URL only":      {Statement{Action: ActionInvoke, Principal: "*", ViaURL: yes}, direct, false},
		"not through a URL":       {Statement{Action: ActionInvoke, Principal: "*", ViaURL: no}, public, false},
		"through a URL":           {Statement{Action: ActionInvoke, Principal: "*", ViaURL: yes}, public, true},
		"nobody's request":        {Statement{Action: ActionInvoke, Principal: string(stranger)}, public, false},
		"nobody is no service":    {Statement{Action: ActionInvoke, Principal: "s3.amazonaws.com"}, public, false},
		"nobody has no source":    {Statement{Action: ActionInvoke, Principal: "*", SourceAccount: string(owner)}, public, false},
		"kind of URL":             {Statement{Action: ActionInvokeURL, Principal: "*", URLAuth: URLAuthNone}, Access{Action: ActionInvokeURL, URLAuth: URLAuthNone}, true},
		"other kind of URL":       {Statement{Action: ActionInvokeURL, Principal: "*", URLAuth: URLAuthIAM}, Access{Action: ActionInvokeURL, URLAuth: URLAuthNone}, false},
		"URL's action is its own": {Statement{Action: ActionInvokeURL, Principal: "*"}, direct, false},
	} {
		if got := c.statement.Allows(c.access); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

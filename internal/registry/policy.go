package registry

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"

	"kiln"
)

// MaxPolicyBytes bounds the policy of a function, a version or an alias, as AWS writes it.
const MaxPolicyBytes = 20 << 10

// Actions of AWS Lambda that a statement may grant and that somebody asks about here.
const (
	ActionInvoke    = "lambda:InvokeFunction"
	ActionInvokeURL = "lambda:InvokeFunctionUrl"
)

// Policy says who but its owner may do what with a function, a version or an alias.
type Policy struct {
	// Revision is new at every change of the policy.
	Revision   string      `json:"revision"`
	Statements []Statement `json:"statements"`
}

// Statement is one grant. Members that are empty do not limit it.
type Statement struct {
	ID     string `json:"id"`
	Action string `json:"action"`
	// Principal is "*", an account's number, an ARN of IAM or STS, or a service's name.
	Principal        string `json:"principal"`
	SourceARN        string `json:"sourceArn,omitempty"`
	SourceAccount    string `json:"sourceAccount,omitempty"`
	EventSourceToken string `json:"eventSourceToken,omitempty"`
	Organization     string `json:"organization,omitempty"`
	// URLAuth limits the grant to requests through a function URL with this kind of authorization.
	URLAuth string `json:"urlAuth,omitempty"`
	// ViaURL limits the grant to requests through a function URL, or to those that are not.
	ViaURL *bool `json:"viaUrl,omitempty"`
}

// Access is what somebody wants who does not own the function.
type Access struct {
	Action string
	// Account is whose key signed the request; empty for nobody's. It is the source account too.
	Account kiln.AccountID
	// URLAuth is the kind of authorization of the function URL the request came through; empty when it did not.
	URLAuth string
}

// Allows reports whether a statement grants an access. Statements for services, for users and roles (keys here are an
// account's own), for sources, tokens and organizations grant nothing to who signs or comes through a URL.
func (s *Statement) Allows(a Access) bool {
	if s.Action != "*" && s.Action != "lambda:*" && !strings.EqualFold(s.Action, a.Action) {
		return false
	}
	if s.Principal != "*" && (a.Account == "" || accountOf(s.Principal) != a.Account) {
		return false
	}
	if s.SourceAccount != "" && s.SourceAccount != string(a.Account) {
		return false
	}
	if s.SourceARN != "" || s.EventSourceToken != "" || s.Organization != "" {
		return false
	}
	if s.URLAuth != "" && s.URLAuth != a.URLAuth {
		return false
	}
	return s.ViaURL == nil || *s.ViaURL == (a.URLAuth != "")
}

// accountOf gives the account a principal stands for as a whole, empty for any other principal.
func accountOf(principal string) kiln.AccountID {
	m := wholeAccount.FindStringSubmatch(principal)
	if m == nil {
		return ""
	}
	return kiln.AccountID(m[1] + m[2])
}

var (
	wholeAccount = regexp.MustCompile(`^(?:(\d{12})|arn:aws[a-z-]*:iam::(\d{12}):root)$`)
	// principal is what AWS takes: everybody, an account, something of IAM or STS, a service.
	principal = regexp.MustCompile(`^(?:\*|\d{12}|arn:aws[a-z-]*:(?:iam|sts)::\d{12}:(?:root|[a-z-]+/.+)|[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)+)$`)
)

// Allowed reports whether the policy of exactly this qualifier grants an access to a function. Where there is no such
// function or qualifier, nothing is granted.
func (r *Registry) Allowed(owner kiln.AccountID, name, qualifier string, a Access) bool {
	e := r.entry(owner, name)
	if e == nil {
		return false
	}
	p := e.head.Policies[policyKey(qualifier)]
	return p != nil && slices.ContainsFunc(p.Statements, func(s Statement) bool { return s.Allows(a) })
}

// policyKey is the key of a qualifier's policy: $LATEST has the function's own.
func policyKey(qualifier string) string {
	if qualifier == kiln.Latest {
		return ""
	}
	return qualifier
}

// AddPermission adds a statement to the policy of a function or, with a qualifier, of a version or an alias, and gives the
// statement as AWS writes it. revision, unless empty, must be the policy's. Kinds: KindNotFound, KindConflict (the
// statement's id is taken), KindPrecondition, KindInvalid, KindLimit.
func (r *Registry) AddPermission(ctx context.Context, owner kiln.AccountID, name, qualifier, revision string, s Statement) (string, error) {
	const op = "registry: add permission"
	if err := checkStatement(op, qualifier, &s); err != nil {
		return "", err
	}
	arn := kiln.FunctionARN(r.cfg.Region, owner, name, qualifier)
	_, err := r.change(ctx, op, owner, name, func(f *Function) (*kiln.Version, error) {
		p, err := r.policy(op, f, qualifier, revision)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(p.Statements, func(old Statement) bool { return old.ID == s.ID }) {
			return nil, kiln.Errorf(kiln.KindConflict, op, "The statement id (%s) provided already exists. "+
				"Please provide a new statement id, or remove the existing statement.", s.ID)
		}
		p.Statements = append(p.Statements, s)
		if size := len(p.document(arn)); size > MaxPolicyBytes {
			return nil, limit(op, "PolicyLengthExceededException", "The final policy size (%d) is bigger than the limit (%d).", size, MaxPolicyBytes)
		}
		p.Revision = uuid.NewString()
		if f.Policies == nil {
			f.Policies = map[string]*Policy{}
		}
		f.Policies[qualifier] = p
		return nil, nil
	})
	if err != nil {
		return "", err
	}
	return string(plainJSON(s.document(arn))), nil
}

func checkStatement(op, qualifier string, s *Statement) error {
	switch {
	case qualifier == kiln.Latest:
		return invalid(op, "We currently do not support adding policies for $LATEST.")
	case !principal.MatchString(s.Principal):
		return invalid(op, "The provided principal was invalid. Please check the principal and try again.")
	case s.URLAuth != "" && s.Action != ActionInvokeURL:
		return invalid(op, "lambda:FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action")
	case s.ViaURL != nil && s.Action != ActionInvoke:
		return invalid(op, "lambda:InvokedViaFunctionUrl is only supported for lambda:InvokeFunction action")
	}
	return nil
}

// policy gives a qualifier's policy to be changed, an empty one when there is none. A policy that is not there yet has the
// revision of what it is for.
func (r *Registry) policy(op string, f *Function, qualifier, revision string) (*Policy, error) {
	p, now := f.Policies[qualifier], ""
	switch {
	case p != nil:
		now = p.Revision
	case qualifier == "":
		now = f.current().Revision
	case f.Aliases[qualifier] != nil:
		now = f.Aliases[qualifier].Revision
	case f.find(qualifier) >= 0:
		now = f.Versions[f.find(qualifier)].Revision
	default:
		return nil, r.notFound(op, f.Account, f.Name, qualifier)
	}
	if revision != "" && revision != now {
		return nil, kiln.Errorf(kiln.KindPrecondition, op, "The Revision Id provided does not match the latest Revision Id. "+
			"Call the GetPolicy API to retrieve the latest Revision Id")
	}
	if p == nil {
		p = &Policy{}
	}
	return p, nil
}

// RemovePermission removes a statement. Kinds: KindNotFound (function, qualifier, policy, statement), KindPrecondition.
func (r *Registry) RemovePermission(ctx context.Context, owner kiln.AccountID, name, qualifier, revision, statement string) error {
	const op = "registry: remove permission"
	qualifier = policyKey(qualifier)
	_, err := r.change(ctx, op, owner, name, func(f *Function) (*kiln.Version, error) {
		p, err := r.policy(op, f, qualifier, revision)
		if err != nil {
			return nil, err
		}
		if len(p.Statements) == 0 {
			return nil, kiln.Errorf(kiln.KindNotFound, op, "No policy is associated with the given resource.")
		}
		i := slices.IndexFunc(p.Statements, func(s Statement) bool { return s.ID == statement })
		if i < 0 {
			return nil, kiln.Errorf(kiln.KindNotFound, op, "Statement %s is not found in resource policy.", statement)
		}
		p.Statements = slices.Delete(p.Statements, i, i+1)
		p.Revision = uuid.NewString()
		if len(p.Statements) == 0 {
			delete(f.Policies, qualifier)
		}
		return nil, nil
	})
	return err
}

// Policy gives a policy as AWS writes it, and its revision. Kinds: KindNotFound.
func (r *Registry) Policy(owner kiln.AccountID, name, qualifier string) (document, revision string, err error) {
	const op = "registry: get policy"
	e := r.entry(owner, name)
	if e == nil {
		return "", "", r.notFound(op, owner, name, "")
	}
	qualifier = policyKey(qualifier)
	p := e.head.Policies[qualifier]
	if p == nil { // the same when there is no such version or alias
		return "", "", kiln.Errorf(kiln.KindNotFound, op, "The resource you requested does not exist.")
	}
	return string(p.document(kiln.FunctionARN(r.cfg.Region, owner, name, qualifier))), p.Revision, nil
}

// statementDocument is a statement as AWS writes it, in AWS's order.
type statementDocument struct {
	Sid       string
	Effect    string
	Principal any
	Action    string
	Resource  string
	Condition map[string]map[string]string `json:",omitempty"`
}

func (p *Policy) document(arn string) []byte {
	all := make([]statementDocument, 0, len(p.Statements))
	for i := range p.Statements {
		all = append(all, p.Statements[i].document(arn))
	}
	return plainJSON(struct {
		Version   string
		ID        string `json:"Id"`
		Statement []statementDocument
	}{"2012-10-17", "default", all})
}

func (s *Statement) document(arn string) statementDocument {
	d := statementDocument{Sid: s.ID, Effect: "Allow", Principal: s.principal(), Action: s.Action, Resource: arn}
	condition := func(operator, key, value string) {
		if value == "" {
			return
		}
		if d.Condition == nil {
			d.Condition = map[string]map[string]string{}
		}
		if d.Condition[operator] == nil {
			d.Condition[operator] = map[string]string{}
		}
		d.Condition[operator][key] = value
	}
	condition("StringEquals", "lambda:FunctionUrlAuthType", s.URLAuth)
	condition("StringEquals", "lambda:EventSourceToken", s.EventSourceToken)
	condition("StringEquals", "AWS:SourceAccount", s.SourceAccount)
	condition("StringEquals", "aws:PrincipalOrgID", s.Organization)
	condition("ArnLike", "AWS:SourceArn", s.SourceARN)
	if s.ViaURL != nil {
		condition("Bool", "lambda:InvokedViaFunctionUrl", map[bool]string{true: "true", false: "false"}[*s.ViaURL])
	}
	return d
}

// principal gives a principal as AWS writes it.
func (s *Statement) principal() any {
	switch account := accountOf(s.Principal); {
	case s.Principal == "*":
		return "*"
	case account != "":
		return map[string]string{"AWS": "arn:aws:iam::" + string(account) + ":root"}
	case strings.HasPrefix(s.Principal, "arn:"):
		return map[string]string{"AWS": s.Principal}
	}
	return map[string]string{"Service": s.Principal}
}

// plainJSON writes a document of texts, in which < and > stand for themselves.
func plainJSON(v any) []byte {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("registry: a policy cannot be written as JSON: " + err.Error())
	}
	return []byte(strings.TrimSuffix(b.String(), "\n"))
}

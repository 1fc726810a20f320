package frontend

import (
	"context"

	"kiln"
	"kiln/internal/identity"
	"kiln/internal/lambdaapi"
	"kiln/internal/registry"
)

// The operations on policies, and what they decide: who but its owner may invoke a function.

func (f *Frontend) addPermission(ctx context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.AddPermissionRequest)
	ref, err := f.reference(c, in.FunctionName, value(in.Qualifier, ""))
	if err != nil {
		return nil, err
	}
	statement, err := f.cfg.Registry.AddPermission(ctx, ref.Account, ref.Name, ref.Qualifier, value(in.RevisionId, ""), registry.Statement{
		ID: value(in.StatementId, ""), Action: value(in.Action, ""), Principal: value(in.Principal, ""),
		SourceARN: value(in.SourceArn, ""), SourceAccount: value(in.SourceAccount, ""),
		EventSourceToken: value(in.EventSourceToken, ""), Organization: value(in.PrincipalOrgID, ""),
		URLAuth: value(in.FunctionUrlAuthType, ""), ViaURL: in.InvokedViaFunctionUrl,
	})
	if err != nil {
		return nil, err
	}
	return &lambdaapi.AddPermissionResponse{Statement: &statement}, nil
}

func (f *Frontend) removePermission(ctx context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.RemovePermissionRequest)
	ref, err := f.reference(c, in.FunctionName, value(in.Qualifier, ""))
	if err != nil {
		return nil, err
	}
	return nil, f.cfg.Registry.RemovePermission(ctx, ref.Account, ref.Name, ref.Qualifier, value(in.RevisionId, ""), in.StatementId)
}

func (f *Frontend) getPolicy(_ context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.GetPolicyRequest)
	ref, err := f.reference(c, in.FunctionName, value(in.Qualifier, ""))
	if err != nil {
		return nil, err
	}
	document, revision, err := f.cfg.Registry.Policy(ref.Account, ref.Name, ref.Qualifier)
	if err != nil {
		return nil, err
	}
	return &lambdaapi.GetPolicyResponse{Policy: &document, RevisionId: &revision}, nil
}

// mayInvoke refuses another account's function unless its policy lets the caller invoke it. The refusal is the same
// whether there is such a function or not.
func (f *Frontend) mayInvoke(ref kiln.FunctionRef, caller identity.Caller) error {
	const action = registry.ActionInvoke
	if ref.Account == caller.Account {
		return nil
	}
	if f.cfg.Registry.Allowed(ref.Account, ref.Name, ref.Qualifier, registry.Access{Action: action, Account: caller.Account}) {
		return nil
	}
	return kiln.Errorf(kiln.KindDenied, "frontend: check permission", "User: arn:aws:iam::%s:root is not authorized to perform: %s on resource: %s because no resource-based policy allows the %s action",
		caller.Account, action, kiln.FunctionARN(f.cfg.Region, ref.Account, ref.Name, ref.Qualifier), action)
}

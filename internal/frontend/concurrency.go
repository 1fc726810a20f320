package frontend

import (
	"context"

	"kiln"
	"kiln/internal/admission"
	"kiln/internal/lambdaapi"
)

// The operations on a function's reserved concurrency.

func (f *Frontend) putFunctionConcurrency(ctx context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.PutFunctionConcurrencyRequest)
	ref, err := f.wholeFunction(in.FunctionName, c)
	if err != nil {
		return nil, err
	}
	reserved := value(in.ReservedConcurrentExecutions, 0)
	if err := f.cfg.Registry.Reserve(ctx, ref.Account, ref.Name, int(reserved)); err != nil {
		return nil, err
	}
	return &lambdaapi.Concurrency{ReservedConcurrentExecutions: &reserved}, nil
}

func (f *Frontend) getFunctionConcurrency(_ context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.GetFunctionConcurrencyRequest)
	ref, err := f.wholeFunction(in.FunctionName, c)
	if err != nil {
		return nil, err
	}
	reserved, err := f.reserved(ref)
	return &lambdaapi.GetFunctionConcurrencyResponse{ReservedConcurrentExecutions: reserved}, err
}

func (f *Frontend) deleteFunctionConcurrency(ctx context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.DeleteFunctionConcurrencyRequest)
	ref, err := f.wholeFunction(in.FunctionName, c)
	if err != nil {
		return nil, err
	}
	return nil, f.cfg.Registry.Unreserve(ctx, ref.Account, ref.Name)
}

// reserved gives a function's reservation as AWS shows it: nil for none.
func (f *Frontend) reserved(ref kiln.FunctionRef) (*int32, error) {
	n, err := f.cfg.Registry.Reserved(ref.Account, ref.Name)
	if err != nil || n == admission.None {
		return nil, err
	}
	return new(int32(n)), nil
}

// wholeFunction reads a function's name where a version or an alias makes no sense.
func (f *Frontend) wholeFunction(name string, c *call) (kiln.FunctionRef, error) {
	ref, err := f.reference(c, name, "")
	if err == nil && ref.Qualifier != "" {
		err = kiln.Errorf(kiln.KindInvalid, "frontend: read function name", "This operation is permitted on Lambda functions only. "+
			"Aliases and versions do not support this operation. Please specify either a function name or an unqualified function ARN.")
	}
	return ref, err
}

package frontend

import (
	"context"

	"kiln"
	"kiln/internal/lambdaapi"
	"kiln/internal/registry"
)

// The operations on provisioned concurrency. What is told of it is counted by the pools at that moment.

// provisionedTime is the form of a provisioned concurrency's LastModified.
const provisionedTime = "2006-01-02T15:04:05+0000"

func (f *Frontend) putProvisionedConcurrency(ctx context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.PutProvisionedConcurrencyConfigRequest)
	ref, err := f.reference(c, in.FunctionName, value(in.Qualifier, ""))
	if err != nil {
		return nil, err
	}
	made, err := f.cfg.Registry.Provision(ctx, ref.Account, ref.Name, ref.Qualifier, int(value(in.ProvisionedConcurrentExecutions, 0)))
	if err != nil {
		return nil, err
	}
	return f.standing(made), nil
}

func (f *Frontend) getProvisionedConcurrency(_ context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.GetProvisionedConcurrencyConfigRequest)
	ref, err := f.reference(c, in.FunctionName, value(in.Qualifier, ""))
	if err != nil {
		return nil, err
	}
	found, err := f.cfg.Registry.ProvisionedConfig(ref.Account, ref.Name, ref.Qualifier)
	if err != nil {
		return nil, err
	}
	s := f.standing(found)
	return &lambdaapi.GetProvisionedConcurrencyConfigResponse{
		RequestedProvisionedConcurrentExecutions: s.RequestedProvisionedConcurrentExecutions,
		AllocatedProvisionedConcurrentExecutions: s.AllocatedProvisionedConcurrentExecutions,
		AvailableProvisionedConcurrentExecutions: s.AvailableProvisionedConcurrentExecutions,
		Status:                                   s.Status, StatusReason: s.StatusReason, LastModified: s.LastModified,
	}, nil
}

func (f *Frontend) deleteProvisionedConcurrency(ctx context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.DeleteProvisionedConcurrencyConfigRequest)
	ref, err := f.reference(c, in.FunctionName, value(in.Qualifier, ""))
	if err != nil {
		return nil, err
	}
	return nil, f.cfg.Registry.Unprovision(ctx, ref.Account, ref.Name, ref.Qualifier)
}

func (f *Frontend) listProvisionedConcurrency(_ context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.ListProvisionedConcurrencyConfigsRequest)
	ref, err := f.wholeFunction(in.FunctionName, c)
	if err != nil {
		return nil, err
	}
	list, next, err := f.cfg.Registry.ProvisionedConfigs(ref.Account, ref.Name, page(in.Marker, in.MaxItems))
	if err != nil {
		return nil, err
	}
	out := &lambdaapi.ListProvisionedConcurrencyConfigsResponse{
		NextMarker: optional(next), ProvisionedConcurrencyConfigs: []lambdaapi.ProvisionedConcurrencyConfigListItem{},
	}
	for _, found := range list {
		s := f.standing(found)
		out.ProvisionedConcurrencyConfigs = append(out.ProvisionedConcurrencyConfigs, lambdaapi.ProvisionedConcurrencyConfigListItem{
			FunctionArn:                              new(kiln.FunctionARN(f.cfg.Region, ref.Account, ref.Name, found.Qualifier)),
			RequestedProvisionedConcurrentExecutions: s.RequestedProvisionedConcurrentExecutions,
			AllocatedProvisionedConcurrentExecutions: s.AllocatedProvisionedConcurrentExecutions,
			AvailableProvisionedConcurrentExecutions: s.AvailableProvisionedConcurrentExecutions,
			Status:                                   s.Status, StatusReason: s.StatusReason, LastModified: s.LastModified,
		})
	}
	return out, nil
}

// standing gives provisioned concurrency in AWS's shape.
func (f *Frontend) standing(c registry.ProvisionedConfig) *lambdaapi.PutProvisionedConcurrencyConfigResponse {
	s := f.cfg.Provisioning.Standing(c)
	return &lambdaapi.PutProvisionedConcurrencyConfigResponse{
		RequestedProvisionedConcurrentExecutions: new(int32(c.Executions)),
		AllocatedProvisionedConcurrentExecutions: new(int32(s.Allocated)),
		AvailableProvisionedConcurrentExecutions: new(int32(s.Available)),
		Status:                                   new(string(s.State)), StatusReason: optional(s.Reason),
		LastModified: new(c.Modified.UTC().Format(provisionedTime)),
	}
}

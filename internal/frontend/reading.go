package frontend

import (
	"context"
	"net/http"

	"kiln"
	"kiln/internal/lambdaapi"
	"kiln/internal/registry"
)

// The operations that read: functions, versions, aliases, the account.

func (f *Frontend) getFunction(_ context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.GetFunctionRequest)
	ref, err := f.reference(c, in.FunctionName, value(in.Qualifier, ""))
	if err != nil {
		return nil, err
	}
	found, err := f.cfg.Registry.Get(ref.Account, ref.Name, ref.Qualifier)
	if err != nil {
		return nil, err
	}
	tags, err := f.cfg.Registry.Tags(ref.Account, ref.Name)
	if err != nil {
		return nil, err
	}
	reserved, err := f.reserved(ref)
	if err != nil {
		return nil, err
	}
	out := &lambdaapi.GetFunctionResponse{
		Configuration: f.configuration(found, ref.Qualifier),
		Code: &lambdaapi.FunctionCodeLocation{
			RepositoryType: new("S3"), Location: new(f.location(c.http, found.Version.Package, c.received)),
		},
		Tags: tags,
	}
	if reserved != nil {
		out.Concurrency = &lambdaapi.Concurrency{ReservedConcurrentExecutions: reserved}
	}
	return out, nil
}

func (f *Frontend) getFunctionConfiguration(_ context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.GetFunctionConfigurationRequest)
	ref, err := f.reference(c, in.FunctionName, value(in.Qualifier, ""))
	if err != nil {
		return nil, err
	}
	found, err := f.cfg.Registry.Get(ref.Account, ref.Name, ref.Qualifier)
	if err != nil {
		return nil, err
	}
	return f.configuration(found, ref.Qualifier), nil
}

func (f *Frontend) listFunctions(_ context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.ListFunctionsRequest)
	all := value(in.FunctionVersion, "") == "ALL"
	list, next, err := f.cfg.Registry.List(c.caller.Account, all, page(in.Marker, in.MaxItems))
	if err != nil {
		return nil, err
	}
	out := &lambdaapi.ListFunctionsResponse{NextMarker: optional(next), Functions: []lambdaapi.FunctionConfiguration{}}
	for _, found := range list {
		qualifier := ""
		if all {
			qualifier = found.Version.Number
		}
		out.Functions = append(out.Functions, *f.configuration(found, qualifier))
	}
	return out, nil
}

func (f *Frontend) listVersions(_ context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.ListVersionsByFunctionRequest)
	ref, err := f.reference(c, in.FunctionName, "")
	if err != nil {
		return nil, err
	}
	list, next, err := f.cfg.Registry.Versions(ref.Account, ref.Name, page(in.Marker, in.MaxItems))
	if err != nil {
		return nil, err
	}
	out := &lambdaapi.ListVersionsByFunctionResponse{NextMarker: optional(next), Versions: []lambdaapi.FunctionConfiguration{}}
	for _, found := range list {
		out.Versions = append(out.Versions, *f.configuration(found, found.Version.Number))
	}
	return out, nil
}

func (f *Frontend) getAlias(_ context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.GetAliasRequest)
	ref, err := f.reference(c, in.FunctionName, "")
	if err != nil {
		return nil, err
	}
	found, err := f.cfg.Registry.Alias(ref.Account, ref.Name, in.Name)
	if err != nil {
		return nil, err
	}
	return f.alias(ref, found), nil
}

func (f *Frontend) listAliases(_ context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.ListAliasesRequest)
	ref, err := f.reference(c, in.FunctionName, "")
	if err != nil {
		return nil, err
	}
	list, next, err := f.cfg.Registry.Aliases(ref.Account, ref.Name, value(in.FunctionVersion, ""), page(in.Marker, in.MaxItems))
	if err != nil {
		return nil, err
	}
	out := &lambdaapi.ListAliasesResponse{NextMarker: optional(next), Aliases: []lambdaapi.AliasConfiguration{}}
	for _, found := range list {
		out.Aliases = append(out.Aliases, *f.alias(ref, found))
	}
	return out, nil
}

func (f *Frontend) alias(ref kiln.FunctionRef, a *registry.Alias) *lambdaapi.AliasConfiguration {
	return alias(a, kiln.FunctionARN(f.cfg.Region, ref.Account, ref.Name, a.Name))
}

func (f *Frontend) getAccountSettings(_ context.Context, c *call, _ any) (any, error) {
	usage := f.cfg.Registry.Usage(c.caller.Account)
	return &lambdaapi.GetAccountSettingsResponse{
		AccountLimit: &lambdaapi.AccountLimit{
			TotalCodeSize: new(int64(registry.MaxCodeBytes)), CodeSizeUnzipped: new(int64(kiln.MaxPackageUnpackedBytes)),
			CodeSizeZipped: new(int64(kiln.MaxPackageZipBytes)), ConcurrentExecutions: new(int32(f.cfg.ConcurrentExecutions)),
			UnreservedConcurrentExecutions: new(int32(f.cfg.Registry.Unreserved(c.caller.Account))),
		},
		AccountUsage: &lambdaapi.AccountUsage{TotalCodeSize: &usage.CodeBytes, FunctionCount: new(int64(usage.Functions))},
	}, nil
}

func page(marker *string, limit *int32) registry.Page {
	return registry.Page{Marker: value(marker, ""), Limit: int(value(limit, 0))}
}

// noContent is the answer of operations that AWS answers with 204.
func noContent() *lambdaapi.DeleteFunctionResponse {
	return &lambdaapi.DeleteFunctionResponse{StatusCode: new(int32(http.StatusNoContent))}
}

package frontend

import (
	"bytes"
	"context"
	"encoding/json"

	"kiln"
	"kiln/internal/lambdaapi"
	"kiln/internal/registry"
)

// The operations that change: functions, versions, aliases.

func (f *Frontend) createFunction(ctx context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.CreateFunctionRequest)
	const op = "frontend: create function"
	ref, err := f.reference(c, value(in.FunctionName, ""), "")
	if err != nil {
		return nil, err
	}
	if err := refuseUnserved(map[string]bool{
		"ImageUri": in.Code.ImageUri != nil, "ImageConfig": in.ImageConfig != nil, "S3Bucket": in.Code.S3Bucket != nil,
		"Layers": len(in.Layers) > 0, "FileSystemConfigs": len(in.FileSystemConfigs) > 0,
		"DurableConfig": in.DurableConfig != nil, "TenancyConfig": in.TenancyConfig != nil, "CodeSigningConfigArn": in.CodeSigningConfigArn != nil,
	}); err != nil {
		return nil, err
	}
	if in.Runtime == nil || in.Handler == nil {
		return nil, kiln.Errorf(kiln.KindInvalid, op, "Runtime and Handler are mandatory parameters for functions created with deployment packages.")
	}
	version := kiln.Version{
		Account: ref.Account, Function: ref.Name, Runtime: *in.Runtime, Handler: *in.Handler, Role: value(in.Role, ""),
		MemoryMiB: defaultMemoryMiB, TimeoutMillis: defaultTimeoutSeconds * 1000, DiskMiB: defaultDiskMiB,
		Architecture: f.cfg.Architecture, Kept: map[string]json.RawMessage{},
	}
	if len(in.Architectures) > 0 {
		version.Architecture = in.Architectures[0]
	}
	if err := f.settings(&version, &lambdaapi.UpdateFunctionConfigurationRequest{
		Description: in.Description, Timeout: in.Timeout, MemorySize: in.MemorySize, Environment: in.Environment,
		EphemeralStorage: in.EphemeralStorage, VpcConfig: in.VpcConfig, DeadLetterConfig: in.DeadLetterConfig,
		KMSKeyArn: in.KMSKeyArn, TracingConfig: in.TracingConfig, SnapStart: in.SnapStart, LoggingConfig: in.LoggingConfig,
		CapacityProviderConfig: in.CapacityProviderConfig,
	}); err != nil {
		return nil, err
	}
	if version.Package, version.PackageBytes, err = f.store(ctx, in.Code.ZipFile); err != nil {
		return nil, err
	}
	create := registry.CreateInput{Version: version, Tags: in.Tags, PublishLatest: in.PublishTo != nil, Stored: true}
	create.Publish = value(in.Publish, false) && !create.PublishLatest
	made, err := f.cfg.Registry.Create(ctx, create)
	if err != nil {
		return nil, err
	}
	return f.configuration(made, published(made)), nil
}

// settings puts what is given of a configuration into a version, and refuses what cannot be.
func (f *Frontend) settings(v *kiln.Version, in *lambdaapi.UpdateFunctionConfigurationRequest) error {
	const op = "frontend: read configuration"
	v.Runtime, v.Handler = value(in.Runtime, v.Runtime), value(in.Handler, v.Handler)
	v.Role, v.Description = value(in.Role, v.Role), value(in.Description, v.Description)
	v.MemoryMiB = int(value(in.MemorySize, int32(v.MemoryMiB)))
	v.TimeoutMillis = 1000 * int64(value(in.Timeout, int32(v.TimeoutMillis/1000)))
	if in.EphemeralStorage != nil {
		v.DiskMiB = int(value(in.EphemeralStorage.Size, int32(v.DiskMiB)))
	}
	if in.Environment != nil {
		v.Environment = in.Environment.Variables
	}
	if v.MemoryMiB > kiln.MaxMemoryMiB {
		return kiln.Errorf(kiln.KindInvalid, op, "'MemorySize' value failed to satisfy constraint: Member must have value less than or equal to %d", kiln.MaxMemoryMiB)
	}
	if v.TimeoutMillis > maxTimeoutSeconds*1000 {
		return kiln.Errorf(kiln.KindInvalid, op, "'Timeout' value failed to satisfy constraint: Member must have value less than or equal to %d", maxTimeoutSeconds)
	}
	if v.Kept == nil {
		v.Kept = map[string]json.RawMessage{}
	}
	keep(v.Kept, "VpcConfig", in.VpcConfig)
	keep(v.Kept, "DeadLetterConfig", in.DeadLetterConfig)
	keep(v.Kept, "KMSKeyArn", in.KMSKeyArn)
	keep(v.Kept, "TracingConfig", in.TracingConfig)
	keep(v.Kept, "SnapStart", in.SnapStart)
	keep(v.Kept, "LoggingConfig", in.LoggingConfig)
	if in.CapacityProviderConfig != nil {
		if err := f.onProvider(v, in.CapacityProviderConfig); err != nil {
			return err
		}
	}
	return f.cfg.RuntimeKnown(v.Runtime, v.Architecture)
}

// store checks an uploaded package and puts it away.
func (f *Frontend) store(ctx context.Context, zip []byte) (kiln.Digest, int64, error) {
	const op = "frontend: store package"
	if len(zip) == 0 {
		return "", 0, kiln.Errorf(kiln.KindInvalid, op, "Please provide a source for function code: a zip file in base64 (ZipFile).")
	}
	if len(zip) > kiln.MaxPackageZipBytes {
		e := kiln.Errorf(kiln.KindTooLarge, op, "Request must be smaller than %d bytes for the package", kiln.MaxPackageZipBytes)
		e.Reason = "RequestEntityTooLargeException"
		return "", 0, e
	}
	if err := f.cfg.Room(); err != nil {
		return "", 0, err
	}
	return f.cfg.Packages.PutZip(ctx, bytes.NewReader(zip), int64(len(zip)))
}

func (f *Frontend) updateFunctionCode(ctx context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.UpdateFunctionCodeRequest)
	ref, err := f.reference(c, in.FunctionName, "")
	if err != nil {
		return nil, err
	}
	if err := refuseUnserved(map[string]bool{
		"ImageUri": in.ImageUri != nil, "S3Bucket": in.S3Bucket != nil,
	}); err != nil {
		return nil, err
	}
	before, err := f.cfg.Registry.Get(ref.Account, ref.Name, "")
	if err != nil {
		return nil, err
	}
	update := registry.CodeUpdate{Revision: value(in.RevisionId, ""), PublishLatest: in.PublishTo != nil, DryRun: value(in.DryRun, false),
		Stored: true}
	update.Publish = value(in.Publish, false) && !update.PublishLatest
	if len(in.Architectures) > 0 {
		update.Architecture = in.Architectures[0]
		if err := f.cfg.RuntimeKnown(before.Version.Runtime, update.Architecture); err != nil {
			return nil, err
		}
	}
	if update.Package, update.PackageBytes, err = f.store(ctx, in.ZipFile); err != nil {
		return nil, err
	}
	made, err := f.cfg.Registry.UpdateCode(ctx, ref.Account, ref.Name, update)
	if err != nil {
		return nil, err
	}
	return f.configuration(made, published(made)), nil
}

func (f *Frontend) updateFunctionConfiguration(ctx context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.UpdateFunctionConfigurationRequest)
	ref, err := f.reference(c, in.FunctionName, "")
	if err != nil {
		return nil, err
	}
	if err := refuseUnserved(map[string]bool{
		"ImageConfig": in.ImageConfig != nil, "Layers": len(in.Layers) > 0, "FileSystemConfigs": len(in.FileSystemConfigs) > 0,
		"DurableConfig": in.DurableConfig != nil,
	}); err != nil {
		return nil, err
	}
	made, err := f.cfg.Registry.UpdateConfiguration(ctx, ref.Account, ref.Name, value(in.RevisionId, ""), func(v *kiln.Version) error {
		return f.settings(v, in)
	})
	if err != nil {
		return nil, err
	}
	return f.configuration(made, ""), nil
}

func (f *Frontend) deleteFunction(ctx context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.DeleteFunctionRequest)
	ref, err := f.reference(c, in.FunctionName, value(in.Qualifier, ""))
	if err != nil {
		return nil, err
	}
	return noContent(), f.cfg.Registry.Delete(ctx, ref.Account, ref.Name, ref.Qualifier)
}

func (f *Frontend) publishVersion(ctx context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.PublishVersionRequest)
	ref, err := f.reference(c, in.FunctionName, "")
	if err != nil {
		return nil, err
	}
	made, err := f.cfg.Registry.PublishVersion(ctx, ref.Account, ref.Name, registry.PublishInput{
		Description: value(in.Description, ""), CodeSHA256: value(in.CodeSha256, ""), Revision: value(in.RevisionId, ""),
		Latest: in.PublishTo != nil,
	})
	if err != nil {
		return nil, err
	}
	return f.configuration(made, published(made)), nil
}

func (f *Frontend) createAlias(ctx context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.CreateAliasRequest)
	ref, err := f.reference(c, in.FunctionName, "")
	if err != nil {
		return nil, err
	}
	made, err := f.cfg.Registry.CreateAlias(ctx, ref.Account, ref.Name, registry.Alias{
		Name: value(in.Name, ""), Version: value(in.FunctionVersion, ""), Description: value(in.Description, ""), Weights: weights(in.RoutingConfig),
	})
	if err != nil {
		return nil, err
	}
	return f.alias(ref, made), nil
}

func (f *Frontend) updateAlias(ctx context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.UpdateAliasRequest)
	ref, err := f.reference(c, in.FunctionName, "")
	if err != nil {
		return nil, err
	}
	made, err := f.cfg.Registry.UpdateAlias(ctx, ref.Account, ref.Name, in.Name, registry.AliasUpdate{
		Version: in.FunctionVersion, Description: in.Description, Weights: weights(in.RoutingConfig), Revision: value(in.RevisionId, ""),
	})
	if err != nil {
		return nil, err
	}
	return f.alias(ref, made), nil
}

func (f *Frontend) deleteAlias(ctx context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.DeleteAliasRequest)
	ref, err := f.reference(c, in.FunctionName, "")
	if err != nil {
		return nil, err
	}
	return nil, f.cfg.Registry.DeleteAlias(ctx, ref.Account, ref.Name, in.Name)
}

// weights gives an alias's weights: nil when the request leaves them as they are.
func weights(r *lambdaapi.AliasRoutingConfiguration) map[string]float64 {
	if r == nil {
		return nil
	}
	if r.AdditionalVersionWeights == nil {
		return map[string]float64{}
	}
	return r.AdditionalVersionWeights
}

// published gives the qualifier a new version's ARN ends with: none while it is $LATEST.
func published(c registry.Configuration) string {
	if c.Version.Number == kiln.Latest {
		return ""
	}
	return c.Version.Number
}

// handlers is what this frontend serves; docs/operations.md lists the same.
func (f *Frontend) handlers() map[string]handler {
	return map[string]handler{
		"CreateFunction": f.createFunction, "GetFunction": f.getFunction, "GetFunctionConfiguration": f.getFunctionConfiguration,
		"UpdateFunctionCode": f.updateFunctionCode, "UpdateFunctionConfiguration": f.updateFunctionConfiguration,
		"DeleteFunction": f.deleteFunction, "ListFunctions": f.listFunctions,
		"PublishVersion": f.publishVersion, "ListVersionsByFunction": f.listVersions,
		"CreateAlias": f.createAlias, "GetAlias": f.getAlias, "UpdateAlias": f.updateAlias, "DeleteAlias": f.deleteAlias, "ListAliases": f.listAliases,
		"PutFunctionConcurrency": f.putFunctionConcurrency, "GetFunctionConcurrency": f.getFunctionConcurrency,
		"DeleteFunctionConcurrency":       f.deleteFunctionConcurrency,
		"PutProvisionedConcurrencyConfig": f.putProvisionedConcurrency, "GetProvisionedConcurrencyConfig": f.getProvisionedConcurrency,
		"DeleteProvisionedConcurrencyConfig": f.deleteProvisionedConcurrency, "ListProvisionedConcurrencyConfigs": f.listProvisionedConcurrency,
		"CreateCapacityProvider": f.createCapacityProvider, "GetCapacityProvider": f.getCapacityProvider,
		"UpdateCapacityProvider": f.updateCapacityProvider, "DeleteCapacityProvider": f.deleteCapacityProvider,
		"ListCapacityProviders": f.listCapacityProviders, "ListFunctionVersionsByCapacityProvider": f.listVersionsByProvider,
		"PutFunctionScalingConfig": f.putFunctionScaling, "GetFunctionScalingConfig": f.getFunctionScaling,
		"AddPermission": f.addPermission, "RemovePermission": f.removePermission, "GetPolicy": f.getPolicy,
		"ListTags": f.listTags, "TagResource": f.tagResource, "UntagResource": f.untagResource,
		"CreateFunctionUrlConfig": f.createFunctionURL, "GetFunctionUrlConfig": f.getFunctionURL,
		"UpdateFunctionUrlConfig": f.updateFunctionURL, "DeleteFunctionUrlConfig": f.deleteFunctionURL,
		"ListFunctionUrlConfigs": f.listFunctionURLs,
		"GetAccountSettings":     f.getAccountSettings,
	}
}

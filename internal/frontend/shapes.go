package frontend

import (
	"encoding/json"

	"kiln"
	"kiln/internal/lambdaapi"
	"kiln/internal/registry"
)

// AWS's defaults for what a function's configuration leaves out.
const (
	defaultMemoryMiB      = 128
	defaultTimeoutSeconds = 3
	defaultDiskMiB        = 512
	// maxTimeoutSeconds is the quota of an ordinary function; the model's own bound is for managed instances.
	maxTimeoutSeconds = 900
)

// awsTime is the form of LastModified.
const awsTime = "2006-01-02T15:04:05.000+0000"

// configuration gives a version in AWS's shape. The qualifier, where there is one, ends its ARN.
func (f *Frontend) configuration(c registry.Configuration, qualifier string) *lambdaapi.FunctionConfiguration {
	v := c.Version
	out := &lambdaapi.FunctionConfiguration{
		FunctionName: &v.Function, FunctionArn: new(kiln.FunctionARN(f.cfg.Region, v.Account, v.Function, qualifier)),
		Runtime: &v.Runtime, Role: &v.Role, Handler: &v.Handler, CodeSize: &v.PackageBytes, Description: &v.Description,
		Timeout: new(int32(v.TimeoutMillis / 1000)), MemorySize: new(int32(v.MemoryMiB)),
		LastModified: new(v.Modified.UTC().Format(awsTime)), CodeSha256: new(registry.CodeSHA256(v.Package)),
		Version: &v.Number, RevisionId: &v.Revision, PackageType: new("Zip"), Architectures: []string{v.Architecture},
		EphemeralStorage: &lambdaapi.EphemeralStorage{Size: new(int32(v.DiskMiB))},
		State:            new(string(c.State)), LastUpdateStatus: optional(string(c.LastUpdate)),
		StateReason: optional(c.StateReason), StateReasonCode: optional(c.StateReasonCode),
		LastUpdateStatusReason: optional(c.LastUpdateReason), LastUpdateStatusReasonCode: optional(c.LastUpdateReasonCode),
		TracingConfig: &lambdaapi.TracingConfigResponse{Mode: new("PassThrough")},
		SnapStart:     &lambdaapi.SnapStartResponse{ApplyOn: new("None"), OptimizationStatus: new("Off")},
		LoggingConfig: &lambdaapi.LoggingConfig{LogFormat: new("Text"), LogGroup: new("/aws/lambda/" + v.Function)},
	}
	if len(v.Environment) > 0 {
		out.Environment = &lambdaapi.EnvironmentResponse{Variables: v.Environment}
	}
	kept, err := json.Marshal(v.Kept)
	if err == nil {
		err = json.Unmarshal(kept, out)
	}
	if err != nil {
		f.cfg.Logger.Error("kept configuration unreadable", "function", v.Function, "error", err)
	}
	return out
}

// keep notes a member of AWS's configuration that Kiln keeps and gives back but does not act on. Absent ones are not.
func keep[T any](kept map[string]json.RawMessage, name string, member *T) {
	if member == nil {
		return
	}
	b, err := json.Marshal(member)
	if err != nil {
		panic("frontend: a generated shape cannot be written: " + err.Error())
	}
	kept[name] = b
}

// refuseUnserved refuses members that change what a function does and that Kiln does not serve yet: taking them would
// be a promise nobody keeps.
func refuseUnserved(unserved map[string]bool) error {
	for _, member := range [...]string{"ImageUri", "ImageConfig", "S3Bucket", "Layers", "FileSystemConfigs",
		"DurableConfig", "TenancyConfig", "CodeSigningConfigArn"} {
		if unserved[member] {
			return kiln.Errorf(kiln.KindInvalid, "frontend: read configuration", "Kiln does not serve %s yet; leave it out.", member)
		}
	}
	return nil
}

func alias(a *registry.Alias, arn string) *lambdaapi.AliasConfiguration {
	out := &lambdaapi.AliasConfiguration{
		AliasArn: &arn, Name: &a.Name, FunctionVersion: &a.Version, Description: &a.Description, RevisionId: &a.Revision,
	}
	if len(a.Weights) > 0 {
		out.RoutingConfig = &lambdaapi.AliasRoutingConfiguration{AdditionalVersionWeights: a.Weights}
	}
	return out
}

// optional gives nil for the empty string: AWS leaves such members out.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// value gives what a pointer points to, or the other value for nil.
func value[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

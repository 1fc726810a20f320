package frontend

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"kiln"
	"kiln/internal/lambdaapi"
	"kiln/internal/registry"
)

// The operations on capacity providers.

// shapeType begins the instance types that mean something here: kiln.2048 is the shape with 2,048 MiB.
const shapeType = "kiln."

// operatorRole is what is told of the operator's own fleets in the place of a role.
const operatorRole = "kiln-operator"

func (f *Frontend) createCapacityProvider(ctx context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.CreateCapacityProviderRequest)
	const op = "frontend: create capacity provider"
	name, err := f.providerName(value(in.CapacityProviderName, ""), c)
	if err != nil {
		return nil, err
	}
	if operatorsFleet(name) {
		return nil, kiln.Errorf(kiln.KindInvalid, op, "The name %s is the operator's; choose another.", name)
	}
	p := registry.Provider{Account: c.caller.Account, Name: name, Tags: in.Tags, Kept: map[string]json.RawMessage{}}
	keep(p.Kept, "VpcConfig", in.VpcConfig)
	keep(p.Kept, "PermissionsConfig", in.PermissionsConfig)
	keep(p.Kept, "InstanceRequirements", in.InstanceRequirements)
	keep(p.Kept, "KmsKeyArn", in.KmsKeyArn)
	keep(p.Kept, "PropagateTags", in.PropagateTags)
	keep(p.Kept, "TelemetryConfig", in.TelemetryConfig)
	if p.Shapes, err = f.shapesOf(in.InstanceRequirements); err != nil {
		return nil, err
	}
	if err := f.scaleProvider(&p, in.CapacityProviderScalingConfig); err != nil {
		return nil, err
	}
	made, err := f.cfg.Registry.CreateProvider(ctx, p)
	if err != nil {
		return nil, err
	}
	return &lambdaapi.CreateCapacityProviderResponse{CapacityProvider: f.provider(made)}, nil
}

func (f *Frontend) getCapacityProvider(_ context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.GetCapacityProviderRequest)
	name, err := f.providerName(in.CapacityProviderName, c)
	if err != nil {
		return nil, err
	}
	if own, ok := f.operatorsProviders(c)[name]; ok {
		return &lambdaapi.GetCapacityProviderResponse{CapacityProvider: &own}, nil
	}
	found, err := f.cfg.Registry.Provider(c.caller.Account, name)
	if err != nil {
		return nil, err
	}
	return &lambdaapi.GetCapacityProviderResponse{CapacityProvider: f.provider(found)}, nil
}

func (f *Frontend) updateCapacityProvider(ctx context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.UpdateCapacityProviderRequest)
	name, err := f.changeable(in.CapacityProviderName, c)
	if err != nil {
		return nil, err
	}
	made, err := f.cfg.Registry.UpdateProvider(ctx, c.caller.Account, name, func(p *registry.Provider) error {
		keep(p.Kept, "PropagateTags", in.PropagateTags)
		keep(p.Kept, "TelemetryConfig", in.TelemetryConfig)
		f.cfg.Registry.Touch(p)
		if in.CapacityProviderScalingConfig == nil {
			return nil
		}
		return f.scaleProvider(p, in.CapacityProviderScalingConfig)
	})
	if err != nil {
		return nil, err
	}
	return &lambdaapi.UpdateCapacityProviderResponse{CapacityProvider: f.provider(made)}, nil
}

func (f *Frontend) deleteCapacityProvider(ctx context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.DeleteCapacityProviderRequest)
	name, err := f.changeable(in.CapacityProviderName, c)
	if err != nil {
		return nil, err
	}
	gone, err := f.cfg.Registry.DeleteProvider(ctx, c.caller.Account, name)
	if err != nil {
		return nil, err
	}
	return &lambdaapi.DeleteCapacityProviderResponse{CapacityProvider: f.provider(gone)}, nil
}

func (f *Frontend) listCapacityProviders(_ context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.ListCapacityProvidersRequest)
	all := f.operatorsProviders(c)
	for _, p := range f.cfg.Registry.Providers() {
		if p.Account == c.caller.Account {
			all[p.Name] = *f.provider(p)
		}
	}
	var names []string
	for name, p := range all {
		if in.State == nil || *in.State == *p.State {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	names, next, err := registry.ProviderPage(names, page(in.Marker, in.MaxItems))
	if err != nil {
		return nil, err
	}
	out := &lambdaapi.ListCapacityProvidersResponse{NextMarker: optional(next), CapacityProviders: []lambdaapi.CapacityProvider{}}
	for _, name := range names {
		out.CapacityProviders = append(out.CapacityProviders, all[name])
	}
	return out, nil
}

func (f *Frontend) listVersionsByProvider(_ context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.ListFunctionVersionsByCapacityProviderRequest)
	name, err := f.providerName(in.CapacityProviderName, c)
	if err != nil {
		return nil, err
	}
	out := &lambdaapi.ListFunctionVersionsByCapacityProviderResponse{
		CapacityProviderArn: new(f.cfg.Registry.ProviderARN(c.caller.Account, name)),
		FunctionVersions:    []lambdaapi.FunctionVersionsByCapacityProviderListItem{},
	}
	if _, ok := f.operatorsProviders(c)[name]; ok {
		return out, nil // no version names one of them: what runs there is decided by use
	}
	if _, err := f.cfg.Registry.Provider(c.caller.Account, name); err != nil {
		return nil, err
	}
	list, next, err := f.cfg.Registry.ProviderVersions(c.caller.Account, name, page(in.Marker, in.MaxItems))
	if err != nil {
		return nil, err
	}
	out.NextMarker = optional(next)
	for _, found := range list {
		out.FunctionVersions = append(out.FunctionVersions, lambdaapi.FunctionVersionsByCapacityProviderListItem{
			FunctionArn: new(kiln.FunctionARN(f.cfg.Region, found.Version.Account, found.Version.Function, found.Version.Number)),
			State:       new(string(found.State)),
		})
	}
	return out, nil
}

// providerName reads a capacity provider's name or ARN. Another account's is refused.
func (f *Frontend) providerName(text string, c *call) (string, error) {
	account, region, name := splitProviderARN(text)
	if account == "" {
		return text, nil
	}
	if account != c.caller.Account || region != f.cfg.Region {
		return "", kiln.Errorf(kiln.KindDenied, "frontend: read capacity provider",
			"User: arn:aws:iam::%s:root is not authorized to perform: lambda:%s on resource: %s", c.caller.Account, c.operation, text)
	}
	return name, nil
}

// splitProviderARN takes a capacity provider's ARN apart; account and region are empty for what is none.
func splitProviderARN(text string) (account kiln.AccountID, region, name string) {
	parts := strings.Split(text, ":")
	if len(parts) != 7 || parts[0] != "arn" || parts[5] != "capacity-provider" {
		return "", "", ""
	}
	return kiln.AccountID(parts[4]), parts[3], parts[6]
}

// changeable reads the name of a capacity provider that its account may change.
func (f *Frontend) changeable(text string, c *call) (string, error) {
	name, err := f.providerName(text, c)
	if err == nil && operatorsFleet(name) && c.caller.Operator {
		err = kiln.Errorf(kiln.KindInvalid, "frontend: change capacity provider",
			"The capacity provider %s is a fleet of this server: change it by `kiln pool set` and the configuration, not here.", name)
	}
	return name, err
}

func operatorsFleet(name string) bool {
	return name == kiln.FleetLowVolume || name == kiln.FleetHighVolume
}

// operatorsProviders gives the operator's fleets as capacity providers of its account, by name; none to others.
func (f *Frontend) operatorsProviders(c *call) map[string]lambdaapi.CapacityProvider {
	all := map[string]lambdaapi.CapacityProvider{}
	if !c.caller.Operator {
		return all
	}
	for _, fleet := range f.cfg.Provisioning.OperatorsFleets() {
		cpus := 0.0
		for _, s := range f.cfg.Shapes {
			cpus = max(cpus, s.CPUs)
		}
		all[fleet.Name] = lambdaapi.CapacityProvider{
			CapacityProviderArn: new(f.cfg.Registry.ProviderARN(c.caller.Account, fleet.Name)), State: new("Active"),
			VpcConfig:            &lambdaapi.CapacityProviderVpcConfig{SubnetIds: []string{}, SecurityGroupIds: []string{}},
			PermissionsConfig:    &lambdaapi.CapacityProviderPermissionsConfig{CapacityProviderOperatorRoleArn: new("arn:aws:iam::" + string(c.caller.Account) + ":role/" + operatorRole)},
			InstanceRequirements: &lambdaapi.InstanceRequirements{Architectures: []string{f.cfg.Architecture}},
			CapacityProviderScalingConfig: &lambdaapi.CapacityProviderScalingConfig{
				MaxVCpuCount: new(int32(float64(fleet.InstancesMax) * cpus)), ScalingMode: new("Auto"),
			},
		}
	}
	return all
}

// provider gives a capacity provider in AWS's shape.
func (f *Frontend) provider(p *registry.Provider) *lambdaapi.CapacityProvider {
	out := &lambdaapi.CapacityProvider{
		CapacityProviderArn: new(f.cfg.Registry.ProviderARN(p.Account, p.Name)), State: new("Active"),
		LastModified: new(p.Modified.UTC().Format(time.RFC3339Nano)),
	}
	switch {
	case p.Deleting:
		out.State = new("Deleting")
	case !f.cfg.Provisioning.ProviderReady(p):
		out.State = new("Pending")
	}
	kept, err := json.Marshal(p.Kept)
	if err == nil {
		err = json.Unmarshal(kept, out)
	}
	if err != nil {
		f.cfg.Logger.Error("kept capacity provider unreadable", "provider", p.Name, "error", err)
	}
	return out
}

// scaleProvider puts a scaling configuration into a capacity provider.
func (f *Frontend) scaleProvider(p *registry.Provider, in *lambdaapi.CapacityProviderScalingConfig) error {
	const op = "frontend: read capacity provider scaling"
	if in == nil {
		in = &lambdaapi.CapacityProviderScalingConfig{}
	}
	if value(in.ScalingMode, "Auto") == "Manual" && len(in.ScalingPolicies) == 0 {
		return kiln.Errorf(kiln.KindInvalid, op, "ScalingPolicies are required when ScalingMode is Manual.")
	}
	p.MaxCPUs, p.Utilisation = int(value(in.MaxVCpuCount, 0)), 0
	for _, policy := range in.ScalingPolicies { // there is one metric; of several the last holds
		p.Utilisation = value(policy.TargetValue, 0) / 100
	}
	if least := f.leastCPUs(p.Shapes); p.MaxCPUs > 0 && float64(p.MaxCPUs) < least {
		return kiln.Errorf(kiln.KindInvalid, op, "MaxVCpuCount %d is less than the %g processors of one instance here.", p.MaxCPUs, least)
	}
	if in.MaxVCpuCount == nil && in.ScalingMode == nil && in.ScalingPolicies == nil {
		delete(p.Kept, "CapacityProviderScalingConfig")
		return nil
	}
	keep(p.Kept, "CapacityProviderScalingConfig", in)
	return nil
}

// leastCPUs is the processors of the smallest instance of some shapes, by their memory; of all shapes for none.
func (f *Frontend) leastCPUs(memory []int) (least float64) {
	for _, s := range f.cfg.Shapes {
		if (len(memory) == 0 || slices.Contains(memory, s.MemoryMiB)) && (least == 0 || s.CPUs < least) {
			least = s.CPUs
		}
	}
	return least
}

// shapesOf gives the shapes that instance requirements leave, by their memory: of the types, those of this server count
// (kiln.2048, kiln.*); AWS's are kept. Nil when all are left.
func (f *Frontend) shapesOf(in *lambdaapi.InstanceRequirements) ([]int, error) {
	const op = "frontend: read instance requirements"
	if in == nil {
		return nil, nil
	}
	if len(in.Architectures) > 0 && in.Architectures[0] != f.cfg.Architecture {
		return nil, kiln.Errorf(kiln.KindInvalid, op, "The architecture %s cannot run on this machine, which is %s.", in.Architectures[0], f.cfg.Architecture)
	}
	ours := func(t string) bool { return strings.HasPrefix(t, shapeType) }
	limited := slices.ContainsFunc(in.AllowedInstanceTypes, ours)
	var left []int
	var names []string
	for _, s := range f.cfg.Shapes {
		name := fmt.Sprint(shapeType, s.MemoryMiB)
		names = append(names, name)
		if (!limited || typeListed(name, in.AllowedInstanceTypes)) && !typeListed(name, in.ExcludedInstanceTypes) {
			left = append(left, s.MemoryMiB)
		}
	}
	switch len(left) {
	case 0:
		return nil, kiln.Errorf(kiln.KindInvalid, op, "No shape of this server is left by the instance types; it has %s.", strings.Join(names, ", "))
	case len(f.cfg.Shapes):
		return nil, nil
	}
	return left, nil
}

// typeListed reports whether a list names a type, by itself or with stars.
func typeListed(name string, list []string) bool {
	return slices.ContainsFunc(list, func(pattern string) bool {
		ok, err := path.Match(pattern, name)
		return err == nil && ok && strings.HasPrefix(pattern, shapeType)
	})
}

// The scaling of functions on capacity providers.

func (f *Frontend) putFunctionScaling(ctx context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.PutFunctionScalingConfigRequest)
	ref, err := f.reference(c, in.FunctionName, value(in.Qualifier, ""))
	if err != nil {
		return nil, err
	}
	scaling := registry.Scaling{}
	if s := in.FunctionScalingConfig; s != nil {
		scaling = registry.Scaling{Min: whole(s.MinExecutionEnvironments), Max: whole(s.MaxExecutionEnvironments)}
	}
	state, err := f.cfg.Registry.PutScaling(ctx, ref.Account, ref.Name, ref.Qualifier, scaling)
	if err != nil {
		return nil, err
	}
	return &lambdaapi.PutFunctionScalingConfigResponse{FunctionState: new(string(state))}, nil
}

func (f *Frontend) getFunctionScaling(_ context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.GetFunctionScalingConfigRequest)
	ref, err := f.reference(c, in.FunctionName, value(in.Qualifier, ""))
	if err != nil {
		return nil, err
	}
	s, err := f.cfg.Registry.Scaling(ref.Account, ref.Name, ref.Qualifier)
	if err != nil {
		return nil, err
	}
	out := &lambdaapi.FunctionScalingConfig{MinExecutionEnvironments: number(s.Min), MaxExecutionEnvironments: number(s.Max)}
	return &lambdaapi.GetFunctionScalingConfigResponse{
		FunctionArn:                    new(kiln.FunctionARN(f.cfg.Region, ref.Account, ref.Name, ref.Qualifier)),
		AppliedFunctionScalingConfig:   out,
		RequestedFunctionScalingConfig: out,
	}, nil
}

// onProvider puts a function's capacity provider into a version.
func (f *Frontend) onProvider(v *kiln.Version, in *lambdaapi.CapacityProviderConfig) error {
	const op = "frontend: read capacity provider config"
	managed := in.LambdaManagedInstancesCapacityProviderConfig
	account, region, name := splitProviderARN(value(managed.CapacityProviderArn, ""))
	if account != v.Account || region != f.cfg.Region {
		return kiln.Errorf(kiln.KindInvalid, op, "The capacity provider %s is not one of this account in this region.", value(managed.CapacityProviderArn, ""))
	}
	if operatorsFleet(name) {
		return kiln.Errorf(kiln.KindInvalid, op, "The fleet %s is not for a function to name; the tag kiln:fleet=%s keeps a function on it.", name, name)
	}
	v.Provider = name
	v.Concurrency = int(value(managed.PerExecutionEnvironmentMaxConcurrency, int32(usualConcurrency(v))))
	if v.Concurrency > kiln.MaxConcurrency {
		return kiln.Errorf(kiln.KindInvalid, op, "PerExecutionEnvironmentMaxConcurrency is %d; one container executes at most %d at once here.", v.Concurrency, kiln.MaxConcurrency)
	}
	keep(v.Kept, "CapacityProviderConfig", in)
	return nil
}

// usualConcurrency is how many executions at once a container of a function on a capacity provider has that does not say:
// as many as AWS gives its smallest, of 2 GiB, in proportion to the memory; where the runtime's client runs several.
func usualConcurrency(v *kiln.Version) int {
	const smallestMiB = 2048
	of := 0
	switch {
	case strings.HasPrefix(v.Runtime, "python"):
		of = 16
	case strings.HasPrefix(v.Runtime, "nodejs"):
		of = 64
	}
	return min(max(of*v.MemoryMiB/smallestMiB, 1), kiln.MaxConcurrency)
}

func whole(n *int32) *int {
	if n == nil {
		return nil
	}
	return new(int(*n))
}

func number(n *int) *int32 {
	if n == nil {
		return nil
	}
	return new(int32(*n))
}

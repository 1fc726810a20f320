package frontend

import (
	"context"
	"maps"
	"slices"
	"strings"

	"kiln"
	"kiln/internal/lambdaapi"
	"kiln/internal/registry"
)

// The operations on the tags of functions and of capacity providers.

func (f *Frontend) listTags(_ context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.ListTagsRequest)
	if name, ok, err := f.taggedProvider(in.Resource, c); ok {
		return f.listProviderTags(name, c, err)
	}
	ref, err := f.taggable(in.Resource, c)
	if err != nil {
		return nil, err
	}
	tags, err := f.cfg.Registry.Tags(ref.Account, ref.Name)
	if err != nil {
		return nil, err
	}
	if tags == nil {
		tags = map[string]string{}
	}
	return &lambdaapi.ListTagsResponse{Tags: tags}, nil
}

func (f *Frontend) tagResource(ctx context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.TagResourceRequest)
	if name, ok, err := f.taggedProvider(in.Resource, c); ok {
		return nil, f.changeProviderTags(ctx, name, c, err, func(tags map[string]string) { maps.Copy(tags, in.Tags) })
	}
	ref, err := f.taggable(in.Resource, c)
	if err != nil {
		return nil, err
	}
	if len(in.Tags) == 0 {
		return nil, kiln.Errorf(kiln.KindInvalid, "frontend: tag resource", "An error occurred and the request cannot be processed.")
	}
	return nil, f.cfg.Registry.SetTags(ctx, ref.Account, ref.Name, in.Tags)
}

func (f *Frontend) untagResource(ctx context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.UntagResourceRequest)
	if name, ok, err := f.taggedProvider(in.Resource, c); ok {
		return nil, f.changeProviderTags(ctx, name, c, err, func(tags map[string]string) {
			maps.DeleteFunc(tags, func(key, _ string) bool { return slices.Contains(in.TagKeys, key) })
		})
	}
	ref, err := f.taggable(in.Resource, c)
	if err != nil {
		return nil, err
	}
	return nil, f.cfg.Registry.RemoveTags(ctx, ref.Account, ref.Name, in.TagKeys)
}

// taggedProvider reads the name of the capacity provider that an ARN names; false for what is none.
func (f *Frontend) taggedProvider(resource string, c *call) (name string, ok bool, err error) {
	if !strings.Contains(resource, ":capacity-provider:") {
		return "", false, nil
	}
	name, err = f.changeable(resource, c)
	return name, true, err
}

func (f *Frontend) listProviderTags(name string, c *call, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	p, err := f.cfg.Registry.Provider(c.caller.Account, name)
	if err != nil {
		return nil, err
	}
	tags := p.Tags
	if tags == nil {
		tags = map[string]string{}
	}
	return &lambdaapi.ListTagsResponse{Tags: tags}, nil
}

func (f *Frontend) changeProviderTags(ctx context.Context, name string, c *call, err error, change func(map[string]string)) error {
	if err != nil {
		return err
	}
	_, err = f.cfg.Registry.UpdateProvider(ctx, c.caller.Account, name, func(p *registry.Provider) error {
		if p.Tags == nil {
			p.Tags = map[string]string{}
		}
		change(p.Tags)
		return nil
	})
	return err
}

// taggable reads the ARN of a function that carries tags.
func (f *Frontend) taggable(resource string, c *call) (kiln.FunctionRef, error) {
	const op = "frontend: read resource"
	if !strings.Contains(resource, ":function:") {
		return kiln.FunctionRef{}, kiln.Errorf(kiln.KindNotFound, op, "The resource you requested does not exist.")
	}
	ref, err := f.reference(c, resource, "")
	if err == nil && ref.Qualifier != "" {
		err = kiln.Errorf(kiln.KindInvalid, op, "Tags on function aliases and versions are not supported. Please specify a function ARN.")
	}
	return ref, err
}

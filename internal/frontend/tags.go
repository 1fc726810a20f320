package frontend

import (
	"context"
	"strings"

	"kiln"
	"kiln/internal/lambdaapi"
)

// The operations on a function's tags.

func (f *Frontend) listTags(_ context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.ListTagsRequest)
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
	ref, err := f.taggable(in.Resource, c)
	if err != nil {
		return nil, err
	}
	return nil, f.cfg.Registry.RemoveTags(ctx, ref.Account, ref.Name, in.TagKeys)
}

// taggable reads the ARN of what carries tags: a function, as long as nothing else that AWS tags is served.
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

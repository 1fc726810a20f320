package frontend

import (
	"context"
	"net"
	"net/http"
	"strings"
	"time"

	"kiln"
	"kiln/internal/lambdaapi"
	"kiln/internal/registry"
)

// The operations on function URLs. Requests that come through one are answered in urldoor.go.

func (f *Frontend) createFunctionURL(ctx context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.CreateFunctionUrlConfigRequest)
	ref, err := f.reference(c, in.FunctionName, value(in.Qualifier, ""))
	if err != nil {
		return nil, err
	}
	if err := refuseStreaming(in.InvokeMode); err != nil {
		return nil, err
	}
	made, err := f.cfg.Registry.CreateURL(ctx, ref.Account, ref.Name, ref.Qualifier, value(in.AuthType, ""), keptCORS(in.Cors))
	if err != nil {
		return nil, err
	}
	u := f.functionURL(c.http, made)
	return &lambdaapi.CreateFunctionUrlConfigResponse{
		FunctionUrl: u.FunctionUrl, FunctionArn: u.FunctionArn, AuthType: u.AuthType, Cors: u.Cors, CreationTime: u.CreationTime, InvokeMode: u.InvokeMode,
	}, nil
}

func (f *Frontend) getFunctionURL(_ context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.GetFunctionUrlConfigRequest)
	ref, err := f.reference(c, in.FunctionName, value(in.Qualifier, ""))
	if err != nil {
		return nil, err
	}
	found, err := f.cfg.Registry.FunctionURL(ref.Account, ref.Name, ref.Qualifier)
	if err != nil {
		return nil, err
	}
	return (*lambdaapi.GetFunctionUrlConfigResponse)(urlAnswerOf(f.functionURL(c.http, found))), nil
}

func (f *Frontend) updateFunctionURL(ctx context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.UpdateFunctionUrlConfigRequest)
	ref, err := f.reference(c, in.FunctionName, value(in.Qualifier, ""))
	if err != nil {
		return nil, err
	}
	if err := refuseStreaming(in.InvokeMode); err != nil {
		return nil, err
	}
	made, err := f.cfg.Registry.UpdateURL(ctx, ref.Account, ref.Name, ref.Qualifier, registry.URLUpdate{Auth: value(in.AuthType, ""), CORS: keptCORS(in.Cors)})
	if err != nil {
		return nil, err
	}
	return urlAnswerOf(f.functionURL(c.http, made)), nil
}

func (f *Frontend) deleteFunctionURL(ctx context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.DeleteFunctionUrlConfigRequest)
	ref, err := f.reference(c, in.FunctionName, value(in.Qualifier, ""))
	if err != nil {
		return nil, err
	}
	return nil, f.cfg.Registry.DeleteURL(ctx, ref.Account, ref.Name, ref.Qualifier)
}

func (f *Frontend) listFunctionURLs(_ context.Context, c *call, input any) (any, error) {
	in := input.(*lambdaapi.ListFunctionUrlConfigsRequest)
	ref, err := f.reference(c, in.FunctionName, "")
	if err != nil {
		return nil, err
	}
	list, next, err := f.cfg.Registry.FunctionURLs(ref.Account, ref.Name, page(in.Marker, in.MaxItems))
	if err != nil {
		return nil, err
	}
	out := &lambdaapi.ListFunctionUrlConfigsResponse{NextMarker: optional(next), FunctionUrlConfigs: []lambdaapi.FunctionUrlConfig{}}
	for _, found := range list {
		out.FunctionUrlConfigs = append(out.FunctionUrlConfigs, f.functionURL(c.http, found))
	}
	return out, nil
}

// refuseStreaming refuses a mode that would change what callers get.
func refuseStreaming(mode *string) error {
	if value(mode, "BUFFERED") != "BUFFERED" {
		return kiln.Errorf(kiln.KindInvalid, "frontend: read function url", "Kiln does not serve the InvokeMode %s yet; use BUFFERED.", *mode)
	}
	return nil
}

// functionURL gives a URL in AWS's shape.
func (f *Frontend) functionURL(r *http.Request, u registry.FunctionURL) lambdaapi.FunctionUrlConfig {
	return lambdaapi.FunctionUrlConfig{
		FunctionUrl: new(f.urlAddress(r.Host, u.ID)), FunctionArn: new(kiln.FunctionARN(f.cfg.Region, u.Account, u.Function, u.Qualifier)),
		CreationTime: new(u.Created.Format(time.RFC3339Nano)), LastModifiedTime: new(u.Modified.Format(time.RFC3339Nano)),
		Cors: shownCORS(u.CORS), AuthType: &u.Auth, InvokeMode: new("BUFFERED"),
	}
}

func urlAnswerOf(u lambdaapi.FunctionUrlConfig) *lambdaapi.UpdateFunctionUrlConfigResponse {
	return &lambdaapi.UpdateFunctionUrlConfigResponse{
		FunctionUrl: u.FunctionUrl, FunctionArn: u.FunctionArn, AuthType: u.AuthType, Cors: u.Cors,
		CreationTime: u.CreationTime, LastModifiedTime: u.LastModifiedTime, InvokeMode: u.InvokeMode,
	}
}

// urlAddress gives the address of a function URL as it can be reached from where the request came: names below localhost
// lead to this machine, so a client on it is given a host name of the URL's own, as AWS's are; any other the path form
// under the name by which it reached the server.
func (f *Frontend) urlAddress(host, id string) string {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name, port = host, ""
	}
	ip := net.ParseIP(strings.Trim(name, "[]"))
	if local := name == "localhost" || strings.HasSuffix(name, ".localhost") || ip != nil && ip.IsLoopback(); !local {
		return "http://" + host + urlPrefix + id + "/"
	}
	if port != "" {
		port = ":" + port
	}
	return "http://" + id + urlHostMark + f.cfg.Region + ".localhost" + port + "/"
}

// keptCORS gives AWS's settings in the registry's words; nil when the request has none.
func keptCORS(c *lambdaapi.Cors) *registry.CORS {
	if c == nil {
		return nil
	}
	return &registry.CORS{Credentials: value(c.AllowCredentials, false), Headers: c.AllowHeaders, Methods: c.AllowMethods,
		Origins: c.AllowOrigins, Expose: c.ExposeHeaders, MaxAge: value(c.MaxAge, 0)}
}

// shownCORS is the way back.
func shownCORS(c *registry.CORS) *lambdaapi.Cors {
	if c == nil {
		return nil
	}
	out := &lambdaapi.Cors{AllowHeaders: c.Headers, AllowMethods: c.Methods, AllowOrigins: c.Origins, ExposeHeaders: c.Expose}
	if c.Credentials {
		out.AllowCredentials = new(true)
	}
	if c.MaxAge != 0 {
		out.MaxAge = &c.MaxAge
	}
	return out
}

package main

import (
	"maps"
	"net/textproto"
	"slices"
	"strings"
)

func (g *generator) sorted() []*operation {
	var ops []*operation
	for _, n := range slices.Sorted(maps.Keys(g.model.Operations)) {
		ops = append(ops, g.model.Operations[n])
	}
	return ops
}

func (g *generator) operations(s *source) {
	s.line("// operations is every operation of the API, by name.")
	s.line("var operations = [...]Operation{")
	for _, op := range g.sorted() {
		uri, query, _ := strings.Cut(op.HTTP.RequestURI, "?")
		s.line("\t{Name: %q, Method: %q, Status: %d, Path: %q,", op.Name, op.HTTP.Method, op.HTTP.ResponseCode, uri)
		if query != "" {
			k, v, ok := strings.Cut(query, "=")
			if !ok || strings.Contains(query, "&") {
				g.problem("operation %s: query %s", op.Name, query)
			}
			s.line("\t\tsplitKey: %q, splitValue: %q,", k, v)
		}
		s.line("\t\tdecode: decode%s, encode: %s},", op.Name, g.encoder(op))
	}
	s.line("}\n")
	for _, op := range g.sorted() {
		g.decode(s, op)
	}
	done := map[string]bool{}
	for _, op := range g.sorted() {
		if name := op.Output.Shape; name != "" && !done[name] && !g.plain(name) {
			done[name] = true
			g.encode(s, name)
		}
	}
}

// plain tells whether an answer is nothing but a JSON body.
func (g *generator) plain(name string) bool {
	sh := g.model.Shapes[name]
	return sh.Payload == "" && !slices.ContainsFunc(sh.Members.list, func(m member) bool { return m.Location != "" })
}

func (g *generator) encoder(op *operation) string {
	switch name := op.Output.Shape; {
	case name == "":
		return "nil"
	case g.plain(name):
		return "encodeBody[" + goName(name) + "]"
	default:
		return "encode" + goName(name)
	}
}

func (g *generator) decode(s *source, op *operation) {
	sh := g.model.Shapes[op.Input.Shape]
	if sh == nil {
		g.problem("operation %s: no input", op.Name)
		return
	}
	s.line("func decode%s(r *request) (checked, any) {", op.Name)
	s.line("\tin := new(%s)", goName(op.Input.Shape))
	if slices.ContainsFunc(sh.Members.list, func(m member) bool { return sh.inBody(m) }) {
		s.line("\tr.json(in)")
	}
	for _, m := range sh.Members.list {
		kind := g.model.Shapes[m.Shape].Type
		at := m.Location + " " + kind
		if m.Location == "" {
			if m.Name != sh.Payload {
				continue
			}
			at = "payload " + kind
		}
		call := map[string]string{
			"uri string": "r.params[%q]", "uri long": "r.pathLong(%q)",
			"querystring string": "r.queryText(%q)", "querystring integer": "r.queryInteger(%q)",
			"querystring boolean": "r.queryBoolean(%q)", "querystring timestamp": "r.queryTime(%q)",
			"querystring list": "r.queryList(%q)", "header string": "r.headerText(%q)",
			"payload blob": "r.body", "payload structure": "payload[" + goName(m.Shape) + "](r)",
		}[at]
		if call == "" {
			g.problem("operation %s: member %s is %s", op.Name, m.Name, at)
		}
		wire := m.wire()
		if m.Location == "header" {
			wire = textproto.CanonicalMIMEHeaderKey(wire)
		}
		s.line("\tin.%s = %s", title(m.Name), strings.ReplaceAll(call, "%q", `"`+wire+`"`))
	}
	s.line("\treturn in, in\n}\n")
}

func (g *generator) encode(s *source, name string) {
	sh := g.model.Shapes[name]
	s.line("func encode%s(a *answer, output any) bool {", goName(name))
	s.line("\tout, ok := output.(*%s)", goName(name))
	s.line("\tif !ok || out == nil {\n\t\treturn false\n\t}")
	if slices.ContainsFunc(sh.Members.list, func(m member) bool { return sh.inBody(m) }) {
		s.line("\ta.json = out")
	}
	for _, m := range sh.Members.list {
		kind := g.model.Shapes[m.Shape]
		field := title(m.Name)
		switch {
		case m.Location == "statusCode":
			s.line("\tif out.%s != nil {\n\t\ta.status = int(*out.%s)\n\t}", field, field)
		case m.Location == "header" && kind.Type == "string":
			s.line("\ta.set(%q, out.%s)", textproto.CanonicalMIMEHeaderKey(m.wire()), field)
		case m.Location == "" && m.Name == sh.Payload && kind.Type == "blob":
			s.line("\ta.raw, a.isRaw = out.%s, true", field)
		case m.Location == "" && m.Name == sh.Payload && kind.EventStream:
			s.line("\ta.isStream = true")
		case sh.inBody(m):
		default:
			g.problem("answer %s: member %s", name, m.Name)
		}
	}
	s.line("\treturn true\n}\n")
}

// outputs writes, for the tests, an empty answer for every operation that has one.
func (g *generator) outputs(s *source) {
	s.line("// newOutput makes an empty answer, by operation.")
	s.line("var newOutput = map[string]func() any{")
	for _, op := range g.sorted() {
		if op.Output.Shape != "" {
			s.line("\t%q: func() any { return new(%s) },", op.Name, goName(op.Output.Shape))
		}
	}
	s.line("}")
}

func (g *generator) errors(s *source) {
	s.line("// errorShapes is every error of the API, by code.")
	s.line("var errorShapes = [...]ErrorShape{")
	for _, name := range slices.Sorted(maps.Keys(g.model.Shapes)) {
		sh := g.model.Shapes[name]
		if !sh.Exception {
			continue
		}
		message, kind, headers := "", "", ""
		for _, m := range sh.Members.list {
			switch {
			case strings.EqualFold(m.Name, "message"):
				message = m.Name
			case m.Name == "Type" && sh.Fault:
				kind = "Service"
			case m.Name == "Type":
				kind = "User"
			case m.Location == "header":
				headers = ", headerMember: \"" + m.Name + "\", header: \"" + m.wire() + "\""
			case m.Location != "":
				g.problem("error %s: member %s", name, m.Name)
			}
		}
		code := name
		if sh.Error.Code != "" {
			code = sh.Error.Code
		}
		if message == "" {
			g.problem("error %s: no message", name)
		}
		s.line("\t{Code: %q, Status: %d, MessageMember: %q, Type: %q%s},", code, sh.Error.HTTPStatusCode, message, kind, headers)
	}
	s.line("}")
}

package main

import "strings"

// renamed are shapes whose names the package uses for something else.
var renamed = map[string]string{"Operation": "DurableOperation"}

func goName(shape string) string {
	if n, ok := renamed[shape]; ok {
		return n
	}
	return shape
}

func title(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// bare is the Go type of a shape inside a list or a map.
func (g *generator) bare(name string) string {
	s := g.model.Shapes[name]
	switch s.Type {
	case "string":
		return "string"
	case "integer":
		return "int32"
	case "long":
		return "int64"
	case "double":
		return "float64"
	case "boolean":
		return "bool"
	case "timestamp":
		return "Time"
	case "blob":
		return "[]byte"
	case "structure":
		return goName(name)
	case "list":
		return "[]" + g.bare(s.Member.Shape)
	case "map":
		return "map[string]" + g.bare(s.Value.Shape)
	}
	g.problem("shape %s: type %s", name, s.Type)
	return "any"
}

// field is the Go type of a member. What a path gives is always there; lists, maps and blobs are nil when absent; all
// else is a pointer.
func (g *generator) field(m member) string {
	t := g.bare(m.Shape)
	if m.Location == "uri" || strings.HasPrefix(t, "[]") || strings.HasPrefix(t, "map[") {
		return t
	}
	return "*" + t
}

// inBody tells whether a member travels in the JSON body of its structure.
func (s *shape) inBody(m member) bool { return m.Location == "" && s.Payload == "" }

func (g *generator) types(s *source) {
	users := g.users()
	for _, name := range g.structures(g.all) {
		sh := g.model.Shapes[name]
		s.line("// %s is %s.", goName(name), users[name])
		s.line("type %s struct {", goName(name))
		for _, m := range sh.Members.list {
			if g.model.Shapes[m.Shape].EventStream {
				continue // frames, written by hand after the head of the answer
			}
			tag := `json:"-"`
			if sh.inBody(m) {
				tag = `json:"` + m.Name + `,omitzero"`
			}
			note := ""
			switch {
			case m.Location == "uri" || m.Location == "querystring" || m.Location == "header":
				note = " // " + map[string]string{"uri": "path", "querystring": "query", "header": "header"}[m.Location] + " " + m.wire()
			case m.Location == "statusCode":
				note = " // the answer's status"
			case m.Location != "":
				g.problem("%s.%s: location %s", name, m.Name, m.Location)
			case sh.Payload == m.Name:
				note = " // the whole body"
			}
			s.line("\t%s %s `%s`%s", title(m.Name), g.field(m), tag, note)
		}
		s.line("}\n")
	}
}

// users says for every structure what it is, for its comment.
func (g *generator) users() map[string]string {
	says := map[string]string{}
	for name := range g.all {
		says[name] = "the shape " + name + " of AWS's model"
	}
	for _, op := range g.sorted() {
		if op.Input.Shape != "" {
			says[op.Input.Shape] = "what " + op.Name + " is asked"
		}
	}
	answers := map[string][]string{}
	for _, op := range g.sorted() {
		if op.Output.Shape != "" {
			answers[op.Output.Shape] = append(answers[op.Output.Shape], op.Name)
		}
	}
	for name, ops := range answers {
		verb := " answers"
		if len(ops) > 1 {
			verb = " answer"
		}
		says[name] = "what " + strings.Join(ops, ", ") + verb
	}
	return says
}

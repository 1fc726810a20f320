package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// lower is a member's name as AWS's messages show it: the first letter in lower case, whatever follows ("kMSKeyArn").
func lower(s string) string { return strings.ToLower(s[:1]) + s[1:] }

func (g *generator) checks(s *source) {
	for _, name := range g.structures(g.inputs) {
		sh := g.model.Shapes[name]
		s.line("func (v *%s) check(c *checker) {", goName(name))
		for _, m := range sh.Members.list {
			g.checkMember(s, sh, m)
		}
		s.line("}\n")
	}
	names := make([]string, 0, len(g.rules))
	for n := range g.rules {
		names = append(names, n)
	}
	slices.Sort(names)
	s.line("var (")
	for _, n := range names {
		s.line("\trule%s = %s", n, g.rule(n))
	}
	s.line(")")
}

func (g *generator) checkMember(s *source, sh *shape, m member) {
	v, name := "v."+title(m.Name), lower(m.Name)
	kind := g.model.Shapes[m.Shape]
	if slices.Contains(sh.Required, m.Name) && m.Location != "uri" {
		s.line("\tc.required(%q, %s == nil)", name, v)
	}
	if m.Location == "uri" {
		v = "&" + v
	}
	switch kind.Type {
	case "string":
		if g.constrained(m.Shape) {
			s.line("\tc.text(%q, %s, %s)", name, v, g.use(m.Shape))
		}
	case "integer", "long", "double":
		if kind.Min != nil || kind.Max != nil {
			s.line("\tcheckNumber(c, %q, %s, %s)", name, v, bounds(kind))
		}
	case "blob":
		if kind.Min != nil || kind.Max != nil {
			s.line("\tc.size(%q, len(%s), \"\", true, %s)", name, v, bounds(kind))
		}
	case "structure":
		s.line("\tif %s != nil {\n\t\tc.in(%q)\n\t\t%s.check(c)\n\t\tc.out()\n\t}", v, name, v)
	case "list":
		g.checkList(s, v, name, kind)
	case "map":
		g.checkMap(s, v, name, kind)
	case "boolean", "timestamp":
	default:
		g.problem("check of %s (%s)", m.Name, kind.Type)
	}
}

func (g *generator) checkList(s *source, v, name string, list *shape) {
	inner := g.model.Shapes[list.Member.Shape]
	switch inner.Type {
	case "string":
		s.line("\tc.texts(%q, %s, %s, %s)", name, v, bounds(list), g.use(list.Member.Shape))
	case "structure":
		if list.Min != nil || list.Max != nil {
			s.line("\tif %s != nil {\n\t\tc.size(%q, len(%s), \"\", true, %s)\n\t}", v, name, v, bounds(list))
		}
		s.line("\tfor i := range %s {\n\t\tc.inMember(%q, i)\n\t\t%s[i].check(c)\n\t\tc.out()\n\t}", v, name, v)
	default:
		g.problem("check of a list of %s", inner.Type)
	}
}

func (g *generator) checkMap(s *source, v, name string, m *shape) {
	value := g.model.Shapes[m.Value.Shape]
	key := g.use(m.Key.Shape)
	switch {
	case value.Type == "string":
		s.line("\tc.pairs(%q, %s, %s, %s, %s)", name, v, bounds(m), key, g.use(m.Value.Shape))
	case value.Type == "double":
		s.line("\tc.weights(%q, %s, %s, %s, %s)", name, v, bounds(m), key, bounds(value))
	case value.Type == "list" && g.model.Shapes[value.Member.Shape].Type == "string":
		s.line("\tc.lists(%q, %s, %s, %s, %s, %s)", name, v, bounds(m), key, bounds(value), g.use(value.Member.Shape))
	default:
		g.problem("check of a map of %s", value.Type)
	}
}

func (g *generator) constrained(name string) bool {
	s := g.model.Shapes[name]
	return s.Min != nil || s.Max != nil || s.Pattern != "" || len(s.Enum) > 0
}

func (g *generator) use(name string) string {
	g.rules[name] = true
	return "rule" + name
}

// bounds writes a shape's smallest and greatest value or length.
func bounds(s *shape) string {
	var parts []string
	if s.Min != nil {
		parts = append(parts, "hasMin: true, min: "+strconv.FormatFloat(*s.Min, 'f', -1, 64))
	}
	if s.Max != nil {
		parts = append(parts, "hasMax: true, max: "+strconv.FormatFloat(*s.Max, 'f', -1, 64))
	}
	return "bounds{" + strings.Join(parts, ", ") + "}"
}

// rule writes the rule of one string shape.
func (g *generator) rule(name string) string {
	s := g.model.Shapes[name]
	var parts []string
	if s.Min != nil || s.Max != nil {
		parts = append(parts, "bounds: "+bounds(s))
	}
	if s.Pattern != "" {
		re, err := translate(s.Pattern)
		if err != nil {
			g.problem("shape %s: %v", name, err)
		}
		parts = append(parts, fmt.Sprintf("pattern: newPattern(%q, %q)", s.Pattern, re))
		if acceptsPlainNames(re) {
			parts = append(parts, "plainName: true")
		}
	}
	if len(s.Enum) > 0 {
		parts = append(parts, fmt.Sprintf("enum: %#v", s.Enum))
	}
	if s.Sensitive {
		parts = append(parts, "sensitive: true")
	}
	return "textRule{" + strings.Join(parts, ", ") + "}"
}

// acceptsPlainNames tells that a pattern ends in a name part which takes any of [a-zA-Z0-9-_]+ with nothing before it,
// so that such a value needs no regular expression. Only the two spellings that the hot path meets are known; a test
// proves them.
func acceptsPlainNames(re string) bool {
	return strings.Contains(re, `(function:)?([a-zA-Z0-9-_\.]+)(:(`) || strings.Contains(re, `(function:)?([a-zA-Z0-9-_]+)(:(`) ||
		strings.HasSuffix(re, `(function:)?([a-zA-Z0-9-_]+))\z`)
}

// rewritten are the model's patterns that RE2 cannot read, for their look-around, and what takes exactly the same strings.
var rewritten = map[string]string{
	// Alias: not digits alone.
	`(?!^[0-9]+$)([a-zA-Z0-9-_]+)`: `[0-9]*[a-zA-Z\-_][a-zA-Z0-9\-_]*`,
	// FunctionUrlQualifier: the same.
	`((?!^\d+$)^[0-9a-zA-Z-_]+$)`: `[0-9]*[a-zA-Z\-_][a-zA-Z0-9\-_]*`,
	// FunctionUrlFunctionName: the qualifier is not digits alone.
	`(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]{1,64})(:((?!\d+$)[0-9a-zA-Z-_]+))?`: `(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]{1,64})(:([0-9]*[a-zA-Z\-_][a-zA-Z0-9\-_]*))?`,
	// CollectionName: does not begin with "system.", letter by letter.
	`(^(?!(system\x2e)))(^[_a-zA-Z0-9])([^$]*)`: `[_a-rt-zA-Z0-9][^$]*|s([^y$][^$]*)?|sy([^s$][^$]*)?|sys([^t$][^$]*)?|syst([^e$][^$]*)?|syste([^m$][^$]*)?|system([^.$][^$]*)?`,
	// S3Bucket: does not end in a dot.
	`[0-9A-Za-z\.\-_]*(?<!\.)`: `([0-9A-Za-z\.\-_]*[0-9A-Za-z\-_])?`,
}

// translate gives a Java pattern, which AWS matches against the whole value, as one for RE2.
func translate(pattern string) (string, error) {
	if r, ok := rewritten[pattern]; ok {
		pattern = r
	}
	re := `\A(?:` + javaClasses(pattern) + `)\z`
	_, err := regexp.Compile(re)
	return re, err
}

// javaClasses spells out what means less or more in Java: a dot leaves out all of Unicode's line ends, \s takes the
// vertical tab too.
func javaClasses(p string) string {
	var b strings.Builder
	class := false
	for i := 0; i < len(p); i++ {
		switch {
		case p[i] == '\\' && i+1 < len(p):
			i++
			switch {
			case p[i] == 's' && class:
				b.WriteString(`\s\x0b`)
			case p[i] == 's':
				b.WriteString(`[\s\x0b]`)
			default:
				b.WriteString(p[i-1 : i+1])
			}
			continue
		case p[i] == '[':
			class = true
		case p[i] == ']':
			class = false
		case p[i] == '.' && !class:
			b.WriteString(`[^\n\r\x{85}\x{2028}\x{2029}]`)
			continue
		}
		b.WriteByte(p[i])
	}
	return b.String()
}

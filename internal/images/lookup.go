package images

import (
	"regexp"
	"strconv"
	"strings"

	"kiln"
)

var identifier = regexp.MustCompile(`^(?:(python)3\.(\d{1,3})|(nodejs)(\d{1,3})\.x|(provided)(?:\.al2|\.al2023)?)$`)

// others are AWS's languages that are not served here yet.
var others = []string{"java", "dotnet", "ruby", "go1.x"}

// Lookup finds the interpreter for one of AWS's runtime identifiers. exact is false when it is another version of the
// language: the nearest newer one, else the nearest older. Errors: KindInvalid for an identifier AWS does not know,
// KindUnsupported for a language that is not served or not installed, or, in mode Strict, not in that version.
func (i *Images) Lookup(aws string, mode Mode) (r kiln.Runtime, exact bool, err error) {
	const op = "images: look up runtime"
	m := identifier.FindStringSubmatch(aws)
	if m == nil {
		for _, o := range others {
			if strings.HasPrefix(aws, o) {
				return r, false, kiln.Errorf(kiln.KindUnsupported, op, "Runtime %s is not served here: Kiln runs python3.*, nodejs*.x, provided.al2 and provided.al2023", aws)
			}
		}
		return r, false, kiln.Errorf(kiln.KindInvalid, op, "Value %q at 'runtime' is no runtime of Lambda", aws)
	}
	language := m[1] + m[3] + m[5]
	number, _ := strconv.Atoi(m[2] + m[4])
	best := -1
	for n, f := range i.found {
		if f.language != language {
			continue
		}
		if f.number() == number || language == "provided" {
			return f.runtime, true, nil
		}
		if best < 0 || nearer(f.number(), i.found[best].number(), number) {
			best = n
		}
	}
	install := "apt-get install " + map[string]string{"python": "python3", "nodejs": "nodejs"}[language]
	switch {
	case best < 0:
		return r, false, kiln.Errorf(kiln.KindUnsupported, op, "Runtime %s needs an interpreter this machine does not have: %s", aws, install)
	case mode == Strict:
		return r, false, kiln.Errorf(kiln.KindUnsupported, op, "Runtime %s is not installed (the nearest is %s) and the mode is strict: install it under /usr, or let the nearest serve", aws, i.found[best].runtime.Name)
	}
	return i.found[best].runtime, false, nil
}

// number is what tells the versions of one language apart.
func (f found) number() int {
	if f.language == "python" {
		return f.minor
	}
	return f.major
}

// nearer reports whether a serves code for want better than b: a newer one, as near as possible, before any older.
func nearer(a, b, want int) bool {
	if (a > want) != (b > want) {
		return a > want
	}
	if a > want {
		return a < b
	}
	return a > b
}

package kiln

import (
	"regexp"
	"strings"
)

// FunctionRef is a function as a caller may name it: by name, name:qualifier, partial or full ARN.
type FunctionRef struct {
	Account   AccountID // empty when the caller named none
	Region    string    // empty when the caller named none
	Name      string
	Qualifier string // version number, alias or $LATEST; empty when the caller named none
}

// functionRef is AWS's own pattern for FunctionName (model 2015-03-31, NamespacedFunctionName), in named groups.
var functionRef = regexp.MustCompile(`^(?:arn:(?:aws[a-zA-Z-]*):lambda:([a-z]{2}(?:-[a-z]+)+-\d{1}):)?(?:(\d{12}):)?(?:function:)?([a-zA-Z0-9\-_]{1,64})(?::(\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9\-_]{1,128}))?$`)

// ParseFunctionRef reads a function as a caller named it. False when it is none of the four forms.
func ParseFunctionRef(s string) (FunctionRef, bool) {
	if isFunctionName(s) {
		return FunctionRef{Name: s}, true
	}
	if len(s) > 256 {
		return FunctionRef{}, false
	}
	m := functionRef.FindStringSubmatch(s)
	if m == nil {
		return FunctionRef{}, false
	}
	return FunctionRef{Region: m[1], Account: AccountID(m[2]), Name: m[3], Qualifier: m[4]}, true
}

// isFunctionName reports whether s is a name and nothing else: what nearly every request says.
func isFunctionName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 64
}

// FunctionARN gives a function's ARN, with a qualifier unless it is empty.
func FunctionARN(region string, account AccountID, name, qualifier string) string {
	var b strings.Builder
	b.Grow(48 + len(name) + len(qualifier))
	b.WriteString("arn:aws:lambda:")
	b.WriteString(region)
	b.WriteByte(':')
	b.WriteString(string(account))
	b.WriteString(":function:")
	b.WriteString(name)
	if qualifier != "" {
		b.WriteByte(':')
		b.WriteString(qualifier)
	}
	return b.String()
}

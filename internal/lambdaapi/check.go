package lambdaapi

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"kiln"
)

// The bounds of a message about constraints.
const (
	maxViolations = 64   // told in one message; what follows is not looked at
	maxShownBytes = 4096 // of one value
)

// checked is an input struct: the generated ones are.
type checked interface{ check(*checker) }

// bounds is the smallest and greatest number, or length.
type bounds struct {
	min, max       float64
	hasMin, hasMax bool
}

// textRule is what a string must be.
type textRule struct {
	bounds    bounds // of its length in characters
	pattern   *pattern
	enum      []string
	sensitive bool // the value is not to be shown
	plainName bool // the pattern takes every string of [a-zA-Z0-9-_]+
}

// pattern is AWS's own text, for messages, and what we match with, compiled at its first use.
type pattern struct {
	text  string
	match func() *regexp.Regexp
}

func newPattern(text, re string) *pattern {
	return &pattern{text: text, match: sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(re) })}
}

// checker gathers what is wrong with an input.
type checker struct {
	path  []string
	wrong []string
}

// check gives nil, or AWS's answer to an input that breaks constraints.
func check(in checked) *kiln.Error {
	var c checker
	in.check(&c)
	if len(c.wrong) == 0 {
		return nil
	}
	plural := "s"
	if len(c.wrong) == 1 {
		plural = ""
	}
	err := kiln.Errorf(kiln.KindInvalid, "lambdaapi: check input", "%d validation error%s detected: %s",
		len(c.wrong), plural, strings.Join(c.wrong, "; "))
	err.Reason = "ValidationException"
	return err
}

func (c *checker) in(member string) { c.path = append(c.path, member) }
func (c *checker) out()             { c.path = c.path[:len(c.path)-1] }

// inMember enters an element of a list; AWS counts from one: "filterCriteria.filters.1.member.pattern".
func (c *checker) inMember(list string, i int) {
	c.path = append(c.path, list+"."+strconv.Itoa(i+1)+".member")
}

// fail notes a violation. The value is shown in quotes, or not at all when it is secret.
func (c *checker) fail(member, value string, secret bool, must string) {
	shown := " '" + value + "'"
	if secret {
		shown = ""
	} else if len(value) > maxShownBytes {
		shown = " '" + strings.ToValidUTF8(value[:maxShownBytes], "") + "...'"
	}
	c.failAt(member, shown, must)
}

func (c *checker) failAt(member, shown, must string) {
	if len(c.wrong) == maxViolations {
		return
	}
	at := strings.Join(append(slices.Clip(c.path), member), ".")
	c.wrong = append(c.wrong, "Value"+shown+" at '"+at+"' failed to satisfy constraint: "+must)
}

func (c *checker) required(member string, missing bool) {
	if missing {
		c.failAt(member, " null", mustNotBeNull)
	}
}

const mustNotBeNull = "Member must not be null"

func (c *checker) text(member string, value *string, rule textRule) {
	if value == nil {
		return
	}
	for _, must := range rule.broken(*value) {
		c.fail(member, *value, rule.sensitive, must)
	}
}

// size checks a length; shown is the value as the message shows it.
func (c *checker) size(member string, n int, shown string, secret bool, b bounds) {
	if must := b.brokenBy(float64(n), "length"); must != "" {
		c.fail(member, shown, secret, must)
	}
}

func checkNumber[N int32 | int64 | float64](c *checker, member string, value *N, b bounds) {
	if value == nil {
		return
	}
	if must := b.brokenBy(float64(*value), "value"); must != "" {
		c.fail(member, showNumber(*value), false, must)
	}
}

// showNumber writes a number as Java does: a double always has a decimal.
func showNumber[N int32 | int64 | float64](n N) string {
	f, ok := any(n).(float64)
	if !ok {
		return fmt.Sprint(n)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// texts checks a list of strings: its length, then all elements in one violation, as AWS does.
func (c *checker) texts(member string, list []string, b bounds, rule textRule) {
	if list == nil {
		return
	}
	shown := func() string { return "[" + strings.Join(list, ", ") + "]" }
	if must := b.brokenBy(float64(len(list)), "length"); must != "" {
		c.fail(member, shown(), rule.sensitive, must)
	}
	if slices.ContainsFunc(list, rule.refuses) {
		c.fail(member, shown(), rule.sensitive, "Member must satisfy constraint: "+rule.all())
	}
}

// pairs checks a map of strings: its size, then all keys and all values in one violation each.
func (c *checker) pairs(member string, m map[string]string, b bounds, key, value textRule) {
	checkMap(c, member, m, b, key, value.sensitive, func(v string) string { return v }, value.refuses, value.all)
}

func (c *checker) weights(member string, m map[string]float64, b bounds, key textRule, value bounds) {
	refuses := func(f float64) bool { return value.brokenBy(f, "value") != "" }
	checkMap(c, member, m, b, key, false, showNumber, refuses, func() string { return allOf(value.all("value")) })
}

func (c *checker) lists(member string, m map[string][]string, b bounds, key textRule, size bounds, rule textRule) {
	show := func(l []string) string { return "[" + strings.Join(l, ", ") + "]" }
	refuses := func(l []string) bool { return size.brokenBy(float64(len(l)), "length") != "" }
	checkMap(c, member, m, b, key, rule.sensitive, show, refuses, func() string { return allOf(size.all("length")) })
	c.in(member)
	defer c.out()
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if slices.ContainsFunc(m[k], rule.refuses) {
			c.fail(k, show(m[k]), rule.sensitive, "Member must satisfy constraint: "+rule.all())
		}
	}
}

func checkMap[V any](c *checker, member string, m map[string]V, b bounds, key textRule, secret bool,
	show func(V) string, refuses func(V) bool, must func() string) {
	if m == nil {
		return
	}
	secret = secret || key.sensitive
	badKey, badValue := false, false
	for k, v := range m {
		badKey = badKey || key.refuses(k)
		badValue = badValue || refuses(v)
	}
	size := b.brokenBy(float64(len(m)), "length")
	if !badKey && !badValue && size == "" {
		return
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, k+"="+show(m[k]))
	}
	shown := "{" + strings.Join(parts, ", ") + "}"
	if size != "" {
		c.fail(member, shown, secret, size)
	}
	if badKey {
		c.fail(member, shown, secret, "Map keys must satisfy constraint: "+key.all())
	}
	if badValue {
		c.fail(member, shown, secret, "Map value must satisfy constraint: "+must())
	}
}

func (b bounds) brokenBy(n float64, what string) string {
	switch {
	case b.hasMax && n > b.max:
		return b.mustMax(what)
	case b.hasMin && n < b.min:
		return b.mustMin(what)
	}
	return ""
}

func (b bounds) mustMax(what string) string {
	return "Member must have " + what + " less than or equal to " + strconv.FormatFloat(b.max, 'f', -1, 64)
}

func (b bounds) mustMin(what string) string {
	return "Member must have " + what + " greater than or equal to " + strconv.FormatFloat(b.min, 'f', -1, 64)
}

func (b bounds) all(what string) (musts []string) {
	if b.hasMax {
		musts = append(musts, b.mustMax(what))
	}
	if b.hasMin {
		musts = append(musts, b.mustMin(what))
	}
	return musts
}

// broken gives what a value breaks; nothing, and nothing allocated, for a good one.
func (r textRule) broken(value string) (musts []string) {
	if must := r.bounds.brokenBy(float64(utf8.RuneCountInString(value)), "length"); must != "" {
		musts = append(musts, must)
	}
	if r.pattern != nil && !(r.plainName && isPlainName(value)) && !r.pattern.match().MatchString(value) {
		musts = append(musts, r.mustMatch())
	}
	if r.enum != nil && !slices.Contains(r.enum, value) {
		musts = append(musts, r.mustBeOneOf())
	}
	return musts
}

func (r textRule) refuses(value string) bool { return r.broken(value) != nil }

func (r textRule) mustMatch() string {
	return "Member must satisfy regular expression pattern: " + r.pattern.text
}

func (r textRule) mustBeOneOf() string {
	return "Member must satisfy enum value set: [" + strings.Join(r.enum, ", ") + "]"
}

// all gives the whole rule, as AWS states it for an element.
func (r textRule) all() string {
	musts := r.bounds.all("length")
	if r.pattern != nil {
		musts = append(musts, r.mustMatch())
	}
	if r.enum != nil {
		musts = append(musts, r.mustBeOneOf())
	}
	return allOf(musts)
}

func allOf(musts []string) string {
	return "[" + strings.Join(append(musts, mustNotBeNull), ", ") + "]"
}

// isPlainName tells strings of [a-zA-Z0-9-_]+.
func isPlainName(s string) bool {
	for i := range len(s) {
		switch b := s[i]; {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9', b == '-', b == '_':
		default:
			return false
		}
	}
	return s != ""
}

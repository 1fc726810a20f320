package lambdaapi

import (
	"net/url"
	"strings"
	"sync"
)

// maxSegments bounds the segments of a path; the model's longest has six.
const maxSegments = 8

// step is one segment of the paths, with what may follow.
type step struct {
	literal map[string]*step
	param   *step
	leaves  []leaf
}

// leaf is an operation that ends here, with the names of its parameters in order.
type leaf struct {
	op    *Operation
	names []string
}

// routes is the tree of all paths, made once.
var routes = sync.OnceValue(func() *step {
	root := &step{}
	for op := range Operations() {
		at, l := root, leaf{op: op}
		for segment := range strings.SplitSeq(op.Path[1:], "/") {
			if name, ok := strings.CutPrefix(segment, "{"); ok {
				l.names = append(l.names, strings.TrimSuffix(name, "}"))
				if at.param == nil {
					at.param = &step{}
				}
				at = at.param
				continue
			}
			next := at.literal[segment]
			if next == nil {
				next = &step{}
				if at.literal == nil {
					at.literal = map[string]*step{}
				}
				at.literal[segment] = next
			}
			at = next
		}
		if op.splitKey != "" { // asked before the one that takes any query
			at.leaves = append([]leaf{l}, at.leaves...)
		} else {
			at.leaves = append(at.leaves, l)
		}
	}
	return root
})

// Route finds a request's operation by method, path as it was sent (still percent-encoded, so that an encoded slash
// stays in its segment) and query, and gives the path's parameters decoded. One slash at the end is allowed.
func Route(method, escapedPath string, query url.Values) (op *Operation, params map[string]string, ok bool) {
	path, ok := strings.CutPrefix(escapedPath, "/")
	if !ok {
		return nil, nil, false
	}
	path = strings.TrimSuffix(path, "/")
	var values [maxSegments]string
	n, at := 0, routes()
	for more := true; more; {
		var segment string
		segment, path, more = strings.Cut(path, "/")
		if next := at.literal[segment]; next != nil {
			at = next
			continue
		}
		if at.param == nil || segment == "" {
			return nil, nil, false
		}
		values[n] = segment
		n, at = n+1, at.param
	}
	for i := range at.leaves {
		l := &at.leaves[i]
		if l.op.Method != method || l.op.splitKey != "" && query.Get(l.op.splitKey) != l.op.splitValue {
			continue
		}
		params, ok = named(l.names, values[:n])
		return l.op, params, ok
	}
	return nil, nil, false
}

// named gives the decoded values by their names; false when one is not percent-encoded well.
func named(names, values []string) (map[string]string, bool) {
	params := make(map[string]string, len(names))
	for i, name := range names {
		value, err := url.PathUnescape(values[i])
		if err != nil {
			return nil, false
		}
		params[name] = value
	}
	return params, true
}

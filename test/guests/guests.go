// Package guests holds the sources of the functions that the black-box tests deploy: for Python and Node.js as files, for
// compiled functions as main packages below this one.
//
// It is not part of Kiln. Read by test/kilntest; nothing here is written at run time.
package guests

import "embed"

// Files holds the sources by name.
//
//go:embed *.py *.mjs *.js
var Files embed.FS

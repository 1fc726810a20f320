package operations

import (
	"net/http"

	"kiln"
)

// maxBackups bounds the backups written at once: each reads the whole data directory.
const maxBackups = 1

// backup streams a backup of everything that is not a cache. Once it has begun an error can only break it off; the
// manifest at its end is then missing.
func (o *Operations) backup(c *call) error {
	const op = "operations: back up"
	if err := operatorOnly(c); err != nil {
		return err
	}
	select {
	case o.backups <- struct{}{}:
		defer func() { <-o.backups }()
	default:
		return kiln.Errorf(kiln.KindThrottled, op, "a backup is being written already; try again when it is done")
	}
	c.w.Header().Set("Content-Type", "application/x-tar")
	c.w.Header().Set("X-Amzn-RequestId", string(c.id))
	out := &begun{w: c.w}
	err := o.cfg.Backup(c.Context(), out)
	if err == nil || !out.yes {
		return err
	}
	o.cfg.Logger.Error("backup broke off", "request", c.id, "error", err)
	panic(http.ErrAbortHandler)
}

// begun knows whether anything was written.
type begun struct {
	w   http.ResponseWriter
	yes bool
}

// Write implements io.Writer.
func (b *begun) Write(p []byte) (int, error) {
	b.yes = true
	return b.w.Write(p)
}

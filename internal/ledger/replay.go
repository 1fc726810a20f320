package ledger

import (
	"encoding/json"
	"os"
	"time"

	"kiln"
)

// Request is what a record tells of its request alone.
type Request struct {
	Account  kiln.AccountID
	Function string
	// At is when the request was resolved; when it was received in records of servers that did not note that.
	At time.Time
}

// Requests calls yield for each request on disk that came at a time or later, in the order in which they ended, which is
// not the order in which they came. It reads whole files and blocks for the disk; it is for a start, when nothing is
// pending. What cannot be read is left out.
func (l *Ledger) Requests(since time.Time, yield func(Request)) {
	j := l.records
	for _, s := range j.list() {
		if j.endedBefore(s, since) {
			continue
		}
		f, err := os.Open(j.path(s))
		if err != nil {
			continue // deleted meanwhile
		}
		_, _ = eachLine(f, func(_ int64, line []byte) {
			var r struct {
				Account  kiln.AccountID `json:"account"`
				Function string         `json:"function"`
				Times    struct {
					Received kiln.Time `json:"received"`
					Resolved kiln.Time `json:"resolved"`
				} `json:"times"`
			}
			if json.Unmarshal(line, &r) != nil {
				return
			}
			at := r.Times.Resolved.Time
			if at.IsZero() {
				at = r.Times.Received.Time
			}
			if !at.Before(since) {
				yield(Request{r.Account, r.Function, at})
			}
		})
		f.Close()
	}
}

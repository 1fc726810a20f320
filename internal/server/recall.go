package server

import (
	"context"
	"slices"
	"time"

	"kiln"
	"kiln/internal/fleet"
	"kiln/internal/ledger"
	"kiln/internal/pool"
)

// What the pools are told of requests of before the start: those of a day, as far as they are among the newest so many.
const (
	recalledFor = 24 * time.Hour
	recalledMax = 200_000
)

// recalled is a request on record.
type recalled struct {
	account          kiln.AccountID
	function, number string
	at               time.Time
}

// recall tells the pools of the requests on record, in the order they came, so that functions are kept and loaded by what is
// known of them as if the server had not been restarted. It works beside the first requests: a function that is asked for
// before its past is told is known from then on alone.
func (s *server) recall(ctx context.Context) {
	var past []recalled
	f := ledger.Filter{Since: time.Now().Add(-recalledFor), Limit: ledger.MaxLimit}
	for len(past) < recalledMax && ctx.Err() == nil {
		items, next := s.ledger.Executions(ctx, f)
		for i := range items {
			past = append(past, recalled{items[i].Account, items[i].Function, items[i].VersionExecuted, items[i].Times.Received.Time})
		}
		if next == "" {
			break
		}
		f.Next = next
	}
	for _, r := range slices.Backward(past) {
		found, err := s.registry.Get(r.account, r.function, r.number)
		if err != nil || ctx.Err() != nil {
			continue // deleted since, or code that came with its request
		}
		s.pool.Recall(pool.Need{
			Version: found.Version, MemoryMiB: found.Version.MemoryMiB, Fresh: found.Version.StartsFresh(),
			Fleet: s.usage.Of(fleet.Code{Account: r.account, Function: r.function}).Serves.String(),
		}, r.at)
	}
}

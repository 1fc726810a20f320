package pool

import (
	"context"
	"slices"

	"kiln"
	"kiln/internal/manager"
)

// DedicatedMax bounds the sub-pools of one fleet.
const DedicatedMax = 1000

// Dedicate keeps so many instances of a warming pool's configuration for one account, with spill-over to the common ones or
// not; 0 takes it back. It holds at once and is kept over a restart. It may be repeated. Kinds: KindNotFound (pool),
// KindInvalid, KindLimit (DedicatedMax), and the store's: then nothing has changed.
func (p *Pool) Dedicate(ctx context.Context, id string, account kiln.AccountID, instances int, spillOver bool) error {
	const op = "pool: dedicate"
	f, c, err := p.warming(op, id)
	if err != nil {
		return err
	}
	if instances < 0 || instances > KnobMax {
		return kiln.Errorf(kiln.KindInvalid, op, "%d instances cannot be kept for an account; give 0 to %d.", instances, KnobMax)
	}
	return p.operate(ctx, f, func(o *operated) error {
		o.Dedicated = slices.DeleteFunc(o.Dedicated, func(d manager.Dedicated) bool { return d.Account == account && d.Configuration == c })
		if instances > 0 {
			o.Dedicated = append(o.Dedicated, manager.Dedicated{Account: account, Configuration: c, Instances: instances, SpillOver: spillOver})
		}
		if len(o.Dedicated) > DedicatedMax {
			return kiln.Errorf(kiln.KindLimit, op, "A fleet has at most %d sub-pools.", DedicatedMax)
		}
		return nil
	})
}

// operate changes what the operator set of a fleet, keeps it, and then has it hold.
func (p *Pool) operate(ctx context.Context, f *fleet, change func(*operated) error) error {
	f.turning.Lock()
	defer f.turning.Unlock()
	if p.find(f.id) != f {
		return kiln.Errorf(kiln.KindNotFound, "pool: operate", "There is no fleet %s any more.", f.id.Name)
	}
	f.mu.Lock()
	settings := f.manager.Settings()
	f.mu.Unlock()
	o := operated{Turned: slices.Clone(settings.Turned), Dedicated: slices.Clone(settings.Dedicated)}
	if err := change(&o); err != nil {
		return err
	}
	if err := p.write(ctx, operatedKey(f.id), o); err != nil {
		return err
	}
	return p.Change(f.id, func(s *manager.Settings) { s.Turned, s.Dedicated = o.Turned, o.Dedicated })
}

package record

import (
	"encoding/json"
	"hash/fnv"

	"kiln"
	"kiln/internal/manager"
)

// decision is an action in a form that is the same for the same decision: what it points to by its name.
type decision struct {
	manager.Action
	Request *manager.Request `json:"Request,omitempty"`
	Version kiln.VersionID   `json:"Version,omitempty"`
	Err     string           `json:",omitempty"`
}

// written gives an action's form.
func written(a *manager.Action) []byte {
	d := decision{Action: *a}
	d.Action.Request, d.Action.Version = nil, nil
	if a.Version != nil {
		d.Version = a.Version.ID()
	}
	if a.Request != nil {
		r := answered(a.Request)
		d.Request = &r
		if a.Request.Err != nil {
			d.Err = a.Request.Err.Error()
		}
	}
	b, err := json.Marshal(d)
	if err != nil {
		return []byte(err.Error()) // a form is missing: the same each time
	}
	return b
}

// answered is what a manager answered a request.
func answered(r *manager.Request) manager.Request {
	out := asked(r)
	out.Container, out.Instance, out.Configuration = r.Container, r.Instance, r.Configuration
	out.Path, out.Choice, out.Amounts, out.Init, out.Resume, out.Provisioned = r.Path, r.Choice, r.Amounts, r.Init, r.Resume, r.Provisioned
	out.Init.Failure = told(r.Init.Failure)
	return out
}

// digest is one number for all a step decided, in order.
func digest(actions []manager.Action) uint64 {
	h := fnv.New64a()
	for i := range actions {
		h.Write(written(&actions[i]))
		h.Write([]byte{'\n'})
	}
	return h.Sum64()
}

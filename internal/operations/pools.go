package operations

import (
	"bytes"
	"encoding/json"
	"slices"

	"kiln"
	"kiln/internal/capacity"
	"kiln/internal/identity"
)

// pool answers one pool as the caller may see it.
func (o *Operations) pool(c *call) error {
	for _, row := range o.ownOrAll(c) {
		if row.ID == c.PathValue("id") {
			return o.ok(c, row)
		}
	}
	return kiln.Errorf(kiln.KindNotFound, "operations: get pool", "there is no pool %.200s; GET /kiln/v1/pools lists them", c.PathValue("id"))
}

// knob is a number in a body that may be given, given as null, or left out.
type knob struct {
	given bool
	value *int
}

// UnmarshalJSON is json.Unmarshaler's; it is called for null too.
func (k *knob) UnmarshalJSON(b []byte) error {
	k.given = true
	return json.Unmarshal(b, &k.value)
}

func (k knob) turn(into **int) {
	if k.given {
		*into = k.value
	}
}

// turnPool sets a warming pool's minimum, maximum and target. What the body leaves out stays as it was turned; null takes
// back what was.
func (o *Operations) turnPool(c *call) error {
	const op = "operations: set pool"
	if err := operatorOnly(c); err != nil {
		return err
	}
	var in struct {
		Minimum knob `json:"minimum"`
		Maximum knob `json:"maximum"`
		Target  knob `json:"target"`
	}
	d := json.NewDecoder(bytes.NewReader(c.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return kiln.Errorf(kiln.KindInvalid, op, `the body must be {"minimum": n, "maximum": n, "target": n}, each a whole number, null or left out: %v`, err)
	}
	return o.turned(c, func(k capacity.Knobs) capacity.Knobs {
		in.Minimum.turn(&k.Minimum)
		in.Maximum.turn(&k.Maximum)
		in.Target.turn(&k.Target)
		return k
	})
}

// resetPool takes back all that was turned of a warming pool: it is as configured.
func (o *Operations) resetPool(c *call) error {
	if err := operatorOnly(c); err != nil {
		return err
	}
	return o.turned(c, func(capacity.Knobs) capacity.Knobs { return capacity.Knobs{} })
}

// turned turns a pool's knobs and answers the pool as it is then.
func (o *Operations) turned(c *call, change func(capacity.Knobs) capacity.Knobs) error {
	id := c.PathValue("id")
	if err := o.cfg.Pool.Turn(c.Context(), id, change); err != nil {
		return err
	}
	row, err := o.cfg.Pool.PoolOf(id)
	if err != nil {
		return err
	}
	return o.ok(c, row)
}

// dedicate keeps instances of a warming pool for an account, with spill-over to the common ones or not; 0 takes it back.
func (o *Operations) dedicate(c *call) error {
	const op = "operations: dedicate"
	if err := operatorOnly(c); err != nil {
		return err
	}
	var in struct {
		Pool      string `json:"pool"`
		Instances *int   `json:"instances"`
		SpillOver bool   `json:"spillOver"`
	}
	d := json.NewDecoder(bytes.NewReader(c.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil || in.Pool == "" || in.Instances == nil {
		return kiln.Errorf(kiln.KindInvalid, op, `the body must be {"pool": "a warming pool's id", "instances": n, "spillOver": true or false}`)
	}
	account := kiln.AccountID(c.PathValue("account"))
	if !slices.ContainsFunc(o.cfg.Identity.Accounts(), func(a identity.Account) bool { return a.ID == account }) {
		return kiln.Errorf(kiln.KindNotFound, op, "there is no account %.40s; `kiln account ls` lists them", account)
	}
	if err := o.cfg.Pool.Dedicate(c.Context(), in.Pool, account, *in.Instances, in.SpillOver); err != nil {
		return err
	}
	id := in.Pool + "/" + string(account)
	if *in.Instances == 0 {
		id = in.Pool
	}
	row, err := o.cfg.Pool.PoolOf(id)
	if err != nil {
		return err
	}
	return o.ok(c, row)
}

package operations

import (
	"bytes"
	"encoding/json"

	"kiln"
	"kiln/internal/capacity"
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

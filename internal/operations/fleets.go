package operations

import (
	"bytes"
	"encoding/json"

	"kiln"
	"kiln/internal/fleet"
	"kiln/internal/pool"
)

// fleets lists the fleets: all for the operator, its own for another account.
func (o *Operations) fleets(c *call) error {
	var seen []pool.Fleet
	for _, f := range o.cfg.Pool.Fleets() {
		if c.caller.Operator || f.Account == c.caller.Account {
			seen = append(seen, f)
		}
	}
	return present(o, c, seen, func(f pool.Fleet) (string, kiln.AccountID) { return f.ID, f.Account })
}

// setFleet stops or starts a fleet's manager.
func (o *Operations) setFleet(c *call) error {
	const op = "operations: set fleet"
	if err := operatorOnly(c); err != nil {
		return err
	}
	var in struct {
		Manager pool.ManagerState `json:"manager"`
	}
	dec := json.NewDecoder(bytes.NewReader(c.body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil || in.Manager != pool.ManagerRunning && in.Manager != pool.ManagerStopped {
		return kiln.Errorf(kiln.KindInvalid, op, `the body must be {"manager": "running"} or {"manager": "stopped"}`)
	}
	id := pool.FleetID{Account: kiln.AccountID(c.URL.Query().Get("account")), Name: c.PathValue("name")}
	set := o.cfg.Pool.StartManager
	if in.Manager == pool.ManagerStopped {
		set = o.cfg.Pool.StopManager
	}
	if err := set(id); err != nil {
		return err
	}
	for _, f := range o.cfg.Pool.Fleets() {
		if f.Account == id.Account && f.Name == id.Name {
			return o.ok(c, f)
		}
	}
	return kiln.Errorf(kiln.KindNotFound, op, "There is no fleet %s.", id.Name)
}

// usageView is how often a function was asked for, as this API shows it.
type usageView struct {
	Account  kiln.AccountID `json:"account"`
	Function string         `json:"function"`
	Requests int            `json:"requests"` // within the window
	Window   kiln.Millis    `json:"windowMs"`
	Enter    int            `json:"enter"`
	Leave    int            `json:"leave"`
	Fleet    string         `json:"fleet"`
	Pinned   bool           `json:"pinned"`
	Last     kiln.Time      `json:"last"` // the latest request
}

// usage lists how often functions were asked for within the window, those that were.
func (o *Operations) usage(c *call) error {
	settings := o.cfg.Usage.Settings()
	var list []usageView
	add := func(code fleet.Code, s fleet.Standing) {
		list = append(list, usageView{
			Account: code.Account, Function: code.Function, Requests: s.Requests, Window: kiln.Millis(settings.Window), Enter: settings.Enter,
			Leave: settings.Leave, Fleet: o.fleetOf(code, s), Pinned: s.Pin == fleet.PinLow || s.Pin == fleet.PinHigh, Last: kiln.Time{Time: s.Last},
		})
	}
	name, account := c.URL.Query().Get("function"), kiln.AccountID(c.URL.Query().Get("account"))
	if !c.caller.Operator {
		account = c.caller.Account
	}
	o.cfg.Usage.Each(func(code fleet.Code, s fleet.Standing) {
		if (name == "" || code.Function == name) && (account == "" || code.Account == account) {
			add(code, s)
		}
	})
	return present(o, c, list, func(u usageView) (string, kiln.AccountID) { return string(u.Account) + "/" + u.Function, u.Account })
}

// fleetOf names the fleet that serves a code: its capacity provider, or what its standing says.
func (o *Operations) fleetOf(code fleet.Code, s fleet.Standing) string {
	if s.Pin == fleet.PinProvider {
		if found, err := o.cfg.Registry.Get(code.Account, code.Function, ""); err == nil {
			return found.Version.Provider
		}
	}
	return s.Serves.String()
}

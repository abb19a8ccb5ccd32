package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/api/schema"
	"github.com/coracle-os/coracle/agents/fleet/unitfile"
)

// Units lists all units by name. Copies that Replicas= of a template makes are
// not among them; the template tells of them.
func (c *Client) Units(ctx context.Context) ([]schema.Unit, error) {
	return each(ctx, c, "/units", nil,
		func(p *schema.UnitPage) ([]schema.Unit, string) { return p.Units, p.NextPageToken },
		func(u *schema.Unit) string { return u.Name })
}

// Unit gives one unit, a copy that Replicas= makes too; see IsNotFound.
func (c *Client) Unit(ctx context.Context, name string) (*schema.Unit, error) {
	var u schema.Unit
	if _, err := c.do(ctx, http.MethodGet, "/units/"+url.PathEscape(name), nil, nil, &u); err != nil {
		return nil, err
	}
	return &u, nil
}

// PutUnit creates a unit or, when its options differ, replaces it, and sets its
// desired state. Rollout says how running copies are replaced. It tells whether
// content was written.
func (c *Client) PutUnit(ctx context.Context, u schema.Unit) (written bool, err error) {
	code, err := c.do(ctx, http.MethodPut, "/units/"+url.PathEscape(u.Name), nil, u, nil)
	return code == http.StatusCreated, err
}

// SetDesired says what a unit that exists is to be.
func (c *Client) SetDesired(ctx context.Context, name string, state fleet.JobState) error {
	_, err := c.PutUnit(ctx, schema.Unit{Name: name, DesiredState: string(state)})
	return err
}

// Destroy takes a unit out of the cluster; see IsNotFound.
func (c *Client) Destroy(ctx context.Context, name string) error {
	_, err := c.do(ctx, http.MethodDelete, "/units/"+url.PathEscape(name), nil, nil, nil)
	return err
}

// Rollback puts back the content that the unit, and the other units of its
// group, had before the last rollout.
func (c *Client) Rollback(ctx context.Context, name string) error {
	_, err := c.do(ctx, http.MethodPost, "/units/"+url.PathEscape(name)+"/rollback", nil, nil, nil)
	return err
}

// States lists what the machines say of units, by unit and machine. unit and
// machine, if not "", choose.
func (c *Client) States(ctx context.Context, unit, machine string) ([]schema.UnitState, error) {
	query := url.Values{}
	if unit != "" {
		query.Set("unitName", unit)
	}
	if machine != "" {
		query.Set("machineID", machine)
	}
	return each(ctx, c, "/state", query,
		func(p *schema.UnitStatePage) ([]schema.UnitState, string) { return p.States, p.NextPageToken },
		func(s *schema.UnitState) string { return s.Name + "/" + s.MachineID })
}

// State gives what one machine says of a unit; see IsNotFound.
func (c *Client) State(ctx context.Context, unit string) (*schema.UnitState, error) {
	var s schema.UnitState
	if _, err := c.do(ctx, http.MethodGet, "/state/"+url.PathEscape(unit), nil, nil, &s); err != nil {
		return nil, err
	}
	return &s, nil
}

// Machines lists the machines by id.
func (c *Client) Machines(ctx context.Context) ([]schema.Machine, error) {
	return each(ctx, c, "/machines", nil,
		func(p *schema.MachinePage) ([]schema.Machine, string) { return p.Machines, p.NextPageToken },
		func(m *schema.Machine) string { return m.ID })
}

// patch is one change of PATCH /machines.
type patch struct {
	Op    string      `json:"op"`
	Path  string      `json:"path"`
	Value *patchValue `json:"value,omitempty"`
}

// patchValue is written in the form that fleet's own server takes.
type patchValue struct {
	Value string `json:"value"`
}

// SetMetadata lays a metadata value over what the machine's configuration says.
func (c *Client) SetMetadata(ctx context.Context, machine, key, value string) error {
	return c.patch(ctx, patch{"add", "/" + machine + "/metadata/" + key, &patchValue{value}})
}

// DeleteMetadata takes a metadata key away, the configuration's too.
func (c *Client) DeleteMetadata(ctx context.Context, machine, key string) error {
	return c.patch(ctx, patch{"remove", "/" + machine + "/metadata/" + key, nil})
}

func (c *Client) patch(ctx context.Context, p patch) error {
	_, err := c.do(ctx, http.MethodPatch, "/machines", nil, []patch{p}, nil)
	return err
}

// Drain makes the units of a machine go elsewhere and lets none come; with
// untilReboot that ends when the machine has started again. It does not wait.
func (c *Client) Drain(ctx context.Context, machine, reason string, untilReboot bool) error {
	_, err := c.do(ctx, http.MethodPut, "/machines/"+url.PathEscape(machine)+"/drain", nil, schema.Drain{Reason: reason, UntilReboot: untilReboot}, nil)
	return err
}

// EndDrain lets units come again.
func (c *Client) EndDrain(ctx context.Context, machine string) error {
	_, err := c.do(ctx, http.MethodDelete, "/machines/"+url.PathEscape(machine)+"/drain", nil, nil, nil)
	return err
}

// Plan asks what would happen if units were submitted with their desired state
// (launched if they have none). It changes nothing.
func (c *Client) Plan(ctx context.Context, units []schema.Unit) (schema.Plan, error) {
	var p schema.Plan
	_, err := c.do(ctx, http.MethodPost, "/plan", nil, schema.PlanRequest{Units: units}, &p)
	return p, err
}

// Rebalance moves units so that machines have about as many, or with dryRun
// only says which it would move.
func (c *Client) Rebalance(ctx context.Context, dryRun bool) (schema.Plan, error) {
	var query url.Values
	if dryRun {
		query = url.Values{"dry_run": {"1"}}
	}
	var p schema.Plan
	_, err := c.do(ctx, http.MethodPost, "/rebalance", query, nil, &p)
	return p, err
}

// Left names the units that are still on a machine, as its init tells, but for
// global ones, which belong to every machine. It is for waiting for a drain.
func (c *Client) Left(ctx context.Context, machine string) ([]string, error) {
	states, err := c.States(ctx, "", machine)
	if err != nil {
		return nil, err
	}
	var left []string
	for _, s := range states {
		global, err := c.global(ctx, s.Name)
		if err != nil {
			return nil, err
		}
		if !global {
			left = append(left, s.Name)
		}
	}
	return left, nil
}

func (c *Client) global(ctx context.Context, name string) (bool, error) {
	u, err := c.Unit(ctx, name)
	if IsNotFound(err) {
		return false, nil // destroyed, and not stopped yet
	}
	if err != nil {
		return false, err
	}
	file, err := unitfile.FromOptions(u.Options)
	if err != nil {
		return false, fmt.Errorf("unit %q: %w", name, err)
	}
	// A bad value of another option is not a reason to wait for a global unit.
	requirements, _, _ := file.Requirements(name)
	return requirements.Global, nil
}

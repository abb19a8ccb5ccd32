package try

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/coracle-os/coracle/rootfs/provision/apply"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// Check returns an error for every step that can not be taken back.
func Check(p plan.Plan) (err error) {
	for _, step := range p.Steps {
		switch step.Action.(type) {
		case plan.SetHostname, plan.EnsureUser, plan.RemoveUser, plan.AuthorizeKeys, plan.WriteFile, plan.MergeEnvironment,
			plan.PlaceUnit, plan.MaskUnit, plan.UnmaskUnit, plan.EnableUnit, plan.ReloadUnits, plan.RestartNetwork,
			plan.UnitCommand, plan.PutBack, plan.MakeDirectory, plan.MakeLink, plan.EnsureGroup:
		default:
			err = errors.Join(err, fmt.Errorf("%s: %w", step, apply.ErrNoUndo))
		}
	}
	return err
}

// Apply applies a plan, step by step, after what takes each step back is on
// the disk. It stops at the first step that can not be kept, with all before it
// to be taken back. Steps that fail are reported; the rest is tried.
func (t *Try) Apply(ctx context.Context, e *apply.Executor, p plan.Plan, report func(apply.Outcome)) error {
	t.Head.Started = true
	if err := t.save(); err != nil {
		return err
	}
	for _, step := range p.Steps {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("apply the try: %w", err)
		}
		if e.Compare(ctx, step).State == apply.Done {
			report(apply.Outcome{Step: step, Result: apply.Unchanged})
			continue
		}
		actions, err := e.Undo(ctx, step.Action)
		if err != nil && !(t.Head.Limit == 0 && errors.Is(err, apply.ErrNoUndo)) {
			return err
		}
		var undo []plan.Step
		for _, action := range actions {
			undo = append(undo, plan.Step{Action: action, Reason: "as before: " + step.Reason, Origin: step.Origin})
		}
		if err := t.keep(undo); err != nil {
			return err
		}
		e.Apply(ctx, plan.Plan{Steps: []plan.Step{step}}, report)
	}
	return nil
}

// Finish does the last of a try, what takes it back being undo, and says on the
// disk that all is applied.
func (t *Try) Finish(undo plan.Step, last func() error) error {
	if err := t.keep([]plan.Step{undo}); err != nil {
		return err
	}
	if err := last(); err != nil {
		return err
	}
	t.Head.Applied = true
	return t.save()
}

// UndoPlan is what takes the try back: what was kept, the last first, then the
// reading of files that are as before, then the commands of units. atBoot leaves
// out the start of units, which the boot does.
func (t *Try) UndoPlan(atBoot bool) (plan.Plan, error) {
	lists, err := t.kept()
	var p plan.Plan
	var commands []plan.Step
	for _, list := range slices.Backward(lists) {
		for _, step := range list {
			command, isCommand := step.Action.(plan.UnitCommand)
			switch {
			case isCommand && atBoot && command.Verb != "stop":
			case isCommand:
				commands = append(commands, step)
			default:
				p.Steps = append(p.Steps, step)
			}
		}
	}
	const reason = "files are as before"
	p.Steps = append(p.Steps, plan.Step{Action: plan.ReloadUnits{}, Reason: reason}, plan.Step{Action: plan.RestartNetwork{}, Reason: reason})
	p.Steps = append(p.Steps, commands...)
	return p, err
}

// ErrConfirmed is the error of taking back what was confirmed.
var ErrConfirmed = errors.New("the change was confirmed")

// Revert takes the try back and ends it. When a step fails, the try stays on
// the disk, to be taken back at the next boot; atBoot ends it all the same, for
// a boot must not meet it for ever.
func (t *Try) Revert(ctx context.Context, e *apply.Executor, atBoot bool, report func(apply.Outcome)) error {
	unlock, err := lock(t.dir)
	if err != nil {
		return err
	}
	defer unlock()
	now, err := Open(t.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrConfirmed
	}
	if err == nil && now.Head.Applied { // it can be confirmed no longer
		now.Head.Applied = false
		err = now.save()
	}
	p, keptErr := t.UndoPlan(atBoot)
	err = errors.Join(err, keptErr)
	e.Apply(ctx, p, func(o apply.Outcome) {
		if o.Result == apply.Failed {
			err = errors.Join(err, o.Err)
		}
		report(o)
	})
	if err != nil && !atBoot {
		return fmt.Errorf("take the change back: %w; the next boot tries again", err)
	}
	return errors.Join(err, t.end())
}

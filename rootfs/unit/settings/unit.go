package settings

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/unit"
	schedule "github.com/coracle-os/coracle/rootfs/unit/calendar"
)

var unitSettings = map[string]setting{
	"Description":           text(func(u *unit.Unit) *string { return &u.Description }),
	"Documentation":         list(func(u *unit.Unit) *[]string { return &u.Documentation }, nil),
	"SourcePath":            ignore,
	"Requires":              dependency(unit.Requires),
	"Requisite":             dependency(unit.Requisite),
	"Wants":                 dependency(unit.Wants),
	"BindsTo":               dependency(unit.BindsTo),
	"BindTo":                dependency(unit.BindsTo),
	"PartOf":                dependency(unit.PartOf),
	"Upholds":               dependency(unit.Upholds),
	"Conflicts":             dependency(unit.Conflicts),
	"Before":                dependency(unit.Before),
	"After":                 dependency(unit.After),
	"OnFailure":             dependency(unit.OnFailure),
	"OnSuccess":             dependency(unit.OnSuccess),
	"PropagatesReloadTo":    dependency(unit.PropagatesReloadTo),
	"PropagateReloadTo":     dependency(unit.PropagatesReloadTo),
	"ReloadPropagatedFrom":  dependency(unit.ReloadPropagatedFrom),
	"PropagateReloadFrom":   dependency(unit.ReloadPropagatedFrom),
	"PropagatesStopTo":      dependency(unit.PropagatesStopTo),
	"StopPropagatedFrom":    dependency(unit.StopPropagatedFrom),
	"JoinsNamespaceOf":      dependency(unit.JoinsNamespaceOf),
	"RequiresMountsFor":     mountsFor,
	"DefaultDependencies":   boolean(func(u *unit.Unit) *bool { return &u.DefaultDependencies }),
	"StopWhenUnneeded":      boolean(func(u *unit.Unit) *bool { return &u.StopWhenUnneeded }),
	"RefuseManualStart":     boolean(func(u *unit.Unit) *bool { return &u.RefuseManualStart }),
	"RefuseManualStop":      boolean(func(u *unit.Unit) *bool { return &u.RefuseManualStop }),
	"AllowIsolate":          boolean(func(u *unit.Unit) *bool { return &u.AllowIsolate }),
	"IgnoreOnIsolate":       boolean(func(u *unit.Unit) *bool { return &u.IgnoreOnIsolate }),
	"OnFailureJobMode":      oneOf(func(u *unit.Unit) *string { return &u.OnFailureJobMode }, jobModes...),
	"OnSuccessJobMode":      oneOf(func(u *unit.Unit) *string { return &u.OnSuccessJobMode }, jobModes...),
	"CollectMode":           oneOf(func(u *unit.Unit) *string { return &u.CollectMode }, "inactive", "inactive-or-failed"),
	"IgnoreOnSnapshot":      ignore,
	"JobTimeoutSec":         limit(func(u *unit.Unit) *time.Duration { return &u.JobTimeout }),
	"JobRunningTimeoutSec":  limit(func(u *unit.Unit) *time.Duration { return &u.JobRunningTimeout }),
	"JobTimeoutAction":      action(func(u *unit.Unit) *string { return &u.JobTimeoutAction }),
	"StartLimitIntervalSec": limitInterval,
	"StartLimitInterval":    limitInterval,
	"StartLimitBurst":       limitBurst,
	"StartLimitAction":      limitAction,
	"SuccessAction":         action(func(u *unit.Unit) *string { return &u.SuccessAction }),
	"FailureAction":         failureAction,
}

// jobModes are what --job-mode= of systemctl takes, too.
var jobModes = []string{"replace", "fail", "replace-irreversibly", "isolate", "flush", "ignore-dependencies", "ignore-requirements"}

var failureAction = action(func(u *unit.Unit) *string { return &u.FailureAction })

// action takes what is to become of the machine.
func action(f field[string]) setting {
	words := []string{"none", "reboot", "reboot-force", "reboot-immediate", "poweroff", "poweroff-force", "poweroff-immediate",
		"halt", "halt-force", "halt-immediate", "exit", "exit-force"}
	return func(p *pass, value string) error {
		if !slices.Contains(words, value) {
			return fmt.Errorf("Failed to parse %q, ignoring: it is one of %v", value, words)
		}
		*f(p.u) = value
		return nil
	}
}

// The start limit settings stand in [Unit] and, in old units, in [Service].
var (
	limitInterval = span(func(u *unit.Unit) *time.Duration { return &u.StartLimit.Interval })
	limitBurst    = number(func(u *unit.Unit) *int { return &u.StartLimit.Burst }, 0, 1<<31-1)
	limitAction   = action(func(u *unit.Unit) *string { return &u.StartLimit.Action })
)

func mountsFor(p *pass, value string) error {
	return p.each(value, func(w string) error {
		dir, err := absolute(w)
		if err == nil {
			p.u.RequiresMountsFor = append(p.u.RequiresMountsFor, dir)
		}
		return err
	})
}

var installSettings = map[string]setting{
	"WantedBy":        rawList(func(u *unit.Unit) *[]string { return &u.Install.WantedBy }),
	"RequiredBy":      rawList(func(u *unit.Unit) *[]string { return &u.Install.RequiredBy }),
	"Alias":           rawList(func(u *unit.Unit) *[]string { return &u.Install.Alias }),
	"Also":            rawList(func(u *unit.Unit) *[]string { return &u.Install.Also }),
	"DefaultInstance": func(p *pass, value string) error { p.u.Install.DefaultInstance = value; return nil },
}

// Conditions whose value is a path, and those whose value is another word.
var (
	pathConditions = set(`PathExists PathExistsGlob PathIsDirectory PathIsSymbolicLink PathIsMountPoint
		PathIsReadWrite PathIsEncrypted DirectoryNotEmpty FileNotEmpty FileIsExecutable NeedsUpdate`)
	wordConditions = set(`KernelCommandLine KernelVersion Virtualization Host Architecture User Group Memory CPUs
		Environment FirstBoot Security ACPower Capability ControlGroupController OSRelease Firmware CPUFeature
		MemoryPressure CPUPressure IOPressure Credential`)
)

// conditionSetting returns the setting for a Condition...= or Assert...= key.
func conditionSetting(key string) setting {
	kind, assert := strings.CutPrefix(key, "Assert")
	if !assert {
		var ok bool
		if kind, ok = strings.CutPrefix(key, "Condition"); !ok {
			return nil
		}
	}
	if !pathConditions[kind] && !wordConditions[kind] {
		return nil
	}
	return func(p *pass, value string) error {
		at := &p.u.Conditions
		if assert {
			at = &p.u.Asserts
		}
		if value == "" {
			*at = nil
			return nil
		}
		c, err := p.condition(kind, value)
		if err == nil {
			*at = append(*at, c)
		}
		return err
	}
}

func (p *pass) condition(kind, value string) (unit.Condition, error) {
	c := unit.Condition{Kind: kind}
	if rest, ok := strings.CutPrefix(value, "|"); ok {
		c.Trigger, value = true, strings.TrimLeft(rest, " \t")
	}
	if rest, ok := strings.CutPrefix(value, "!"); ok {
		c.Negate, value = true, strings.TrimLeft(rest, " \t")
	}
	v, err := p.x.Expand(value)
	if err != nil {
		return c, fmt.Errorf("Failed to resolve unit specifiers in %q, ignoring: %w", value, err)
	}
	c.Value = v
	if pathConditions[kind] {
		if c.Value, err = absolute(v); err != nil {
			return c, err
		}
	}
	return c, nil
}

// otherSettings are those of the kinds that have few.
var otherSettings = map[string]map[string]setting{
	"Mount": {
		"What":          text(func(u *unit.Unit) *string { return &u.Mount.What }),
		"Where":         absPath(func(u *unit.Unit) *string { return &u.Mount.Where }),
		"Type":          text(func(u *unit.Unit) *string { return &u.Mount.FSType }),
		"Options":       text(func(u *unit.Unit) *string { return &u.Mount.Options }),
		"TimeoutSec":    limit(func(u *unit.Unit) *time.Duration { return &u.Mount.Timeout }),
		"DirectoryMode": octal(func(u *unit.Unit) *int { return &u.Mount.DirectoryMode }),
		"SloppyOptions": boolean(func(u *unit.Unit) *bool { return &u.Mount.SloppyOptions }),
		"LazyUnmount":   boolean(func(u *unit.Unit) *bool { return &u.Mount.LazyUnmount }),
		"ForceUnmount":  boolean(func(u *unit.Unit) *bool { return &u.Mount.ForceUnmount }),
		"ReadWriteOnly": boolean(func(u *unit.Unit) *bool { return &u.Mount.ReadWriteOnly }),
	},
	"Automount": {
		"Where":          absPath(func(u *unit.Unit) *string { return &u.Automount.Where }),
		"DirectoryMode":  octal(func(u *unit.Unit) *int { return &u.Automount.DirectoryMode }),
		"TimeoutIdleSec": span(func(u *unit.Unit) *time.Duration { return &u.Automount.TimeoutIdle }),
	},
	"Timer": {
		"OnActiveSec":        timer(func(u *unit.Unit) *[]time.Duration { return &u.Timer.OnActive }),
		"OnBootSec":          timer(func(u *unit.Unit) *[]time.Duration { return &u.Timer.OnBoot }),
		"OnStartupSec":       timer(func(u *unit.Unit) *[]time.Duration { return &u.Timer.OnStartup }),
		"OnUnitActiveSec":    timer(func(u *unit.Unit) *[]time.Duration { return &u.Timer.OnUnitActive }),
		"OnUnitInactiveSec":  timer(func(u *unit.Unit) *[]time.Duration { return &u.Timer.OnUnitInactive }),
		"OnCalendar":         calendar,
		"AccuracySec":        span(func(u *unit.Unit) *time.Duration { return &u.Timer.AccuracySec }),
		"RandomizedDelaySec": span(func(u *unit.Unit) *time.Duration { return &u.Timer.RandomizedDelay }),
		"Persistent":         boolean(func(u *unit.Unit) *bool { return &u.Timer.Persistent }),
		"RemainAfterElapse":  boolean(func(u *unit.Unit) *bool { return &u.Timer.RemainAfterEnd }),
		"Unit":               otherUnit(func(u *unit.Unit) *string { return &u.Timer.Unit }),
		"FixedRandomDelay":   boolean(func(u *unit.Unit) *bool { return &u.Timer.FixedRandomDelay }),
		"OnClockChange":      boolean(func(u *unit.Unit) *bool { return &u.Timer.OnClockChange }),
	},
	"Path": {
		"PathExists":              watch("PathExists"),
		"PathExistsGlob":          watch("PathExistsGlob"),
		"PathChanged":             watch("PathChanged"),
		"PathModified":            watch("PathModified"),
		"DirectoryNotEmpty":       watch("DirectoryNotEmpty"),
		"MakeDirectory":           boolean(func(u *unit.Unit) *bool { return &u.Path.MakeDirectory }),
		"DirectoryMode":           octal(func(u *unit.Unit) *int { return &u.Path.DirectoryMode }),
		"Unit":                    otherUnit(func(u *unit.Unit) *string { return &u.Path.Unit }),
		"TriggerLimitIntervalSec": span(func(u *unit.Unit) *time.Duration { return &u.Path.TriggerLimit.Interval }),
		"TriggerLimitBurst":       number(func(u *unit.Unit) *int { return &u.Path.TriggerLimit.Burst }, 0, 1<<31-1),
	},
}

// otherUnit is unitName for what a unit starts, which cannot be itself.
func otherUnit(f field[string]) setting {
	take := unitName(f)
	return func(p *pass, value string) error {
		if v, err := p.x.Expand(value); err == nil && v == p.u.Name {
			return fmt.Errorf("Units cannot trigger themselves, ignoring: %s", v)
		}
		return take(p, value)
	}
}

// timer takes one more time span; an empty value resets every On...= setting.
func timer(f field[[]time.Duration]) setting {
	return func(p *pass, value string) error {
		if value == "" {
			return resetTimer(p)
		}
		var d time.Duration
		err := span(func(*unit.Unit) *time.Duration { return &d })(p, value)
		if err == nil {
			*f(p.u) = append(*f(p.u), d)
		}
		return err
	}
}

func calendar(p *pass, value string) error {
	if value == "" {
		return resetTimer(p)
	}
	v, err := p.x.Expand(value)
	if err == nil {
		_, err = schedule.Parse(v, schedule.System())
	}
	if err != nil {
		return fmt.Errorf("Failed to parse calendar specification, ignoring: %w", err)
	}
	p.u.Timer.OnCalendar = append(p.u.Timer.OnCalendar, v)
	return nil
}

func resetTimer(p *pass) error {
	t := p.u.Timer
	t.OnActive, t.OnBoot, t.OnStartup, t.OnUnitActive, t.OnUnitInactive, t.OnCalendar = nil, nil, nil, nil, nil, nil
	return nil
}

func watch(kind string) setting {
	return func(p *pass, value string) error {
		if value == "" {
			p.u.Path.Watch = nil
			return nil
		}
		v, err := p.x.Expand(value)
		if err == nil {
			v, err = absolute(v)
		}
		if err == nil {
			p.u.Path.Watch = append(p.u.Path.Watch, unit.PathWatch{Kind: kind, Path: v})
		}
		return err
	}
}

var cgroupSettings = map[string]setting{
	"Slice":            unitName(func(u *unit.Unit) *string { return &u.Slice }, "slice"),
	"CPUWeight":        cpuWeight,
	"CPUShares":        weight(func(u *unit.Unit) *unit.Value { return &u.Cgroup.CPUShares }, 2, 262144),
	"CPUQuota":         cpuQuota,
	"MemoryMax":        amount(func(u *unit.Unit) *unit.Value { return &u.Cgroup.MemoryMax }),
	"MemoryLimit":      amount(func(u *unit.Unit) *unit.Value { return &u.Cgroup.MemoryLimit }),
	"MemoryHigh":       amount(func(u *unit.Unit) *unit.Value { return &u.Cgroup.MemoryHigh }),
	"MemoryLow":        amount(func(u *unit.Unit) *unit.Value { return &u.Cgroup.MemoryLow }),
	"MemoryMin":        amount(func(u *unit.Unit) *unit.Value { return &u.Cgroup.MemoryMin }),
	"MemorySwapMax":    amount(func(u *unit.Unit) *unit.Value { return &u.Cgroup.MemorySwapMax }),
	"TasksMax":         amount(func(u *unit.Unit) *unit.Value { return &u.Cgroup.TasksMax }),
	"IOWeight":         weight(func(u *unit.Unit) *unit.Value { return &u.Cgroup.IOWeight }, 1, 10000),
	"BlockIOWeight":    weight(func(u *unit.Unit) *unit.Value { return &u.Cgroup.BlockIOWeight }, 10, 1000),
	"AllowedCPUs":      text(func(u *unit.Unit) *string { return &u.Cgroup.AllowedCPUs }),
	"Delegate":         delegate,
	"CPUAccounting":    ignore,
	"MemoryAccounting": ignore,
	"TasksAccounting":  ignore,
	"IOAccounting":     ignore,
}

// cpuWeight takes a number or "idle", which is the lowest one here.
func cpuWeight(p *pass, value string) error {
	if value == "idle" {
		value = "1"
	}
	return weight(func(u *unit.Unit) *unit.Value { return &u.Cgroup.CPUWeight }, 1, 10000)(p, value)
}

// cpuQuota takes a percentage of one CPU.
func cpuQuota(p *pass, value string) error {
	percent, ok := strings.CutSuffix(value, "%")
	f, err := strconv.ParseFloat(percent, 64)
	switch {
	case value == "":
		p.u.Cgroup.CPUQuota = unit.Value{}
		return nil
	case !ok || err != nil || f <= 0 || f > 1e6:
		return fmt.Errorf("Failed to parse CPU quota %q, ignoring: write a percentage of one CPU, for example 20%%", value)
	}
	p.u.Cgroup.CPUQuota = unit.Value{Set: true, N: uint64(f * 1000)}
	return nil
}

// delegate takes a boolean or a list of controllers, which means yes.
func delegate(p *pass, value string) error {
	switch strings.ToLower(value) {
	case "no", "false", "off", "0", "n", "f":
		p.u.Cgroup.Delegate = false
	default:
		p.u.Cgroup.Delegate = true
	}
	return nil
}

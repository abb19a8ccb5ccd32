package ignition

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/coreos/ignition/v2/config/v3_5"
	"github.com/coreos/ignition/v2/config/v3_5/types"
	"github.com/coreos/ignition/v2/config/validate"
	"github.com/coreos/vcontext/report"

	"github.com/coracle-os/coracle/rootfs/cloudconfig"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// MaxSize is the size in bytes of the largest config, after decompression.
const MaxSize = cloudconfig.MaxSize

// ErrInvalid says that a config is not valid; the problems say why.
var ErrInvalid = errors.New("the config is not valid")

// Parse reads a config of any version, which may be compressed with gzip, as
// the newest one. The error is ErrInvalid when one of the problems is an error.
func Parse(data []byte) (types.Config, plan.Report, error) {
	data, err := cloudconfig.Gunzip(data)
	if err == nil && len(data) > MaxSize {
		err = fmt.Errorf("it is larger than %d bytes", MaxSize)
	}
	if err != nil {
		return types.Config{}, plan.Report{{Severity: plan.Error, Text: err.Error()}}, ErrInvalid
	}
	config, r, err := v3_5.ParseCompatibleVersion(data)
	problems := problemsOf(r)
	if err == nil {
		return config, problems, nil
	}
	if !hasError(problems) {
		problems = append(problems, plan.Problem{Severity: plan.Error, Text: err.Error()})
	}
	for i := range problems {
		if problems[i].Line == 0 {
			problems[i].Position = syntaxError(data)
		}
	}
	return types.Config{}, problems, ErrInvalid
}

// syntaxError is where a text ends to be JSON, if it does.
func syntaxError(data []byte) plan.Position {
	var all any
	var syntax *json.SyntaxError
	if !errors.As(json.Unmarshal(data, &all), &syntax) {
		return plan.Position{}
	}
	before := data[:min(max(syntax.Offset-1, 0), int64(len(data)))]
	return plan.Position{Line: bytes.Count(before, []byte("\n")) + 1, Column: len(before) - bytes.LastIndexByte(before, '\n')}
}

func hasError(r plan.Report) bool {
	return slices.ContainsFunc(r, func(p plan.Problem) bool { return p.Severity == plan.Error })
}

func problemsOf(r report.Report) (problems plan.Report) {
	for _, e := range r.Entries {
		p := plan.Problem{Severity: plan.Warning, Text: e.Message}
		if e.Kind.IsFatal() {
			p.Severity = plan.Error
		}
		if len(e.Context.Path) > 0 {
			p.Text += fmt.Sprintf(" (%s)", e.Context)
		}
		if start := e.Marker.StartP; start != nil {
			p.Line, p.Column = int(start.Line), int(start.Column)
		}
		problems = append(problems, p)
	}
	return problems
}

// check validates what a merge made: parts that are valid may not go together.
func check(config types.Config) plan.Report {
	return problemsOf(validate.ValidateWithContext(config, nil))
}

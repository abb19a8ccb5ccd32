// Package format tells what a document of provisioning is and compiles it by
// its kind, for every program that only has a document: the checks before use
// and the change of a running machine. The formats besides cloud-config and
// scripts are the caller's to name, so that a program holds only those it needs.
package format

import (
	"fmt"
	"slices"

	"github.com/coracle-os/coracle/rootfs/cloudconfig"
	"github.com/coracle-os/coracle/rootfs/provision/multipart"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// Compiler makes a plan of a document and says what is wrong with it. What is
// wrong costs only itself: the plan has all the rest.
type Compiler func(data []byte, facts cloudconfig.Facts) (plan.Plan, plan.Report)

// Formats are compilers by the kind of document.
type Formats map[cloudconfig.Kind]Compiler

// Compile makes a plan of user-data of any kind, gzip or not, in the name of
// source. Kinds without a compiler are reported.
func Compile(source string, data []byte, facts cloudconfig.Facts, more Formats) (cloudconfig.Kind, plan.Plan, plan.Report) {
	var report plan.Report
	data, err := cloudconfig.Gunzip(data)
	if err != nil {
		report.Add(plan.Position{}, plan.Error, "%v", err)
		return cloudconfig.KindUnknown, plan.Plan{}, report
	}
	kind := cloudconfig.Detect(data)
	var compiled plan.Plan
	switch compiler := more[kind]; {
	case compiler != nil:
		compiled, report = compiler(data, facts)
	case kind == cloudconfig.KindCloudConfig:
		doc := cloudconfig.Parse(cloudconfig.Substitute(data, facts.Metadata.Addresses))
		compiled = cloudconfig.Compile(doc.Config, facts)
		report = Messages(doc, compiled)
	case kind == cloudconfig.KindMultipart:
		compiled, report = Multipart(data, facts)
	case kind == cloudconfig.KindScript:
		compiled = cloudconfig.CompileScript(cloudconfig.Substitute(data, facts.Metadata.Addresses), facts)
	case kind == cloudconfig.KindEmpty:
		report.Add(plan.Position{}, plan.Warning, "the document is empty")
	case kind == cloudconfig.KindUnknown:
		report.Add(plan.Position{Line: 1}, plan.Error, "must be \"#cloud-config\" or begin with \"#!\": %s", cloudconfig.UnknownHint(data))
	default:
		report.Add(plan.Position{Line: 1}, plan.Error, "this program does not read documents of the kind %s", kind)
	}
	return kind, compiled.From(source), append(report, checkFiles(compiled)...).Sorted()
}

// Multipart makes a plan of all parts of a message: its cloud-configs apply as
// one, its scripts after them, each in the message's order.
func Multipart(data []byte, facts cloudconfig.Facts) (plan.Plan, plan.Report) {
	parts, report := multipart.Parts(data)
	var configs []cloudconfig.Config
	var scripts []plan.Step
	for _, part := range parts {
		text := cloudconfig.Substitute(part.Data, facts.Metadata.Addresses)
		if part.Kind == cloudconfig.KindScript {
			origin := plan.Origin{Position: plan.Position{Line: part.Line}}
			scripts = append(scripts, plan.Step{Action: plan.RunScript{Content: text}, Reason: part.Name + " is a script", Origin: origin})
			continue
		}
		doc := cloudconfig.Parse(text)
		configs = append(configs, doc.Config.Move(part.Line))
		for _, problem := range Messages(doc, plan.Plan{}) {
			report = append(report, inPart(problem, part))
		}
	}
	compiled := cloudconfig.Compile(cloudconfig.Merge(configs...), facts)
	compiled.Steps = append(compiled.Steps, scripts...)
	return compiled, append(report, compiled.Problems...).Sorted()
}

// inPart makes a message about a part one about the whole.
func inPart(problem plan.Problem, part multipart.Part) plan.Problem {
	switch {
	case part.Line == 0 && problem.Line > 0:
		problem.Text = fmt.Sprintf("%s, line %d: %s", part.Name, problem.Line, problem.Text)
		problem.Position = plan.Position{}
	case problem.Line > 0:
		problem.Line += part.Line - 1
		fallthrough
	default:
		problem.Text = part.Name + ": " + problem.Text
	}
	return problem
}

// Texts returns the documents in user-data, as far as they can be read.
func Texts(data []byte) [][]byte {
	data, err := cloudconfig.Gunzip(data)
	if err != nil {
		return nil
	}
	if cloudconfig.Detect(data) != cloudconfig.KindMultipart {
		return [][]byte{data}
	}
	var texts [][]byte
	parts, _ := multipart.Parts(data)
	for _, part := range parts {
		texts = append(texts, part.Data)
	}
	return texts
}

// Messages returns what there is to say about a cloud-config. Where the plan
// says what became of a bad value, the validator's shorter word for it is left
// out.
func Messages(doc cloudconfig.Document, compiled plan.Plan) plan.Report {
	explained := map[int]bool{}
	for _, entry := range compiled.Problems {
		explained[entry.Line] = true
	}
	all := slices.DeleteFunc(slices.Concat(doc.Report, doc.Salvage), func(e plan.Problem) bool {
		return e.Severity == plan.Error && explained[e.Line]
	})
	return append(all, compiled.Problems...).Sorted()
}

package cloudconfig

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// maxParts bounds the characters that can begin a key, a value or a list entry.
// The parser takes some 600 bytes for each, and a machine may have 1 GiB.
const maxParts = 1 << 20

// Document is what was read of a #cloud-config.
type Document struct {
	Config Config
	// Report holds the messages that validation gives.
	Report plan.Report
	// Salvage holds, after a YAML syntax error, what was left out and the
	// messages about what was kept.
	Salvage plan.Report
}

// Parse reads a #cloud-config. It never fails: what can not be read is in the
// report, and what can is in the Config.
func Parse(data []byte) Document {
	var doc Document
	if countParts(data) > maxParts {
		doc.Report.Add(plan.Position{}, plan.Error, "the document has too many parts to be read (more than %d lines, commas, colons and brackets)", maxParts)
		return doc
	}
	root, more, err := parseYAML(data)
	if err != nil {
		line, text := syntaxError(err)
		doc.Report.Add(plan.Position{Line: line}, plan.Error, "%s", text)
		doc.Report.AddFormal(plan.Position{}, plan.Warning, "incorrect type for %q (want struct)", "")
		root, doc.Salvage = salvage(data, line)
	}
	if more {
		doc.Report.Add(plan.Position{}, plan.Warning, "only the first YAML document is read, there are more after it")
	}
	if root == nil {
		return doc
	}
	var d decoder
	d.decode(root, &doc.Config)
	checkRules(&doc.Config, &d.report)
	if err != nil {
		doc.Salvage = append(doc.Salvage, d.report...).Sorted()
		return doc
	}
	doc.Report = append(doc.Report, d.report...).Sorted()
	return doc
}

// Validate returns the messages about user-data of any kind, as the original's
// validator gives them.
func Validate(data []byte) plan.Report {
	var report plan.Report
	switch Detect(data) {
	case KindCloudConfig:
		return Parse(data).Report
	case KindUnknown:
		report.Add(plan.Position{Line: 1}, plan.Error, "must be \"#cloud-config\" or begin with \"#!\"")
	}
	return report
}

// parseYAML returns the first document's root, nil when it is empty, and
// whether more documents follow.
func parseYAML(data []byte) (root *yaml.Node, more bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			root, err = nil, fmt.Errorf("yaml: %v", r)
		}
	}()
	dec := yaml.NewDecoder(strings.NewReader(string(data)))
	var doc, next yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, false, nil
	case err != nil:
		return nil, false, err
	}
	more = !errors.Is(dec.Decode(&next), io.EOF)
	if doc.Kind != yaml.DocumentNode || len(doc.Content) == 0 {
		return nil, more, nil
	}
	if root := doc.Content[0]; root.ShortTag() != "!!null" {
		return root, more, nil
	}
	return nil, more, nil
}

func countParts(data []byte) (n int) {
	for _, c := range data {
		switch c {
		case '\n', ',', ':', '[', '{', '?', '-', '&', '*':
			n++
		}
	}
	return n
}

func syntaxError(err error) (line int, text string) {
	pattern := regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`)
	match := pattern.FindStringSubmatch(err.Error())
	if match == nil {
		return 1, err.Error()
	}
	if line, err = strconv.Atoi(match[1]); err != nil {
		line = 1
	}
	return line, match[2]
}

// checkRules reports what is wrong beyond the types.
func checkRules(c *Config, report *plan.Report) {
	etcd := c.CoreOS.Etcd
	if etcd.Discovery != "" {
		if _, err := url.ParseRequestURI(etcd.Discovery); err != nil {
			report.Add(etcd.Origin.At("discovery"), plan.Warning, "discovery URL is not valid")
		}
	}
	for _, f := range c.WriteFiles {
		if _, err := DecodeContent(f.Content, f.Encoding); err != nil {
			report.Add(f.Origin.At("content"), plan.Error, "content cannot be decoded as %q", f.Encoding)
		}
		if p := path.Clean(f.Path); p == "/usr" || strings.HasPrefix(p, "/usr/") {
			report.Add(f.Origin.At("path"), plan.Error, "file cannot be written to a read-only filesystem")
		}
	}
}

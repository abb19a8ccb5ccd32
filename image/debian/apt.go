package debian

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// aptRoot is a directory tree in which apt works as if for a machine of its own
// that has one suite as its only source and nothing installed.
type aptRoot struct {
	dir    string
	config string // path of its apt.conf
}

// aptRoot returns the apt root of the suite with a fresh index. With update it
// asks the mirror even if the index is young.
func (a *Archive) aptRoot(ctx context.Context, suite Suite, update bool) (*aptRoot, error) {
	host := a.HostApt
	if host == "" {
		host = "/etc/apt"
	}
	mains, securities, err := hostSources(host)
	if err != nil {
		return nil, err
	}
	root := &aptRoot{dir: filepath.Join(a.CacheDir, "apt", suite.Name)}
	root.config = filepath.Join(root.dir, "apt.conf")
	var failures []error
	for _, candidate := range mains {
		list, missing := sourcesList(suite, candidate, securities)
		fresh, err := root.prepare(ctx, host, list)
		if err != nil {
			return nil, err
		}
		stamp := filepath.Join(root.dir, "updated")
		if info, err := os.Stat(stamp); fresh && !update && err == nil && a.Now().Sub(info.ModTime()) < a.MaxAge {
			return root, nil
		}
		_, err = root.run(ctx, root.dir, "apt-get", "-q", "update", "-o", "APT::Update::Error-Mode=any")
		if err == nil {
			err = root.checkOrigin(suite)
		}
		if err != nil {
			if _, statErr := os.Stat(stamp); fresh && statErr == nil {
				a.note("the index of %s cannot be refreshed, the one from before is used: %v", suite.Name, err)
				return root, nil
			}
			failures = append(failures, err)
			continue
		}
		for _, name := range missing {
			a.note("the host's apt configuration has no security archive, so %s is not used", name)
		}
		if err := os.WriteFile(stamp, nil, 0o644); err != nil {
			return nil, err
		}
		now := a.Now()
		return root, os.Chtimes(stamp, now, now)
	}
	return nil, fmt.Errorf("get the index of suite %s: %w", suite.Name, errors.Join(failures...))
}

// sourcesList returns the text of sources.list for suite and the suites that
// the host has no address for.
func sourcesList(suite Suite, mainArchive source, securities []source) (text string, missing []string) {
	var b strings.Builder
	line := func(s source, name string) {
		options := "arch=amd64"
		if s.signedBy != "" {
			options += " signed-by=" + s.signedBy
		}
		fmt.Fprintf(&b, "deb [%s] %s %s main\n", options, s.uri, name)
	}
	for _, name := range append([]string{suite.Name}, suite.With...) {
		switch {
		case !strings.HasSuffix(name, "-security"):
			line(mainArchive, name)
		case len(securities) > 0:
			line(securities[0], name)
		default:
			missing = append(missing, name)
		}
	}
	return b.String(), missing
}

// prepare writes the root's configuration. It reports false when an index that
// is there belongs to another configuration.
func (r *aptRoot) prepare(ctx context.Context, host, list string) (same bool, err error) {
	for _, sub := range []string{"state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(r.dir, sub), 0o755); err != nil {
			return false, fmt.Errorf("make apt root: %w", err)
		}
	}
	listPath := filepath.Join(r.dir, "sources.list")
	old, err := os.ReadFile(listPath)
	same = err == nil && string(old) == list
	if same {
		return true, nil
	}
	network, err := run(ctx, r.dir, nil, "apt-config", "dump", "Acquire")
	if err != nil {
		return false, err
	}
	if err := os.WriteFile(r.config, []byte(r.aptConf(host, network)), 0o644); err != nil {
		return false, err
	}
	if err := os.WriteFile(filepath.Join(r.dir, "status"), nil, 0o644); err != nil {
		return false, err
	}
	if err := os.Remove(filepath.Join(r.dir, "updated")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	return false, os.WriteFile(listPath, []byte(list), 0o644)
}

// aptConf returns the configuration: how the host reaches the network (proxy,
// retries, what its clock allows), and nothing else of the host's.
func (r *aptRoot) aptConf(host, network string) string {
	var b strings.Builder
	for line := range strings.Lines(network) {
		if strings.HasPrefix(line, "Acquire::IndexTargets") || strings.HasPrefix(line, "Acquire::Languages") ||
			strings.HasPrefix(line, "Acquire::GzipIndexes") {
			continue
		}
		b.WriteString(line)
	}
	for _, pair := range [][2]string{
		{"Dir::State", r.dir + "/state"},
		{"Dir::State::status", r.dir + "/status"},
		{"Dir::Cache", r.dir + "/cache"},
		{"Dir::Etc::Main", "/dev/null"},
		{"Dir::Etc::Parts", "/dev/null"},
		{"Dir::Etc::SourceList", r.dir + "/sources.list"},
		{"Dir::Etc::SourceParts", "/dev/null"},
		{"Dir::Etc::Preferences", "/dev/null"},
		{"Dir::Etc::PreferencesParts", "/dev/null"},
		{"Dir::Etc::Trusted", host + "/trusted.gpg"},
		{"Dir::Etc::TrustedParts", host + "/trusted.gpg.d"},
		{"APT::Architecture", "amd64"},
		{"APT::Install-Recommends", "false"},
		{"APT::Sandbox::User", ""},
		{"Acquire::Languages", "none"},
		{"Acquire::Retries", "3"},
	} {
		fmt.Fprintf(&b, "%s %q;\n", pair[0], pair[1])
	}
	b.WriteString("#clear APT::Architectures;\nAPT::Architectures { \"amd64\"; };\n")
	return b.String()
}

// checkOrigin makes sure that the index is Debian's and of the wanted suite.
func (r *aptRoot) checkOrigin(suite Suite) error {
	files, err := filepath.Glob(filepath.Join(r.dir, "state/lists/*Release"))
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read index: %w", err)
		}
		if !strings.Contains(string(text), "\nOrigin: Debian\n") && !strings.HasPrefix(string(text), "Origin: Debian\n") {
			return fmt.Errorf("the archive behind %q is not Debian's (its Origin is another)", filepath.Base(file))
		}
	}
	if len(files) == 0 {
		return fmt.Errorf("apt-get update left no index for suite %s", suite.Name)
	}
	return nil
}

func (r *aptRoot) run(ctx context.Context, dir, name string, args ...string) (string, error) {
	return run(ctx, dir, []string{"APT_CONFIG=" + r.config}, name, args...)
}

package pid1_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// unitCase is one line of cases.jsonl: files to write, then steps.
type unitCase struct {
	Name    string
	Files   map[string]json.RawMessage
	Steps   []caseStep
	Cleanup []string
}

// caseStep is one step; which fields count depends on Do. A job verb of
// systemctl is a step too.
type caseStep struct {
	Do      string
	Unit    string
	Units   []string
	Args    []string
	RC      *int
	NoWait  bool
	Err     string
	Props   map[string]string
	Timeout float64
	ID      string
	Expect  json.RawMessage
	Set     bool
	Argv    [][]string
	Path    string
	Content *string
	Exists  *bool
	Link    *string
	Match   json.RawMessage
	NoMatch []string
	Mode    string
	Sec     float64
	Cmd     string
	Out     *string
}

// runCases runs in the box: every case, results to dir, then power off.
func runCases(dir string) int {
	f, err := os.Open(filepath.Join(dir, "cases.jsonl"))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer f.Close()
	results := []outcome{}
	in := bufio.NewScanner(f)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var c unitCase
		r := outcome{}
		begun := time.Now()
		if err := json.Unmarshal(in.Bytes(), &c); err != nil {
			r.Err = err.Error()
		} else if err := c.run(dir); err != nil {
			r.Err = err.Error()
		}
		r.Name, r.Millis = c.Name, time.Since(begun).Milliseconds()
		results = append(results, r)
	}
	b, err := json.Marshal(results)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "result.json"), b, 0o644)
	}
	if err != nil {
		fmt.Println(err)
	}
	command(5*time.Second, "systemctl", "poweroff")
	return 0
}

// command runs a program and returns its exit status and output.
func command(limit time.Duration, args ...string) (int, string) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	var e *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return 124, "timeout: " + string(out)
	case errors.As(err, &e):
		return e.ExitCode(), string(out)
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		return 127, err.Error()
	}
	return 0, string(out)
}

func (c unitCase) run(dir string) error {
	os.RemoveAll("/tmp/t")
	os.Mkdir("/tmp/t", 0o777)
	os.Chmod("/tmp/t", 0o777|fs.ModeSticky)
	probe, err := os.ReadFile(filepath.Join(dir, "probe"))
	if err == nil {
		err = os.WriteFile("/tmp/t/probe", probe, 0o755)
	}
	if err != nil {
		return err
	}
	before := unitFiles()
	begun := time.Now()
	for path, text := range c.Files {
		if err := put(path, text); err != nil {
			return err
		}
	}
	command(30*time.Second, "systemctl", "daemon-reload")
	var failed error
	for i, s := range c.Steps {
		if err := s.run(begun); err != nil {
			failed = fmt.Errorf("step %d (%s): %w", i, s.Do, err)
			break
		}
	}
	c.clean(before)
	return failed
}

// unitFiles lists all files where units are written.
func unitFiles() []string {
	var list []string
	for _, root := range []string{"/etc/systemd/system", "/run/systemd/system"} {
		filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
			if err == nil {
				list = append(list, p)
			}
			return nil
		})
	}
	return list
}

// clean stops what the case may have left and removes its files.
func (c unitCase) clean(before []string) {
	names := slices.Clone(c.Cleanup)
	kind := regexp.MustCompile(`\.(service|socket|timer|path|mount|automount|target|slice)$`)
	for p := range c.Files {
		if b := filepath.Base(p); kind.MatchString(b) && !strings.Contains(b, "@.") {
			names = append(names, b)
		}
	}
	for _, s := range c.Steps {
		if s.Unit != "" && slices.Contains([]string{"start", "restart", "reload-or-restart"}, s.Do) {
			names = append(names, s.Unit)
		}
		names = append(names, s.Units...)
	}
	slices.SortStableFunc(names, func(a, b string) int { // what starts others goes first
		return strings.Compare(strconv.FormatBool(strings.HasSuffix(a, ".service")), strconv.FormatBool(strings.HasSuffix(b, ".service")))
	})
	if len(names) > 0 {
		for _, verb := range [][]string{{"kill", "-s", "KILL"}, {"stop"}, {"kill", "-s", "KILL"}} {
			command(15*time.Second, append(append([]string{"systemctl"}, verb...), names...)...)
		}
		command(10*time.Second, "systemctl", "reset-failed")
	}
	for p := range c.Files {
		os.RemoveAll(p)
	}
	for _, p := range unitFiles() {
		if !slices.Contains(before, p) {
			os.RemoveAll(p)
		}
	}
	command(30*time.Second, "systemctl", "daemon-reload")
}

// put writes one file of a case: a text, or an object with a link, a
// directory or a mode.
func put(path string, raw json.RawMessage) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return os.WriteFile(path, []byte(text), 0o644)
	}
	var o struct {
		Link, Mode, Content string
		Dir                 bool
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		return err
	}
	switch {
	case o.Link != "":
		os.Remove(path)
		return os.Symlink(o.Link, path)
	case o.Dir:
		return os.MkdirAll(path, 0o755)
	}
	mode, err := strconv.ParseUint(o.Mode, 8, 32)
	if err != nil {
		mode = 0o644
	}
	if err := os.WriteFile(path, []byte(o.Content), 0o644); err != nil {
		return err
	}
	return os.Chmod(path, fs.FileMode(mode))
}

func (s caseStep) run(begun time.Time) error {
	switch s.Do {
	case "sleep":
		time.Sleep(seconds(s.Sec))
		return nil
	case "sh":
		return s.shell()
	case "kill-all": // but process 1, and this one, which the kernel leaves out
		return unix.Kill(-1, unix.SIGKILL)
	case "show":
		return s.show()
	case "wait":
		return until(max(s.Timeout, 15), s.show)
	case "log":
		return until(s.Timeout, s.log)
	case "rec":
		return s.record()
	case "file":
		return s.file()
	case "journal":
		return until(3, func() error { return s.journal(begun) })
	}
	args := []string{"systemctl", s.Do}
	if s.NoWait {
		args = append(args, "--no-block")
	}
	args = append(args, s.Args...)
	if s.Unit != "" {
		args = append(args, s.Unit)
	}
	args = append(args, s.Units...)
	want := 0
	if s.RC != nil {
		want = *s.RC
	}
	rc, out := command(60*time.Second, args...)
	if rc != want {
		return fmt.Errorf("%v ended with %d, want %d: %s", args, rc, want, out)
	}
	if s.Err != "" && !regexp.MustCompile(s.Err).MatchString(out) {
		return fmt.Errorf("%v said %q, want /%s/", args, out, s.Err)
	}
	return nil
}

func seconds(f float64) time.Duration { return time.Duration(f * float64(time.Second)) }

// until repeats a check until it holds or the time is over.
func until(limit float64, check func() error) error {
	for end := time.Now().Add(seconds(limit)); ; time.Sleep(50 * time.Millisecond) {
		err := check()
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

func (s caseStep) shell() error {
	rc, out := command(60*time.Second, "/bin/sh", "-c", s.Cmd)
	if s.RC != nil && rc != *s.RC {
		return fmt.Errorf("%s: ended with %d, want %d: %s", s.Cmd, rc, *s.RC, out)
	}
	if s.Out != nil && strings.TrimSpace(out) != *s.Out {
		return fmt.Errorf("%s: wrote %q, want %q", s.Cmd, out, *s.Out)
	}
	return nil
}

func (s caseStep) show() error {
	args := []string{"systemctl", "show", s.Unit}
	for p := range s.Props {
		args = append(args, "-p", p)
	}
	_, out := command(30*time.Second, args...)
	got := map[string]string{}
	for line := range strings.Lines(out) {
		k, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if _, ok := s.Props[k]; ok {
			got[k] = v
		}
	}
	if !reflect.DeepEqual(got, s.Props) {
		return fmt.Errorf("%s has %v, want %v", s.Unit, got, s.Props)
	}
	return nil
}

func (s caseStep) log() error {
	want := []string{}
	if err := json.Unmarshal(s.Expect, &want); err != nil {
		return err
	}
	b, _ := os.ReadFile("/tmp/t/" + s.ID + ".log")
	got := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if len(b) == 0 {
		got = []string{}
	}
	if s.Set {
		slices.Sort(got)
		slices.Sort(want)
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("log %s is %q, want %q", s.ID, got, want)
	}
	return nil
}

func (s caseStep) record() error {
	b, _ := os.ReadFile("/tmp/t/" + s.ID + ".json")
	var records []map[string]any
	for line := range strings.Lines(string(b)) {
		var r map[string]any
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			return err
		}
		records = append(records, r)
	}
	if s.Argv != nil {
		got := [][]string{}
		for _, r := range records {
			words := []string{}
			for _, w := range r["argv"].([]any) {
				words = append(words, w.(string))
			}
			got = append(got, words)
		}
		if !reflect.DeepEqual(got, s.Argv) {
			return fmt.Errorf("arguments are %q, want %q", got, s.Argv)
		}
	}
	if s.Expect == nil {
		return nil
	}
	want := map[string]any{}
	if err := json.Unmarshal(s.Expect, &want); err != nil || len(records) == 0 {
		return fmt.Errorf("no record of %s (%v)", s.ID, err)
	}
	last := records[len(records)-1]
	env, _ := last["env"].(map[string]any)
	for k, v := range want {
		if k != "env" {
			if !reflect.DeepEqual(last[k], v) {
				return fmt.Errorf("%s is %v, want %v", k, last[k], v)
			}
			continue
		}
		for name, w := range v.(map[string]any) {
			if !reflect.DeepEqual(env[name], w) {
				return fmt.Errorf("$%s is %v, want %v", name, env[name], w)
			}
		}
	}
	return nil
}

func (s caseStep) file() error {
	info, err := os.Lstat(s.Path)
	if s.Exists != nil && (err == nil) != *s.Exists {
		return fmt.Errorf("%s exists: %v, want %v", s.Path, err == nil, *s.Exists)
	}
	if s.Link != nil {
		if to, err := os.Readlink(s.Path); err != nil || to != *s.Link {
			return fmt.Errorf("%s leads to %q, want %q", s.Path, to, *s.Link)
		}
	}
	b, _ := os.ReadFile(s.Path)
	if s.Content != nil && string(b) != *s.Content {
		return fmt.Errorf("%s has %q, want %q", s.Path, b, *s.Content)
	}
	var match string
	if json.Unmarshal(s.Match, &match) == nil && !regexp.MustCompile("(?m)"+match).Match(b) {
		return fmt.Errorf("%s has %q, want /%s/", s.Path, b, match)
	}
	if s.Mode != "" {
		if err != nil {
			return err
		}
		mode := uint32(info.Mode().Perm())
		if info.Mode()&fs.ModeSticky != 0 {
			mode |= 0o1000
		}
		if got := fmt.Sprintf("%04o", mode); got != s.Mode {
			return fmt.Errorf("mode of %s is %s, want %s", s.Path, got, s.Mode)
		}
	}
	return nil
}

func (s caseStep) journal(begun time.Time) error {
	var match []string
	if s.Match != nil {
		if err := json.Unmarshal(s.Match, &match); err != nil {
			return err
		}
	}
	_, out := command(30*time.Second, "journalctl", "-b", "-o", "cat", "--since", "@"+strconv.FormatInt(begun.Unix(), 10), "--no-pager")
	for _, m := range match {
		if !regexp.MustCompile(m).MatchString(out) {
			return fmt.Errorf("no /%s/ in the journal", m)
		}
	}
	for _, m := range s.NoMatch {
		if regexp.MustCompile(m).MatchString(out) {
			return fmt.Errorf("/%s/ is in the journal", m)
		}
	}
	return nil
}

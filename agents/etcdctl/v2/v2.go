// Package v2 is etcdctl in the syntax of etcd 2, for scripts of that time: the
// verbs of keys and directories, watches, members and health, with that
// program's words, formats and exit codes. The library is etcd's own client of
// the API v2; etcd 3.7 has no such commands any more.
//
// user, role and auth change version 3's users and roles, which both versions
// share. Unlike etcdctl 3.4's, --roles a,b names two roles, as etcd 2's manual
// has it.
//
// Left out on purpose: backup, since there are no files of etcd 2 any more, and
// import, of files of etcd 0.4, which etcdctl lost in 2.3; they name the
// commands that take their places.
package v2

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coracle-os/coracle/agents/kv/pki"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/spf13/pflag"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/v2"
)

// Exit codes of etcdctl 2.
const (
	exitArgs       = 1
	exitConnection = 2
	exitAuth       = 3
	exitRefused    = 4 // etcd's answer is 4xx
	exitCluster    = 5 // 5xx, or not healthy
)

// exit ends the program with a code and a message.
type exit struct {
	code int
	err  error
}

func (e exit) Error() string { return e.err.Error() }
func (e exit) Unwrap() error { return e.err }

func usage(format string, args ...any) error {
	return exit{exitArgs, fmt.Errorf(format, args...)}
}

// ctl is one call of the program.
type ctl struct {
	program.Stdio
	environ func(string) string

	endpoints, peers, endpoint string
	output, user               string
	caFile, certFile, keyFile  string
	noSync                     bool
	timeout, total             time.Duration

	client    client.Client
	keys      client.KeysAPI
	transport *http.Transport
}

// verb is one command. Its flags are added to f and read by run.
type verb struct {
	args    string // for the usage line
	endless bool   // it does not end by --total-timeout
	flags   func(f *pflag.FlagSet)
	run     func(ctx context.Context, c *ctl, f *pflag.FlagSet) error
}

func verbs() map[string]verb {
	return map[string]verb{
		"set":            {"KEY [VALUE]", false, setFlags, set},
		"get":            {"KEY", false, getFlags, get},
		"mk":             {"KEY [VALUE]", false, mkFlags, mk},
		"mkdir":          {"DIRECTORY", false, ttlFlag, directory(client.PrevNoExist)},
		"setdir":         {"DIRECTORY", false, ttlFlag, directory(client.PrevIgnore)},
		"updatedir":      {"DIRECTORY", false, ttlFlag, directory(client.PrevExist)},
		"update":         {"KEY [VALUE]", false, ttlFlag, update},
		"ls":             {"[DIRECTORY]", false, lsFlags, ls},
		"rm":             {"KEY", false, rmFlags, rm},
		"rmdir":          {"DIRECTORY", false, nil, rmdir},
		"watch":          {"KEY", true, watchFlags, watch},
		"exec-watch":     {"KEY -- COMMAND [ARGUMENT...]", true, watchFlags, execWatch},
		"member":         {"list | add NAME URL | remove ID | update ID URLS", false, nil, members},
		"cluster-health": {"", false, func(f *pflag.FlagSet) { f.BoolP("forever", "f", false, "check every 10 seconds") }, clusterHealth},
		"user":           {"list | add NAME[:PASSWORD] | get NAME | remove NAME | passwd NAME | grant NAME --roles R,S | revoke NAME --roles R,S", false, userFlags, actions("username", users())},
		"role":           {"list | add NAME | get NAME | remove NAME | grant NAME --path P --read|--write|--rw | revoke NAME ...", false, roleFlags, actions("role name", roles())},
		"auth":           {"enable | disable", false, nil, actions("", authActions())},
	}
}

// gone are commands that have no sense any more, and what to do instead.
var gone = map[string]string{
	"backup": "the store has no files of etcd 2; use ETCDCTL_API=3 etcdctl snapshot save FILE, and etcdutl snapshot restore FILE to go back to it",
	"import": "no snapshots of etcd 0.4 can be read; take the keys out of the old cluster with ls -r and get, and set them here",
}

// Mine says whether a command line is in the syntax of etcd 2: ETCDCTL_API says
// so, the verb or a global flag is only known there.
func Mine(args []string, api string) bool {
	if api != "" {
		return api == "2"
	}
	only := []string{"set", "mk", "mkdir", "setdir", "updatedir", "update", "ls", "rm", "rmdir", "exec-watch", "cluster-health", "backup", "import"}
	global := []string{"--peers", "-C", "--endpoint", "--no-sync", "--ca-file", "--cert-file", "--key-file", "--total-timeout"}
	for i, word := range args {
		name, _, _ := strings.Cut(word, "=")
		switch {
		case word == "--":
			return false
		case slices.Contains(global, name):
			return true
		case strings.HasPrefix(word, "-"):
		case slices.Contains(only, word):
			return true
		case word == "user" || word == "role":
			return len(args) > i+1 && slices.Contains([]string{"remove", "grant", "revoke"}, args[i+1])
		case i > 0 && strings.HasPrefix(args[i-1], "-") && !strings.Contains(args[i-1], "="): // perhaps a flag's value
		default:
			return false
		}
	}
	return false
}

// Main runs the command line args, without the program's name.
func Main(ctx context.Context, args []string, environ func(string) string, stdio program.Stdio) int {
	c := &ctl{Stdio: stdio, environ: environ}
	err := c.run(ctx, args)
	if err == nil {
		return 0
	}
	code, text := describe(err)
	if text != "" { // what there was to say was said
		fmt.Fprintln(stdio.Err, "Error: ", text)
	}
	return code
}

// describe turns an error into etcdctl's exit code and words.
func describe(err error) (code int, text string) {
	var e exit
	var answer client.Error
	var cluster *client.ClusterError
	switch {
	case errors.As(err, &e):
		return e.code, e.Error()
	case errors.As(err, &answer):
		if answer.Code >= 300 && answer.Code < 400 {
			return exitCluster, answer.Error()
		}
		return exitRefused, answer.Error()
	case errors.As(err, &cluster):
		return exitConnection, cluster.Detail()
	}
	return exitConnection, err.Error()
}

func (c *ctl) globalFlags() *pflag.FlagSet {
	f := pflag.NewFlagSet("etcdctl", pflag.ContinueOnError)
	f.SetInterspersed(false)
	f.SetOutput(c.Err)
	f.StringVar(&c.endpoints, "endpoints", "", "addresses of members, with commas between")
	f.StringVar(&c.endpoint, "endpoint", "", "older word for --endpoints")
	f.StringVarP(&c.peers, "peers", "C", "", "older word for --endpoints")
	f.StringVarP(&c.output, "output", "o", "simple", "simple, extended or json")
	f.StringVarP(&c.user, "username", "u", "", "user:password")
	f.StringVar(&c.caFile, "ca-file", c.environ("ETCDCTL_CA_FILE"), "certificates of authorities")
	f.StringVar(&c.certFile, "cert-file", c.environ("ETCDCTL_CERT_FILE"), "own certificate")
	f.StringVar(&c.keyFile, "key-file", c.environ("ETCDCTL_KEY_FILE"), "its key")
	f.BoolVar(&c.noSync, "no-sync", false, "do not ask for the members' addresses first")
	f.Bool("debug", false, "accepted; there is nothing more to show")
	f.DurationVar(&c.timeout, "timeout", 2*time.Second, "of one connection")
	f.DurationVar(&c.total, "total-timeout", 5*time.Second, "of the command, except watches")
	return f
}

func (c *ctl) run(ctx context.Context, args []string) error {
	global := c.globalFlags()
	if err := global.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil
		}
		return usage("%w", err)
	}
	if global.NArg() == 0 {
		c.help(global)
		return nil
	}
	if !slices.Contains([]string{"simple", "extended", "json"}, c.output) {
		return usage("unknown output format %q: use simple, extended or json", c.output)
	}
	name := global.Arg(0)
	if instead := gone[name]; instead != "" {
		return usage("%s: %s", name, instead)
	}
	v, ok := verbs()[name]
	if !ok {
		fmt.Fprintf(c.Out, "No help topic for '%s'\n", name)
		return nil
	}
	f := pflag.NewFlagSet("etcdctl "+name, pflag.ContinueOnError)
	f.SetOutput(c.Err)
	f.Usage = func() {
		fmt.Fprintf(c.Err, "Usage: etcdctl %s [FLAG...] %s\n%s", name, v.args, f.FlagUsages())
	}
	if v.flags != nil {
		v.flags(f)
	}
	if err := f.Parse(global.Args()[1:]); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil
		}
		return usage("%w", err)
	}
	if !v.endless {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.total)
		defer cancel()
	}
	if err := c.connect(ctx); err != nil {
		return err
	}
	return v.run(ctx, c, f)
}

func (c *ctl) help(global *pflag.FlagSet) {
	fmt.Fprintf(c.Out, "etcdctl [GLOBAL FLAG...] COMMAND [FLAG...] [ARGUMENT...], as of etcd 2\n\nCommands:\n")
	all := verbs()
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(c.Out, "  %-15s %s\n", name, all[name].args)
	}
	fmt.Fprintf(c.Out, "\nGlobal flags:\n%s\nWith ETCDCTL_API=3 the commands are those of etcd 3.\n", global.FlagUsages())
}

// connect makes the client, without asking anybody yet but for the members.
func (c *ctl) connect(ctx context.Context) error {
	scheme := "http"
	if own := pki.In(pki.Local); c.caFile == "" && c.certFile == "" && own.Readable() {
		c.caFile, c.certFile, c.keyFile, scheme = own.Authority, own.Certificate, own.Key, "https"
	}
	tlsConfig := &tls.Config{}
	if c.caFile != "" || c.certFile != "" {
		var err error
		info := transport.TLSInfo{TrustedCAFile: c.caFile, CertFile: c.certFile, KeyFile: c.keyFile}
		if tlsConfig, err = info.ClientConfig(); err != nil {
			return exit{exitAuth, err}
		}
	}
	list := first(c.endpoints, c.endpoint, c.peers, c.environ("ETCDCTL_ENDPOINTS"), c.environ("ETCDCTL_ENDPOINT"), c.environ("ETCDCTL_PEERS"),
		scheme+"://127.0.0.1:2379,"+scheme+"://127.0.0.1:4001")
	var addresses []string
	for a := range strings.SplitSeq(list, ",") {
		if a = strings.TrimSpace(a); !strings.Contains(a, "://") {
			a = scheme + "://" + a
		}
		addresses = append(addresses, a)
	}
	user, password, given := strings.Cut(c.user, ":")
	if user != "" && !given {
		var err error
		if password, err = c.password("Password: "); err != nil {
			return usage("read the password: %w", err)
		}
	}
	dial := &net.Dialer{Timeout: c.timeout}
	c.transport = &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: dial.DialContext, TLSClientConfig: tlsConfig}
	var err error
	c.client, err = client.New(client.Config{Endpoints: addresses, Username: user, Password: password, HeaderTimeoutPerRequest: c.total,
		Transport: c.transport})
	if err != nil {
		return exit{exitArgs, err}
	}
	c.keys = client.NewKeysAPI(c.client)
	if c.noSync {
		return nil
	}
	if err := c.client.Sync(ctx); err != nil && !errors.Is(err, client.ErrNoEndpoints) {
		return err
	}
	return nil
}

// http gets a URL that is not of the API.
func (c *ctl) http(ctx context.Context, address string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	response, err := (&http.Client{Transport: c.transport}).Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return io.ReadAll(response.Body)
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// show prints the answer about a key.
func (c *ctl) show(r *client.Response) {
	switch c.output {
	case "json":
		b, err := json.Marshal(r)
		if err == nil {
			fmt.Fprintln(c.Out, string(b))
		}
	case "extended":
		fmt.Fprintf(c.Out, "Key: %s\nCreated-Index: %d\nModified-Index: %d\n", r.Node.Key, r.Node.CreatedIndex, r.Node.ModifiedIndex)
		if r.PrevNode != nil {
			fmt.Fprintf(c.Out, "PrevNode.Value: %s\n", r.PrevNode.Value)
		}
		fmt.Fprintf(c.Out, "TTL: %d\nIndex: %d\n", r.Node.TTL, r.Index)
		if r.Action != "delete" {
			fmt.Fprintf(c.Out, "\n%s\n", r.Node.Value)
		}
	default:
		if r.Action == "delete" {
			fmt.Fprintf(c.Out, "PrevNode.Value: %s\n", r.PrevNode.Value)
			return
		}
		fmt.Fprintln(c.Out, r.Node.Value)
	}
}

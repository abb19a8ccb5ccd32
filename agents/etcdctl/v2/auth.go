package v2

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/client/v2"
	"golang.org/x/term"
)

// refuse says why in plain words, as commands about users always did.
func (c *ctl) refuse(format string, args ...any) error {
	fmt.Fprintf(c.Err, format+"\n", args...)
	return exit{exitArgs, errors.New("")}
}

// action is what follows user, role or auth on a command line.
type action struct {
	lonely bool // it has no argument
	run    func(ctx context.Context, c *ctl, f *pflag.FlagSet, name string) error
}

// actions makes a command of them. Their argument is what.
func actions(what string, all map[string]action) func(context.Context, *ctl, *pflag.FlagSet) error {
	return func(ctx context.Context, c *ctl, f *pflag.FlagSet) error {
		if f.NArg() == 0 {
			f.Usage()
			return nil
		}
		a, ok := all[f.Arg(0)]
		switch {
		case !ok:
			fmt.Fprintf(c.Err, "No help topic for '%s'\n", f.Arg(0))
			return exit{exitAuth, errors.New("")} // as etcdctl 2 does
		case a.lonely && f.NArg() > 1:
			return c.refuse("No arguments accepted")
		case !a.lonely && f.NArg() != 2:
			return c.refuse("Please provide a %s", what)
		}
		return a.run(ctx, c, f, f.Arg(1))
	}
}

// password asks for one. What is typed is not shown.
func (c *ctl) password(prompt string) (string, error) {
	fmt.Fprint(c.Out, prompt)
	defer fmt.Fprintln(c.Out)
	if file, ok := c.In.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		b, err := term.ReadPassword(int(file.Fd()))
		return string(b), err
	}
	line, err := bufio.NewReader(c.In).ReadString('\n')
	if err != nil && line == "" {
		return "", nil // no password, which the server does not take
	}
	return strings.TrimRight(line, "\r\n"), nil
}

func (c *ctl) lines(list []string) {
	for _, text := range list {
		fmt.Fprintln(c.Out, text)
	}
}

// done says that something has been done, or why not.
func (c *ctl) done(err error, format string, args ...any) error {
	if err != nil {
		return c.refuse("%v", err)
	}
	fmt.Fprintf(c.Out, format+"\n", args...)
	return nil
}

func userFlags(f *pflag.FlagSet) {
	f.StringSlice("roles", nil, "roles to grant or revoke, with commas between")
}

func users() map[string]action {
	return map[string]action{
		"list": {true, func(ctx context.Context, c *ctl, _ *pflag.FlagSet, _ string) error {
			names, err := client.NewAuthUserAPI(c.client).ListUsers(ctx)
			if err != nil {
				return c.refuse("%v", err)
			}
			c.lines(names)
			return nil
		}},
		"add":    {false, addUser},
		"get":    {false, showUser},
		"passwd": {false, changePassword},
		"remove": {false, func(ctx context.Context, c *ctl, _ *pflag.FlagSet, name string) error {
			return c.done(client.NewAuthUserAPI(c.client).RemoveUser(ctx, name), "User %s removed", name)
		}},
		"grant":  {false, changeRoles(client.AuthUserAPI.GrantUser)},
		"revoke": {false, changeRoles(client.AuthUserAPI.RevokeUser)},
	}
}

// addUser takes NAME or NAME:PASSWORD. A password of somebody who is there
// already is a new one, as ever.
func addUser(ctx context.Context, c *ctl, _ *pflag.FlagSet, argument string) error {
	name, password, given := strings.Cut(argument, ":")
	if !given {
		var err error
		if password, err = c.password("New password: "); err != nil {
			return c.refuse("read the password: %v", err)
		}
	}
	return c.done(client.NewAuthUserAPI(c.client).AddUser(ctx, name, password), "User %s created", name)
}

func showUser(ctx context.Context, c *ctl, _ *pflag.FlagSet, name string) error {
	u, err := client.NewAuthUserAPI(c.client).GetUser(ctx, name)
	if err != nil {
		return c.refuse("%v", err)
	}
	// The library puts an empty name before each role's. What looks for two
	// spaces finds them.
	fmt.Fprintf(c.Out, "User: %s\nRoles: %s\n", u.User, strings.Join(u.Roles, " "))
	return nil
}

func changePassword(ctx context.Context, c *ctl, _ *pflag.FlagSet, name string) error {
	password, err := c.password("New password: ")
	if err != nil {
		return c.refuse("read the password: %v", err)
	}
	_, err = client.NewAuthUserAPI(c.client).ChangePassword(ctx, name, password)
	return c.done(err, "Password updated")
}

func changeRoles(change func(client.AuthUserAPI, context.Context, string, []string) (*client.User, error)) func(context.Context, *ctl, *pflag.FlagSet, string) error {
	return func(ctx context.Context, c *ctl, f *pflag.FlagSet, name string) error {
		roles, _ := f.GetStringSlice("roles")
		if len(roles) == 0 {
			return c.refuse("No roles specified; please use `--roles`")
		}
		_, err := change(client.NewAuthUserAPI(c.client), ctx, name, roles)
		return c.done(err, "User %s updated", name)
	}
}

func roleFlags(f *pflag.FlagSet) {
	f.String("path", "", "a key, or with * behind it all keys that begin so")
	f.Bool("read", false, "for reading only")
	f.Bool("write", false, "for writing only")
	f.Bool("readwrite", false, "for both")
	f.Bool("rw", false, "for both")
}

func roles() map[string]action {
	return map[string]action{
		"list": {true, func(ctx context.Context, c *ctl, _ *pflag.FlagSet, _ string) error {
			names, err := client.NewAuthRoleAPI(c.client).ListRoles(ctx)
			if err != nil {
				return c.refuse("%v", err)
			}
			c.lines(names)
			return nil
		}},
		"add": {false, func(ctx context.Context, c *ctl, _ *pflag.FlagSet, name string) error {
			api := client.NewAuthRoleAPI(c.client)
			if _, err := api.GetRole(ctx, name); err == nil {
				return c.refuse("Role %s already exists", name)
			}
			return c.done(api.AddRole(ctx, name), "Role %s created", name)
		}},
		"get": {false, showRole},
		"remove": {false, func(ctx context.Context, c *ctl, _ *pflag.FlagSet, name string) error {
			return c.done(client.NewAuthRoleAPI(c.client).RemoveRole(ctx, name), "Role %s removed", name)
		}},
		"grant":  {false, changePaths(client.AuthRoleAPI.GrantRoleKV)},
		"revoke": {false, changePaths(client.AuthRoleAPI.RevokeRoleKV)},
	}
}

func showRole(ctx context.Context, c *ctl, _ *pflag.FlagSet, name string) error {
	r, err := client.NewAuthRoleAPI(c.client).GetRole(ctx, name)
	if err != nil {
		return c.refuse("%v", err)
	}
	fmt.Fprintf(c.Out, "Role: %s\nKV Read:\n", r.Role)
	for _, p := range r.Permissions.KV.Read {
		fmt.Fprintf(c.Out, "\t%s\n", p)
	}
	fmt.Fprintln(c.Out, "KV Write:")
	for _, p := range r.Permissions.KV.Write {
		fmt.Fprintf(c.Out, "\t%s\n", p)
	}
	return nil
}

func changePaths(change func(client.AuthRoleAPI, context.Context, string, []string, client.PermissionType) (*client.Role, error)) func(context.Context, *ctl, *pflag.FlagSet, string) error {
	return func(ctx context.Context, c *ctl, f *pflag.FlagSet, name string) error {
		path, _ := f.GetString("path")
		read, write, both := flagOf(f, "read"), flagOf(f, "write"), flagOf(f, "readwrite") || flagOf(f, "rw")
		kind := client.ReadWritePermission
		switch {
		case path == "":
			return c.refuse("No path specified; please use `--path`")
		case read && !write && !both:
			kind = client.ReadPermission
		case write && !read && !both:
			kind = client.WritePermission
		case !both || read || write:
			return c.refuse("Please specify exactly one of --read, --write or --readwrite")
		}
		_, err := change(client.NewAuthRoleAPI(c.client), ctx, name, []string{path}, kind)
		return c.done(err, "Role %s updated", name)
	}
}

func authActions() map[string]action {
	return map[string]action{
		"enable": {true, func(ctx context.Context, c *ctl, _ *pflag.FlagSet, _ string) error {
			return c.done(client.NewAuthAPI(c.client).Enable(ctx), "Authentication Enabled")
		}},
		"disable": {true, func(ctx context.Context, c *ctl, _ *pflag.FlagSet, _ string) error {
			return c.done(client.NewAuthAPI(c.client).Disable(ctx), "Authentication Disabled")
		}},
	}
}

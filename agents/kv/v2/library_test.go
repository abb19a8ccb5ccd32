package v2_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/client/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// library is etcd 2's own client library, which the original fleet's driver of
// etcd and confd used.
func library(t *testing.T, url, user, password string) client.Client {
	t.Helper()
	c, err := client.New(client.Config{Endpoints: []string{url}, Username: user, Password: password, HeaderTimeoutPerRequest: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// told is what the library understood of an answer, with indexes as distances
// from the first.
func told(base uint64, r *client.Response, err error) string {
	var e client.Error
	switch {
	case errors.As(err, &e):
		return fmt.Sprintf("error %d %s %s", e.Code, e.Message, number.ReplaceAllStringFunc(e.Cause, func(digits string) string {
			n, _ := strconv.ParseUint(digits, 10, 64)
			return fmt.Sprint(n - base)
		}))
	case err != nil:
		return "error " + err.Error()
	case r == nil:
		return "nothing"
	}
	text := r.Action
	for _, n := range []*client.Node{r.Node, r.PrevNode} {
		if n != nil {
			text += fmt.Sprintf(" %s=%q dir=%t %d/%d ttl=%d time=%t", n.Key, n.Value, n.Dir, n.CreatedIndex-base, n.ModifiedIndex-base, n.TTL, n.Expiration != nil)
			for _, below := range n.Nodes {
				text += " " + told(base, &client.Response{Node: below}, nil)
			}
		}
	}
	return text
}

// keysByLibrary does what those programs did with keys and returns what they
// were told.
func keysByLibrary(t *testing.T, url string) (out []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	keys := client.NewKeysAPI(library(t, url, "", ""))
	first, err := keys.Set(ctx, "/f/first", "0", nil)
	if err != nil {
		t.Fatal(err)
	}
	base := first.Node.ModifiedIndex
	do := func(r *client.Response, err error) *client.Response {
		out = append(out, told(base, r, err))
		return r
	}
	do(keys.Create(ctx, "/f/job/a", "<one>"))
	do(keys.Create(ctx, "/f/job/a", "one"))
	do(keys.Set(ctx, "/f/job/a", "two", &client.SetOptions{PrevValue: "<one>"}))
	do(keys.Set(ctx, "/f/job/a", "two", &client.SetOptions{PrevIndex: base}))
	do(keys.Set(ctx, "/f/lease", "me", &client.SetOptions{TTL: 50 * time.Second, PrevExist: client.PrevNoExist}))
	do(keys.Set(ctx, "/f/lease", "", &client.SetOptions{TTL: 60 * time.Second, Refresh: true, PrevExist: client.PrevExist}))
	do(keys.Update(ctx, "/f/job/a", "three"))
	do(keys.Update(ctx, "/f/job/none", "three"))
	do(keys.Set(ctx, "/f/dir", "", &client.SetOptions{Dir: true}))
	do(keys.CreateInOrder(ctx, "/f/queue", "job", nil))
	do(keys.Get(ctx, "/f/job", &client.GetOptions{Recursive: true, Sort: true, Quorum: true}))
	do(keys.Get(ctx, "/f/none", nil))
	do(keys.Delete(ctx, "/f/job/a", &client.DeleteOptions{PrevValue: "other"}))
	do(keys.Delete(ctx, "/f/job", nil))
	do(keys.Delete(ctx, "/f/job", &client.DeleteOptions{Recursive: true}))

	past := keys.Watcher("/f", &client.WatcherOptions{AfterIndex: base, Recursive: true})
	for range 5 {
		do(past.Next(ctx))
	}
	next := make(chan *client.Response, 1)
	live := keys.Watcher("/f/live", &client.WatcherOptions{AfterIndex: base + 8})
	go func() {
		r, _ := live.Next(ctx)
		next <- r
	}()
	do(keys.Set(ctx, "/f/live", "now", nil))
	do(<-next, nil)
	do(keys.Watcher("/f", &client.WatcherOptions{AfterIndex: 0, Recursive: true}).Next(withoutWait(ctx)))
	for i := range out {
		out[i] = inOrder.ReplaceAllString(out[i], "<n>")
	}
	return out
}

// withoutWait ends at once.
func withoutWait(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

// usersByLibrary does the same with users and roles.
func usersByLibrary(t *testing.T, url string) (out []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c := library(t, url, "", "")
	users, roles, enable := client.NewAuthUserAPI(c), client.NewAuthRoleAPI(c), client.NewAuthAPI(c)
	do := func(v any, err error) {
		out = append(out, fmt.Sprintf("%+v %v", v, err))
	}
	role := func(r *client.Role, err error) {
		if r == nil {
			r = &client.Role{}
		}
		do(fmt.Sprint(r.Role, r.Permissions.KV.Read, r.Permissions.KV.Write), err)
	}
	do(nil, enable.Enable(ctx))
	do(nil, users.AddUser(ctx, "root", "s"))
	do(nil, users.AddUser(ctx, "u", "p"))
	do(nil, roles.AddRole(ctx, "r"))
	do(nil, roles.AddRole(ctx, "r"))
	role(roles.GrantRoleKV(ctx, "r", []string{"/a", "/a/*"}, client.ReadWritePermission))
	role(roles.GrantRoleKV(ctx, "r", []string{"/b"}, client.ReadPermission))
	role(roles.RevokeRoleKV(ctx, "r", []string{"/a"}, client.WritePermission))
	role(roles.GetRole(ctx, "r"))
	role(roles.GetRole(ctx, "none"))
	do(users.GrantUser(ctx, "u", []string{"r"}))
	do(users.GrantUser(ctx, "u", []string{"r"}))
	do(users.GetUser(ctx, "u"))
	do(users.ListUsers(ctx))
	do(roles.ListRoles(ctx))
	do(users.ChangePassword(ctx, "u", "q"))
	do(nil, enable.Enable(ctx))
	do(users.ListUsers(ctx))
	role(client.NewAuthRoleAPI(library(t, url, "root", "s")).RevokeRoleKV(ctx, "guest", []string{"/*"}, client.ReadWritePermission))
	for _, who := range [][2]string{{"", ""}, {"u", "p"}, {"u", "q"}, {"root", "s"}} {
		keys := client.NewKeysAPI(library(t, url, who[0], who[1]))
		for _, key := range []string{"/a", "/a/x", "/b", "/c"} {
			for _, write := range []bool{true, false} {
				var err error
				if write {
					_, err = keys.Set(ctx, key, "v", &client.SetOptions{PrevExist: client.PrevNoExist})
				} else {
					_, err = keys.Get(ctx, key, nil)
				}
				var e client.Error
				errors.As(err, &e)
				do(fmt.Sprintf("%s %s %t %d", who, key, write, e.Code), nil)
			}
		}
	}
	do(nil, client.NewAuthAPI(library(t, url, "root", "s")).Disable(ctx))
	do(nil, users.RemoveUser(ctx, "u"))
	do(nil, users.RemoveUser(ctx, "u"))
	do(nil, roles.RemoveRole(ctx, "r"))
	return out
}

// TestLibrary lets the library of etcd 2's programs work with etcd 3.4 and
// with ours: both tell it the same.
func TestLibrary(t *testing.T) {
	mine, other := ours(t).url, theirs(t).url
	if diff := cmp.Diff(keysByLibrary(t, other), keysByLibrary(t, mine)); diff != "" {
		t.Errorf("about keys, etcd 3.4 (-) and ours (+): %s", diff)
	}
	if diff := cmp.Diff(usersByLibrary(t, other), usersByLibrary(t, mine)); diff != "" {
		t.Errorf("about users, etcd 3.4 (-) and ours (+): %s", diff)
	}
	for _, url := range []string{mine, other} {
		c := library(t, url, "", "")
		if err := c.Sync(t.Context()); err != nil || !slices.Equal(c.Endpoints(), []string{url}) {
			t.Errorf("%s: %v, %v", url, c.Endpoints(), err)
		}
		members := client.NewMembersAPI(c)
		list, err := members.List(t.Context())
		leader, leaderErr := members.Leader(t.Context())
		if err != nil || leaderErr != nil || len(list) != 1 || leader.ID != list[0].ID || !slices.Equal(list[0].ClientURLs, []string{url}) {
			t.Errorf("%s: members %+v, %v, leader %+v, %v", url, list, err, leader, leaderErr)
		}
	}
}

// TestRolesInBothVersions gives a user a role through version 3's API, and one
// through version 2's: both hold in both.
func TestRolesInBothVersions(t *testing.T) {
	s := ours(t)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	root, err := clientv3.New(clientv3.Config{Endpoints: []string{s.url}})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	do := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(root.UserAdd(ctx, "root", "s"))
	do(root.RoleAdd(ctx, "root"))
	do(root.UserGrantRole(ctx, "root", "root"))
	do(root.UserAdd(ctx, "three", "p"))
	do(root.RoleAdd(ctx, "reader"))
	do(root.RoleGrantPermission(ctx, "reader", "/a", "", clientv3.PermissionType(clientv3.PermRead)))
	do(root.RoleGrantPermission(ctx, "reader", "/a/", clientv3.GetPrefixRangeEnd("/a/"), clientv3.PermissionType(clientv3.PermRead)))
	do(root.UserGrantRole(ctx, "three", "reader"))
	c := library(t, s.url, "", "")
	do(nil, client.NewAuthUserAPI(c).AddUser(ctx, "two", "p"))
	do(client.NewAuthUserAPI(c).GrantUser(ctx, "two", []string{"reader"}))
	for _, key := range []string{"/a", "/a/x", "/b"} {
		do(root.Put(ctx, key, "1"))
	}
	do(root.AuthEnable(ctx)) // version 3's, so that there are no guests
	for _, user := range []string{"", "two", "three"} {
		keys := client.NewKeysAPI(library(t, s.url, user, "p"))
		config := clientv3.Config{Endpoints: []string{s.url}, Username: user, Password: "p", Logger: zap.NewNop()}
		if user == "" {
			config.Password = ""
		}
		v3, err := clientv3.New(config)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"/a", "/a/x", "/b"} {
			may := user != "" && key != "/b"
			if _, err := keys.Get(ctx, key, nil); (err == nil) != may {
				t.Errorf("%q gets %s over version 2: %v", user, key, err)
			}
			if _, err := v3.Get(ctx, key); (err == nil) != may {
				t.Errorf("%q gets %s over version 3: %v", user, key, err)
			}
			if _, err := keys.Set(ctx, key, "2", nil); err == nil {
				t.Errorf("%q sets %s over version 2", user, key)
			}
			if _, err := v3.Put(ctx, key, "2"); err == nil {
				t.Errorf("%q puts %s over version 3", user, key)
			}
			if _, err := keys.Delete(ctx, key, &client.DeleteOptions{Recursive: true}); err == nil {
				t.Errorf("%q deletes %s over version 2", user, key)
			}
		}
		v3.Close()
	}
	if _, err := client.NewKeysAPI(library(t, s.url, "root", "s")).Set(ctx, "/b", "2", nil); err != nil {
		t.Errorf("root sets /b: %v", err)
	}
}

package v2_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// call is a request, by a user ("name:password") or by nobody.
type call struct{ user, method, path, body string }

func (c call) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s as %q: %s %s", c.method, c.user, c.path, c.body))
}

// outcome is an answer without what differs between two servers: indexes, and
// null for an empty list.
func (s *side) outcome(t *testing.T, c call) string {
	t.Helper()
	req, err := http.NewRequest(c.method, s.url+c.path, strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(c.path, "/v2/keys") {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if name, password, ok := strings.Cut(c.user, ":"); ok {
		req.SetBasicAuth(name, password)
	} else if c.user != "" {
		req.Header.Set("Authorization", c.user)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatalf("%s: %v", c, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%d %s %t %s", resp.StatusCode, resp.Header.Get("Content-Type"), resp.Header.Get("X-Etcd-Cluster-Id") != "", resp.Header.Get("Allow"))
	var v any
	if json.Unmarshal(body, &v) != nil {
		return text + " " + string(body)
	}
	plain, _ := json.Marshal(noIndexes(v))
	return text + " " + strings.ReplaceAll(string(plain), "null", "[]")
}

func noIndexes(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			if strings.HasSuffix(strings.ToLower(k), "index") {
				delete(v, k)
				continue
			}
			v[k] = noIndexes(v[k])
		}
	case []any:
		for i := range v {
			v[i] = noIndexes(v[i])
		}
	}
	return v
}

// both are the two servers.
type both [2]*side

func newBoth(t *testing.T) both { return both{newSide(t, ours(t)), newSide(t, theirs(t))} }

// ask asks both servers at the same time; passwords take theirs.
func (b both) ask(t *testing.T, c call) (mine, other string) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() { mine = b[0].outcome(t, c) })
	other = b[1].outcome(t, c)
	wg.Wait()
	return mine, other
}

func (b both) want(t *testing.T, calls ...call) {
	t.Helper()
	for _, c := range calls {
		if mine, other := b.ask(t, c); mine != other {
			t.Errorf("%s\nours   %s\ntheirs %s", c, mine, other)
		}
	}
}

// TestAuthAPI sends the requests about users and roles that programs and
// people send, right and wrong, to etcd 3.4 and to ours.
func TestAuthAPI(t *testing.T) {
	b := newBoth(t)
	const users, roles, enable = "/v2/auth/users", "/v2/auth/roles", "/v2/auth/enable"
	get := func(p string) call { return call{"", "GET", p, ""} }
	put := func(p, body string) call { return call{"", "PUT", p, body} }
	del := func(p string) call { return call{"", "DELETE", p, ""} }
	b.want(t, get(users), get(roles), get(enable), put(enable, ""), del(enable), get(users+"/"), get(roles+"/root"),
		// users, some with a role that nobody has made
		put(users+"/u", `{"user":"u","password":"p","roles":["nope"]}`), get(users+"/u"), get(users), get(roles), get(roles+"/nope"), del(roles+"/nope"),
		put(users+"/u", `{"user":"u","password":"p","roles":["nope"]}`), put(users+"/u", `{"user":"u","revoke":["other"]}`),
		put(roles+"/nope", `{"role":"nope","grant":{"kv":{"read":["/x"]}}}`),
		put(roles+"/nope", `{"role":"nope","permissions":{"kv":{"read":["/x"],"write":["/y/*"]}}}`), get(users+"/u"), get(users), get(roles),
		put(users+"/v", `{"user":"v"}`), put(users+"/v", `{"user":"v","password":""}`), put(users+"/v", `{"user":"w","password":"p"}`),
		put(users+"/v", `no JSON`), put(users+"/v", ``), put(users+"/v", `{"user":"v","grant":["nope"]}`), put(users+"/v", `{"user":"v","password":"p"}`),
		put(users+"/v", `{"user":"v","roles":["a"],"grant":["nope"]}`), put(users+"/v", `{"user":"v","grant":["nope","late"]}`),
		put(users+"/v", `{"user":"v","grant":["nope"]}`), put(users+"/v", `{"user":"v","grant":["b","b"]}`), get(users+"/v"),
		put(users+"/v", `{"user":"v"}`), put(users+"/v", `{"user":"v","password":"new"}`), put(users+"/v", `{"user":"v","grant":["x"],"revoke":["x","late"]}`),
		get(users+"/v"), put(users+"/v", `{"user":"v","revoke":["late"]}`), get(users+"/none"), del(users+"/none"),
		// roles
		put(roles+"/r", `{"role":"r"}`), get(roles+"/r"), put(roles+"/r", `{"role":"r"}`), put(roles+"/r", `{"role":"q"}`), put(roles+"/r", `no JSON`),
		put(roles+"/r", `{"role":"r","grant":{"kv":{"read":["/b","/a/*"]}}}`), put(roles+"/r", `{"role":"r","grant":{"kv":{"read":["/b"],"write":["/w"]}}}`),
		put(roles+"/r", `{"role":"r","grant":{"kv":{"read":["/c","/c"]}}}`), put(roles+"/r", `{"role":"r","grant":{"kv":{"read":["/c","*"],"write":["/b","/a/*","x","*"]}}}`),
		put(roles+"/r", `{"role":"r","revoke":{"kv":{"read":["/none"],"write":["/none"]}}}`), put(roles+"/r", `{"role":"r","revoke":{"kv":{"read":["/b","/none"],"write":["/a/*"]}}}`),
		put(roles+"/r", `{"role":"r","grant":{"kv":{"read":["/d"]}},"revoke":{"kv":{"read":["/d"]}}}`), get(roles+"/r"), get(roles),
		put(roles+"/r", `{"role":"r","permissions":{"kv":{"read":["/d"]}},"grant":{"kv":{"read":["/e"]}}}`), put(roles+"/r", `{"role":"r","grant":{"kv":{}}}`),
		put(roles+"/r2", `{"role":"r2","permissions":{"kv":{"read":["/a","/z"],"write":[]}}}`),
		put(roles+"/none", `{"role":"none","grant":{"kv":{"read":["/e"]}}}`), get(roles+"/none"), del(roles+"/none"),
		put(roles+"/root", `{"role":"root"}`), put(roles+"/root", `{"role":"root","grant":{"kv":{"read":["/e"]}}}`), del(roles+"/root"),
		// a role with a user goes
		put(users+"/v", `{"user":"v","grant":["r"]}`), get(users+"/v"), del(roles+"/r"), get(roles), get(users), get(users+"/v"), put(users+"/v", `{"user":"v","grant":["r"]}`),
		put(roles+"/r", `{"role":"r","permissions":{"kv":{"read":["/again"],"write":["/again"]}}}`), get(users+"/v"), del(roles+"/r"),
		put(users+"/v", `{"user":"v","revoke":["r"]}`), get(users+"/v"), del(users+"/v"), get(users),
		// paths and methods
		get(users+"/a/b"), get("/v2/auth"), get("/v2/auth/"), get(enable+"/x"), put(users, "{}"), put(users+"/", "{}"), call{"", "POST", users + "/a", ""},
		call{"", "POST", roles, ""}, call{"", "HEAD", enable, ""}, call{"", "POST", enable, ""}, put(roles+"/a/b", "{}"),
		// enabling
		put(users+"/root", `{"user":"root","password":"s"}`), get(users+"/root"), get(users), put(users+"/root", `{"user":"root","revoke":["root"]}`), get(users+"/root"),
		put(enable, ""), get(enable), put(enable, ""), del(enable), get(users), get(roles+"/guest"), put(roles+"/x", `{"role":"x"}`), del(users+"/u"),
	)
	as := func(user string, calls ...call) {
		t.Helper()
		for _, c := range calls {
			c.user = user
			b.want(t, c)
		}
	}
	as("root:s", put(enable, ""), get(roles), get(users), del(users+"/root"), del(roles+"/root"), put(users+"/root", `{"user":"root","password":"t"}`))
	as("root:s", get(users))
	as("root:t", get(roles+"/guest"), put(users+"/other", `{"user":"other","password":"o","roles":["root"]}`), put(users+"/root", `{"user":"root","grant":["nope"]}`))
	as("other:o", get(roles), get(users+"/root"), put("/v2/keys/k", "value=1"))
	as("u:p", get(roles), get(users), del(enable), get("/v2/keys/x"), get("/v2/keys/k"))
	as("nobody:p", get(roles), get("/v2/keys/k"))
	as("Basic ???", get(roles), get("/v2/keys/k"))
	as("root:t", put(roles+"/all", `{"role":"all","permissions":{"kv":{"read":["*"],"write":[]}}}`), put(users+"/all", `{"user":"all","password":"p","roles":["all"]}`))
	as("all:p", get("/v2/keys"), get("/v2/keys?recursive=true"), get("/v2/keys/"), put("/v2/keys/k", "value=2"))
	as("", get("/v2/keys"), get("/v2/keys/"), put("/v2/keys/k", "value=2"))
	as("root:t", del(enable), get(enable), del(enable))
	b.want(t, get(enable), get(users), del(users+"/root"), get(users))
}

// TestPermissions makes users, roles and permissions at random in etcd 3.4 and
// in ours, and compares what they are shown as and whom they let do what.
func TestPermissions(t *testing.T) {
	seed := setting(t, "V2_SEED", time.Now().UnixNano())
	changes, asked := int(setting(t, "V2_CHANGES", 60)), int(setting(t, "V2_ASKED", 24))
	t.Logf("V2_SEED=%d V2_CHANGES=%d V2_ASKED=%d", seed, changes, asked)
	random := rand.New(rand.NewPCG(uint64(seed), 1))
	one := func(list ...string) string { return list[random.IntN(len(list))] }
	some := func(list ...string) string {
		random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		text, _ := json.Marshal(list[:random.IntN(len(list))])
		return string(text)
	}
	patterns := func() string {
		list := []string{"/a", "/a/*", "/a*", "/a/b", "/a/b/*", "/b/*", "/b", "/*", "*", "/", "nothing"}
		return fmt.Sprintf(`{"kv":{"read":%s,"write":%s}}`, some(list[:4+random.IntN(8)]...), some(list[:4+random.IntN(8)]...))
	}
	b := newBoth(t)
	b.want(t, call{"", "PUT", "/v2/auth/users/root", `{"user":"root","password":"s"}`})
	for range changes {
		user, role := one("u1", "u2", "u3"), one("r1", "r2", "r3", "guest")
		c := call{"", "PUT", "/v2/auth/users/" + user, ""}
		switch random.IntN(12) {
		case 0:
			c.body = fmt.Sprintf(`{"user":%q,"password":"p","roles":%s}`, user, some("r1", "r2", "r3"))
		case 1:
			c.body = fmt.Sprintf(`{"user":%q,"password":"p"}`, user)
		case 2, 3:
			c.body = fmt.Sprintf(`{"user":%q,"grant":%s,"revoke":%s}`, user, some("r1", "r2", "r3"), some("r1", "r2", "r3"))
		case 4:
			c.body = fmt.Sprintf(`{"user":%q,"grant":[%q]}`, user, role)
		case 5:
			c = call{"", "DELETE", one("/v2/auth/users/"+user, "/v2/auth/roles/"+role), ""}
		default:
			c = call{"", "PUT", "/v2/auth/roles/" + role, ""}
			c.body = fmt.Sprintf(`{"role":%q,%q:%s}`, role, one("permissions", "grant", "grant", "revoke"), patterns())
		}
		mine, other := b.ask(t, c)
		// Whether nothing was to change depends on lists that were null.
		if mine != other && !strings.Contains(mine+other, "not updated") {
			t.Errorf("%s\nours   %s\ntheirs %s", c, mine, other)
		}
	}
	// Permissions as they were given are in the order in which they were, so
	// each role changes once before its patterns are compared.
	for _, role := range []string{"r1", "r2", "r3", "guest"} {
		b.ask(t, call{"", "PUT", "/v2/auth/roles/" + role, fmt.Sprintf(`{"role":%q,"grant":{"kv":{"read":["/last"]}}}`, role)})
	}
	b.want(t, call{"", "GET", "/v2/auth/roles", ""}, call{"", "GET", "/v2/auth/users", ""})
	for _, user := range []string{"u1", "u2", "u3"} {
		b.ask(t, call{"", "PUT", "/v2/auth/users/" + user, fmt.Sprintf(`{"user":%q,"password":"p"}`, user)})
	}
	b.want(t, call{"", "PUT", "/v2/auth/enable", ""})
	for range asked {
		c := call{one("", "", "", "u1:p", "u2:p", "u3:p", "u1:wrong", "root:s"), one("GET", "GET", "PUT", "POST", "DELETE"),
			"/v2/keys" + one("", "/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c", "/ab", "/b", "/b/c", "/none"), ""}
		recursive := c.user != "" && random.IntN(2) == 0 // guests are different on purpose
		switch {
		case c.method == "PUT" && recursive:
			c.body = "value=1&recursive=true"
		case c.method == "PUT" || c.method == "POST":
			c.body = "value=1"
		case recursive:
			c.path += "?recursive=true"
		}
		mine, other := b.ask(t, c)
		if strings.HasPrefix(mine, "401") != strings.HasPrefix(other, "401") {
			t.Errorf("%s\nours   %s\ntheirs %s", c, mine, other)
		}
	}
}

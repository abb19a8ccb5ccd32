// Package roles is the vocabulary of etcd 2's users and roles, as its API
// /v2/auth shows and changes them, and how a role's patterns lie in version 3's
// permissions: "/a" is the key, "/a/*" the range of all keys that begin with
// "/a/". Permissions of version 3 for ranges that are no such prefix have no
// pattern; they hold, but version 2 does not show them. It is values in, values
// out; package users works on a member.
package roles

import (
	"bytes"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/agents/kv/v2/layout"
	"go.etcd.io/etcd/api/v3/authpb"
)

// Names with a meaning of their own.
const (
	Root  = "root"  // the user that must be there, and the role that may do everything
	Guest = "guest" // the role of requests without a user
)

// User is a user in a request or an answer. Without roles it is null, or empty
// when they were taken away.
type User struct {
	User     string   `json:"user"`
	Password string   `json:"password,omitempty"`
	Roles    []string `json:"roles"`
	Grant    []string `json:"grant,omitempty"`
	Revoke   []string `json:"revoke,omitempty"`
}

// Role is a role in a request or an answer.
type Role struct {
	Role        string       `json:"role"`
	Permissions Permissions  `json:"permissions"`
	Grant       *Permissions `json:"grant,omitempty"`
	Revoke      *Permissions `json:"revoke,omitempty"`
}

// Permissions are a role's.
type Permissions struct {
	KV Patterns `json:"kv"`
}

// Patterns say what may be read and what may be written.
type Patterns struct {
	Read  []string `json:"read"`
	Write []string `json:"write"`
}

// Empty is true when nothing is named.
func (p *Permissions) Empty() bool {
	return p == nil || len(p.KV.Read)+len(p.KV.Write) == 0
}

// All is the role that may do everything with keys.
func All(name string) Role {
	return Role{Role: name, Permissions: Permissions{KV: Patterns{Read: []string{"/*"}, Write: []string{"/*"}}}}
}

// Error is an answer that refuses, with its HTTP status.
type Error struct {
	Status int
	Text   string
}

// Error implements error.
func (e *Error) Error() string { return "auth: " + e.Text }

// Refuse makes an error.
func Refuse(status int, format string, args ...any) error {
	return &Error{Status: status, Text: fmt.Sprintf(format, args...)}
}

// Merge applies a request's grants and revocations to a user, checking all
// first.
func (u User) Merge(request User) (User, error) {
	roles := slices.Clone(u.Roles)
	for _, r := range request.Grant {
		if slices.Contains(roles, r) {
			return u, Refuse(http.StatusConflict, "Granting duplicate role %s for user %s", r, u.User)
		}
		roles = append(roles, r)
	}
	for _, r := range request.Revoke {
		i := slices.Index(roles, r)
		if i < 0 {
			return u, Refuse(http.StatusConflict, "Revoking ungranted role %s for user %s", r, u.User)
		}
		roles = slices.Delete(roles, i, i+1)
	}
	merged := User{User: u.User, Roles: sorted(roles)}
	if request.Password == "" && reflect.DeepEqual(merged.Roles, u.Roles) {
		return u, Refuse(http.StatusBadRequest, "User not updated. Use grant/revoke/password to update the user.")
	}
	return merged, nil
}

// Merge applies a request's grants and revocations to a role, checking all
// first. To revoke what is not granted is no mistake as long as something
// changes.
func (r Role) Merge(request Role) (Role, error) {
	out := Role{Role: r.Role, Permissions: r.Permissions}
	if request.Grant != nil {
		read, twice := grant(out.Permissions.KV.Read, request.Grant.KV.Read)
		if twice != "" {
			return r, Refuse(http.StatusConflict, "Granting duplicate read permission %s", twice)
		}
		write, twice := grant(out.Permissions.KV.Write, request.Grant.KV.Write)
		if twice != "" {
			return r, Refuse(http.StatusConflict, "Granting duplicate write permission %s", twice)
		}
		out.Permissions.KV = Patterns{Read: read, Write: write}
	}
	if request.Revoke != nil {
		p := out.Permissions.KV
		out.Permissions.KV = Patterns{Read: without(p.Read, request.Revoke.KV.Read), Write: without(p.Write, request.Revoke.KV.Write)}
	}
	if reflect.DeepEqual(out.Permissions, r.Permissions) {
		return r, Refuse(http.StatusBadRequest, "Role not updated. Use grant/revoke to update the role.")
	}
	return out, nil
}

// grant returns the pattern that is there already, or "".
func grant(have, more []string) (out []string, twice string) {
	out = slices.Clone(have)
	for _, p := range more {
		if slices.Contains(out, p) {
			return nil, p
		}
		out = append(out, p)
	}
	return sorted(out), ""
}

func without(have, less []string) []string {
	return sorted(slices.DeleteFunc(slices.Clone(have), func(p string) bool { return slices.Contains(less, p) }))
}

// sorted is never nil.
func sorted(list []string) []string {
	slices.Sort(list)
	return append([]string{}, list...)
}

// Range is what a pattern is for version 3. Everything is from the key of one
// zero byte to its end, another.
func Range(pattern string) (key, end []byte) {
	prefix, ok := strings.CutSuffix(pattern, "*")
	if !ok {
		return []byte(pattern), nil
	}
	if prefix == "" {
		return []byte{0}, []byte{0}
	}
	return []byte(prefix), after(prefix)
}

// after is the first key behind those with a prefix.
func after(prefix string) []byte {
	end := []byte(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return []byte{0}
}

// pattern is the opposite of Range, if there is one.
func pattern(p *authpb.Permission) (string, bool) {
	switch {
	case len(p.RangeEnd) == 0:
		return string(p.Key), !bytes.HasSuffix(p.Key, []byte("*"))
	case bytes.Equal(p.Key, []byte{0}) && bytes.Equal(p.RangeEnd, []byte{0}):
		return "*", true
	}
	return string(p.Key) + "*", bytes.Equal(p.RangeEnd, after(string(p.Key)))
}

// nowhere is the key of a permission that marks a role which version 2 speaks
// of, but has not made or has deleted: there a user may have such a role.
const nowhere = layout.Prefix + "auth/absent"

// Absent marks a role.
func Absent() *authpb.Permission { return &authpb.Permission{Key: []byte(nowhere)} }

func isMark(p *authpb.Permission) bool { return string(p.Key) == nowhere }

// IsAbsent is true when a role has the mark and nothing else.
func IsAbsent(list []*authpb.Permission) bool {
	return len(list) > 0 && !slices.ContainsFunc(list, func(p *authpb.Permission) bool { return !isMark(p) })
}

// FromV3 is what version 2 shows of a role. One without any permission has
// null, as it was made.
func FromV3(list []*authpb.Permission) (out Permissions) {
	if len(list) == 0 {
		return out
	}
	out.KV = Patterns{Read: []string{}, Write: []string{}}
	for _, p := range list {
		text, ok := pattern(p)
		if !ok || isMark(p) {
			continue
		}
		if p.PermType != authpb.Permission_WRITE {
			out.KV.Read = append(out.KV.Read, text)
		}
		if p.PermType != authpb.Permission_READ {
			out.KV.Write = append(out.KV.Write, text)
		}
	}
	return Permissions{KV: Patterns{Read: slices.Compact(sorted(out.KV.Read)), Write: slices.Compact(sorted(out.KV.Write))}}
}

// ToV3 are the permissions that make patterns hold, by key.
func ToV3(p Patterns) (out []*authpb.Permission) {
	for _, text := range slices.Compact(sorted(slices.Concat(p.Read, p.Write))) {
		key, end := Range(text)
		kind := authpb.Permission_READWRITE
		switch {
		case !slices.Contains(p.Write, text):
			kind = authpb.Permission_READ
		case !slices.Contains(p.Read, text):
			kind = authpb.Permission_WRITE
		}
		out = append(out, &authpb.Permission{Key: key, RangeEnd: end, PermType: kind})
	}
	return out
}

// SameRange is true when two permissions are about the same keys.
func SameRange(p, q *authpb.Permission) bool {
	return bytes.Equal(p.Key, q.Key) && bytes.Equal(p.RangeEnd, q.RangeEnd)
}

// Changes are the ranges to take from a role and the permissions to give it
// then. Version 3 replaces a range's permission only sometimes, when several
// ranges begin with the same key; else it keeps both. So what gets less is
// taken first, and what gets more is given in addition.
func Changes(from, to Patterns) (less, more []*authpb.Permission) {
	before, after := ToV3(from), ToV3(to)
	find := func(list []*authpb.Permission, p *authpb.Permission) *authpb.Permission {
		if i := slices.IndexFunc(list, func(q *authpb.Permission) bool { return SameRange(p, q) }); i >= 0 {
			return list[i]
		}
		return nil
	}
	for _, p := range before {
		if q := find(after, p); q == nil || q.PermType != p.PermType && q.PermType != authpb.Permission_READWRITE {
			less = append(less, p)
		}
	}
	for _, q := range after {
		if p := find(before, q); p == nil || p.PermType != q.PermType {
			more = append(more, q)
		}
	}
	return less, more
}

// Allow says whether one of the permissions lets the keys from key to before
// end, or key alone, be read or written.
func Allow(list []*authpb.Permission, key, end []byte, write bool) bool {
	if end == nil {
		end = append(slices.Clone(key), 0)
	}
	return slices.ContainsFunc(list, func(p *authpb.Permission) bool {
		if write && p.PermType == authpb.Permission_READ || !write && p.PermType == authpb.Permission_WRITE {
			return false
		}
		if len(p.RangeEnd) == 0 {
			return bytes.Equal(p.Key, key) && bytes.Equal(end, append(slices.Clone(key), 0))
		}
		return bytes.Compare(p.Key, key) <= 0 && (bytes.Equal(p.RangeEnd, []byte{0}) || bytes.Compare(end, p.RangeEnd) <= 0)
	})
}

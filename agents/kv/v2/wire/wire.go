// Package wire is what etcd's v2 API sends: events, nodes and errors, with the
// field order, the codes and the HTTP statuses that clients of etcd 2 know. The
// specification is what etcd 2.3.8 and 3.4 answer; etcd's Documentation/api.md
// and errorcode.md of version 2.3 differ from them in places, and the servers
// are followed. Titles of etcd 0.4 ("Key Not Found") are left out.
package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// Actions of events.
const (
	Get              = "get"
	Set              = "set"
	Create           = "create"
	Update           = "update"
	Delete           = "delete"
	Expire           = "expire"
	CompareAndSwap   = "compareAndSwap"
	CompareAndDelete = "compareAndDelete"
)

// Node is a key or a directory. The root has neither a key nor indexes.
type Node struct {
	Key           string     `json:"key,omitempty"`
	Value         *string    `json:"value,omitempty"` // nil for directories and for what was deleted
	Dir           bool       `json:"dir,omitempty"`
	Expiration    *time.Time `json:"expiration,omitempty"` // UTC
	TTL           int64      `json:"ttl,omitempty"`        // seconds, rounded up
	Nodes         []*Node    `json:"nodes,omitempty"`
	ModifiedIndex int64      `json:"modifiedIndex,omitempty"`
	CreatedIndex  int64      `json:"createdIndex,omitempty"`
}

// Event is the answer to a request about keys and what a watch sends.
type Event struct {
	Action   string `json:"action"`
	Node     *Node  `json:"node,omitempty"`
	PrevNode *Node  `json:"prevNode,omitempty"`

	// Refresh marks an event that prolonged a life and woke nobody.
	Refresh bool `json:"-"`
	// Removed are the paths of what went with a deleted directory.
	Removed []string `json:"-"`

	line func() []byte
}

// Line returns the event as it is sent. An event that goes to many is encoded
// once if Share was called before.
func (e *Event) Line() []byte {
	if e.line != nil {
		return e.line()
	}
	return e.encode()
}

// Share prepares an event, which does not change any more, for being sent to many.
func (e *Event) Share() { e.line = sync.OnceValue(e.encode) }

// Created says whether the event made a key that was not there: status 201.
func (e *Event) Created() bool {
	return e.Action == Create || e.Action == Set && e.PrevNode == nil
}

// Index is the event's place in the order of all changes.
func (e *Event) Index() int64 { return e.Node.ModifiedIndex }

// WithoutValues returns what noValueOnSuccess leaves of an event.
func (e *Event) WithoutValues() *Event {
	switch e.Action {
	case Set, Create, Update, CompareAndSwap:
		return &Event{Action: e.Action}
	}
	return e
}

// Encode returns v as the one line of JSON that etcd sends for it.
func Encode(v any) []byte {
	var b bytes.Buffer
	// The types of this package hold nothing that JSON cannot say.
	_ = json.NewEncoder(&b).Encode(v)
	return b.Bytes()
}

// Error codes.
const (
	KeyNotFound       = 100
	TestFailed        = 101
	NotFile           = 102
	NotDir            = 104
	NodeExist         = 105
	RootReadOnly      = 107
	DirNotEmpty       = 108
	Unauthorized      = 110
	PrevValueRequired = 201
	TTLNaN            = 202
	IndexNaN          = 203
	InvalidField      = 209
	InvalidForm       = 210
	RefreshValue      = 211
	RefreshTTL        = 212
	RaftInternal      = 300
	LeaderElect       = 301
	WatcherCleared    = 400
	IndexCleared      = 401
)

var messages = map[int]string{
	KeyNotFound: "Key not found", TestFailed: "Compare failed", NotFile: "Not a file", NotDir: "Not a directory",
	NodeExist: "Key already exists", RootReadOnly: "Root is read only", DirNotEmpty: "Directory not empty",
	Unauthorized:      "The request requires user authentication",
	PrevValueRequired: "PrevValue is Required in POST form",
	TTLNaN:            "The given TTL in POST form is not a number",
	IndexNaN:          "The given index in POST form is not a number",
	InvalidField:      "Invalid field", InvalidForm: "Invalid POST form",
	RefreshValue: "Value provided on refresh", RefreshTTL: "A TTL must be provided on refresh",
	RaftInternal: "Raft Internal Error", LeaderElect: "During Leader Election",
	WatcherCleared: "watcher is cleared due to etcd recovery",
	IndexCleared:   "The event in requested index is outdated and cleared",
}

var statuses = map[int]int{
	KeyNotFound: http.StatusNotFound, TestFailed: http.StatusPreconditionFailed, NotFile: http.StatusForbidden,
	NodeExist: http.StatusPreconditionFailed, DirNotEmpty: http.StatusForbidden, Unauthorized: http.StatusUnauthorized,
	RaftInternal: http.StatusInternalServerError, LeaderElect: http.StatusInternalServerError,
}

// Error is the answer to a request about keys that failed. Index is 0 for
// requests that never reached the store.
type Error struct {
	Code    int    `json:"errorCode"`
	Message string `json:"message"`
	Cause   string `json:"cause,omitempty"`
	Index   int64  `json:"index"`
}

// NewError makes the error of a code.
func NewError(code int, cause string, index int64) *Error {
	return &Error{Code: code, Message: messages[code], Cause: cause, Index: index}
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("%d: %s (%s) [%d]", e.Code, e.Message, e.Cause, e.Index)
}

// Status is the HTTP status that goes with the error.
func (e *Error) Status() int {
	if s := statuses[e.Code]; s != 0 {
		return s
	}
	return http.StatusBadRequest
}

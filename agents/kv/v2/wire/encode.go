package wire

import (
	"encoding/json"
	"strconv"
)

// encode is Encode for events, which are nearly all that is sent: it knows
// their form, and takes a third of the time. What it cannot say as package json
// does it leaves to that.
func (e *Event) encode() []byte {
	b := make([]byte, 0, 256+len(e.Node.value())+len(e.PrevNode.value()))
	b = append(b, `{"action":`...)
	b = appendString(b, e.Action)
	if e.Node != nil {
		b = append(b, `,"node":`...)
		b = e.Node.append(b)
	}
	if e.PrevNode != nil {
		b = append(b, `,"prevNode":`...)
		b = e.PrevNode.append(b)
	}
	return append(b, '}', '\n')
}

func (n *Node) value() string {
	if n == nil || n.Value == nil {
		return ""
	}
	return *n.Value
}

// append appends the node in the order of its fields.
func (n *Node) append(b []byte) []byte {
	begin := len(b)
	if n.Key != "" {
		b = appendString(append(b, `,"key":`...), n.Key)
	}
	if n.Value != nil {
		b = appendString(append(b, `,"value":`...), *n.Value)
	}
	if n.Dir {
		b = append(b, `,"dir":true`...)
	}
	if n.Expiration != nil {
		text, _ := json.Marshal(n.Expiration) // years have four digits, see package request
		b = append(append(b, `,"expiration":`...), text...)
	}
	b = appendInt(b, `,"ttl":`, n.TTL)
	if len(n.Nodes) > 0 {
		b = append(b, `,"nodes":`...)
		for i, c := range n.Nodes {
			b = c.append(append(b, "[,"[min(i, 1)]))
		}
		b = append(b, ']')
	}
	b = appendInt(b, `,"modifiedIndex":`, n.ModifiedIndex)
	b = appendInt(b, `,"createdIndex":`, n.CreatedIndex)
	if len(b) == begin {
		b = append(b, ',')
	}
	b[begin] = '{' // in place of the first comma
	return append(b, '}')
}

func appendInt(b []byte, name string, n int64) []byte {
	if n == 0 {
		return b
	}
	return strconv.AppendInt(append(b, name...), n, 10)
}

// appendString appends a string as package json writes it.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			text, _ := json.Marshal(s)
			return append(b, text...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

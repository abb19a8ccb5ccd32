package plan

import (
	"encoding/json"
	"fmt"
	"reflect"
)

// encoded is a step as text: the name of its action's type and its fields.
type encoded struct {
	Do     string
	With   json.RawMessage
	Reason string `json:",omitempty"`
	Origin Origin
}

// keepable are the actions that can be kept on disk: those of which taking a
// change back is made.
func keepable() []Action {
	return []Action{
		SetHostname{}, EnsureUser{}, RemoveUser{}, AuthorizeKeys{}, PutBack{}, ReloadUnits{}, RestartNetwork{}, UnitCommand{}, MakeDirectory{},
	}
}

func nameOf(a Action) string { return reflect.TypeOf(a).Name() }

// MarshalJSON writes a step that can be kept on disk; other actions are an
// error.
func (s Step) MarshalJSON() ([]byte, error) {
	for _, a := range keepable() {
		if reflect.TypeOf(a) == reflect.TypeOf(s.Action) {
			with, err := json.Marshal(s.Action)
			if err != nil {
				return nil, err
			}
			return json.Marshal(encoded{nameOf(s.Action), with, s.Reason, s.Origin})
		}
	}
	return nil, fmt.Errorf("keep a step: %T is not an action that is kept", s.Action)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Step) UnmarshalJSON(data []byte) error {
	var e encoded
	if err := json.Unmarshal(data, &e); err != nil {
		return fmt.Errorf("read a kept step: %w", err)
	}
	for _, a := range keepable() {
		if nameOf(a) != e.Do {
			continue
		}
		value := reflect.New(reflect.TypeOf(a))
		if err := json.Unmarshal(e.With, value.Interface()); err != nil {
			return fmt.Errorf("read a kept step %s: %w", e.Do, err)
		}
		*s = Step{Action: value.Elem().Interface().(Action), Reason: e.Reason, Origin: e.Origin}
		return nil
	}
	return fmt.Errorf("read a kept step: this program does not know %q", e.Do)
}

package cloudconfig

import (
	"reflect"

	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// Merge puts documents together that apply as one: lists are joined, of single
// values the last one that is given counts.
func Merge(configs ...Config) (all Config) {
	for _, c := range configs {
		merge(reflect.ValueOf(&all).Elem(), reflect.ValueOf(c))
	}
	return all
}

func merge(into, from reflect.Value) {
	switch {
	case into.Type() == reflect.TypeFor[Origin]():
		origin, more := into.Interface().(Origin), from.Interface().(Origin)
		keys := map[string]plan.Position{}
		for _, m := range []map[string]plan.Position{origin.Keys, more.Keys} {
			for key, at := range m {
				keys[key] = at
			}
		}
		if more.Line > 0 {
			origin.Position = more.Position
		}
		into.Set(reflect.ValueOf(Origin{Position: origin.Position, Keys: keys}))
	case into.Kind() == reflect.Struct:
		for i := range into.NumField() {
			merge(into.Field(i), from.Field(i))
		}
	case into.Kind() == reflect.Slice:
		into.Set(reflect.AppendSlice(into, from))
	case !from.IsZero():
		into.Set(from)
	}
}

// Move returns the positions of a document that begins on another line of the
// text that it is part of; on line 0 it is nowhere in it.
func (c Config) Move(line int) Config {
	move(reflect.ValueOf(&c).Elem(), line)
	return c
}

func move(v reflect.Value, line int) {
	switch {
	case v.Type() == reflect.TypeFor[Origin]():
		origin := v.Interface().(Origin)
		origin.Position = moved(origin.Position, line)
		keys := make(map[string]plan.Position, len(origin.Keys))
		for key, at := range origin.Keys {
			keys[key] = moved(at, line)
		}
		origin.Keys = keys
		v.Set(reflect.ValueOf(origin))
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			move(v.Field(i), line)
		}
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			move(v.Index(i), line)
		}
	}
}

func moved(at plan.Position, line int) plan.Position {
	if line == 0 || at.Line == 0 {
		return plan.Position{}
	}
	return plan.Position{Line: at.Line + line - 1, Column: at.Column}
}

package api

import (
	"net/http"
	"reflect"
	"strings"

	"github.com/coracle-os/coracle/agents/fleet/api/schema"
)

// object is a JSON object.
type object = map[string]any

// sendDiscovery answers with the API described in the way of Google's API
// discovery (developers.google.com/discovery/v1/reference/apis), which
// generators of clients read. Its schemas are those of package schema.
func sendDiscovery(w http.ResponseWriter, r *http.Request, prefix string) error {
	path := strings.TrimPrefix(prefix, "/") + "/"
	version := prefix[strings.LastIndexByte(prefix, '/')+1:]
	schemas := object{}
	for _, v := range []any{schema.Unit{}, schema.UnitPage{}, schema.UnitState{}, schema.UnitStatePage{}, schema.Machine{}, schema.MachinePage{},
		schema.Drain{}, schema.PlanRequest{}, schema.Plan{}} {
		describe(reflect.TypeOf(v), schemas)
	}
	sendJSON(w, http.StatusOK, object{
		"kind": "discovery#restDescription", "discoveryVersion": "v1", "id": "fleet:" + version, "name": "schema", "version": version,
		"title": "fleet API", "description": "", "documentationLink": "http://github.com/coreos/fleet", "protocol": "rest",
		"icons": object{"x16": "", "x32": ""}, "labels": []string{}, "parameters": object{}, "auth": object{},
		"rootUrl": "$ENDPOINT/", "servicePath": path, "basePath": "/" + path, "baseUrl": "$ENDPOINT/" + path, "batchPath": "batch",
		"schemas": schemas, "resources": resources(),
	})
	return nil
}

// schemaNames are the types whose name in the document is another.
var schemaNames = map[string]string{"Option": "UnitOption"}

// describe adds the schema of a struct and of those in it, and gives its name.
func describe(t reflect.Type, schemas object) string {
	name := t.Name()
	if other, ok := schemaNames[name]; ok {
		name = other
	}
	if schemas[name] != nil {
		return name
	}
	properties := object{}
	schemas[name] = object{"id": name, "type": "object", "properties": properties}
	for i := range t.NumField() {
		field, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		properties[field] = property(t.Field(i).Type, schemas)
		if strings.HasSuffix(field, "State") && name == "Unit" {
			properties[field].(object)["enum"] = []string{"inactive", "loaded", "launched"}
		}
	}
	return name
}

func property(t reflect.Type, schemas object) object {
	switch t.Kind() {
	case reflect.Pointer:
		return property(t.Elem(), schemas)
	case reflect.Struct:
		return object{"$ref": describe(t, schemas)}
	case reflect.Slice:
		return object{"type": "array", "items": property(t.Elem(), schemas)}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": property(t.Elem(), schemas)}
	case reflect.Int64:
		return object{"type": "integer", "format": "int64"}
	case reflect.Int:
		return object{"type": "integer", "format": "int32"}
	case reflect.Bool:
		return object{"type": "boolean"}
	}
	return object{"type": "string"}
}

// resources are the methods; names and ids are fleet's where fleet has them.
func resources() object {
	const nothing = ""
	query := func(names ...string) object {
		p := object{}
		for _, n := range names {
			p[n] = object{"type": "string", "location": "query"}
		}
		return p
	}
	in := func(name string) object {
		return object{name: object{"type": "string", "location": "path", "required": true}}
	}
	call := func(id, verb, path, about string, parameters object, request, response string) object {
		m := object{"id": "fleet." + id, "httpMethod": verb, "path": path, "description": about}
		if len(parameters) > 0 {
			m["parameters"] = parameters
		}
		var order []string
		for name, p := range parameters {
			if p.(object)["required"] == true {
				order = append(order, name)
			}
		}
		if order != nil {
			m["parameterOrder"] = order
		}
		if request != nothing {
			m["request"] = object{"$ref": request}
		}
		if response != nothing {
			m["response"] = object{"$ref": response}
		}
		return m
	}
	methods := func(m object) object { return object{"methods": m} }
	return object{
		"Machines": methods(object{
			"List":     call("Machine.List", "GET", "machines", "One page of the machines.", query("nextPageToken"), nothing, "MachinePage"),
			"Drain":    call("Machine.Drain", "PUT", "machines/{machineID}/drain", "Keep units from a machine.", in("machineID"), "Drain", nothing),
			"EndDrain": call("Machine.EndDrain", "DELETE", "machines/{machineID}/drain", "Let units come to a machine again.", in("machineID"), nothing, nothing),
		}),
		"UnitState": methods(object{
			"List": call("UnitState.List", "GET", "state", "One page of what machines say of units.", query("nextPageToken", "unitName", "machineID"), nothing, "UnitStatePage"),
			"Get":  call("UnitState.Get", "GET", "state/{unitName}", "What a machine says of a unit.", in("unitName"), nothing, "UnitState"),
		}),
		"Units": methods(object{
			"List":     call("Unit.List", "GET", "units", "One page of the units.", query("nextPageToken"), nothing, "UnitPage"),
			"Get":      call("Unit.Get", "GET", "units/{unitName}", "One unit.", in("unitName"), nothing, "Unit"),
			"Set":      call("Unit.Set", "PUT", "units/{unitName}", "Create, replace or direct a unit.", in("unitName"), "Unit", nothing),
			"Delete":   call("Unit.Delete", "DELETE", "units/{unitName}", "Destroy a unit.", in("unitName"), nothing, nothing),
			"Rollback": call("Unit.Rollback", "POST", "units/{unitName}/rollback", "Put back the content before the last rollout.", in("unitName"), nothing, nothing),
		}),
		"Plans": methods(object{
			"Plan":      call("Plan.Plan", "POST", "plan", "What would happen with these units.", nil, "PlanRequest", "Plan"),
			"Rebalance": call("Plan.Rebalance", "POST", "rebalance", "Move units so that machines have about as many.", query("dry_run"), nothing, "Plan"),
		}),
	}
}

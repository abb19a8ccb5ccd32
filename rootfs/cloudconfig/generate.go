package cloudconfig

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// options returns "KEY=value" for every option that is set in a section's
// struct, in the order of its fields. A value that would break the line it is
// written to is reported and left out.
func (c *compiler) options(field string, section any) []string {
	var values []string
	v := reflect.ValueOf(section)
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag
		env := tag.Get("env")
		if env == "" || v.Field(i).IsZero() {
			continue
		}
		value := fmt.Sprint(v.Field(i).Interface())
		if strings.ContainsAny(value, "\n\r\x00") {
			origin := v.FieldByName("Origin").Interface().(Origin)
			key := tag.Get("yaml")
			c.problem(origin.At(key), "%s.%s: the value has a line break; it is not set", field, key)
			continue
		}
		values = append(values, env+"="+value)
	}
	return values
}

// validOption tells whether a field of a section is unset or has a valid value.
func validOption(section any, name string) bool {
	field, _ := reflect.TypeOf(section).FieldByName(name)
	return validValue(reflect.ValueOf(section).FieldByName(name), field.Tag.Get("valid"))
}

func environmentDropIn(values []string) string {
	var b strings.Builder
	b.WriteString("[Service]\n")
	for _, value := range values {
		fmt.Fprintf(&b, "Environment=\"%s\"\n", value)
	}
	return b.String()
}

func oemRelease(oem OEM) string {
	return fmt.Sprintf("ID=%s\nVERSION_ID=%s\nNAME=%q\nHOME_URL=%q\nBUG_REPORT_URL=%q\n",
		oem.ID, oem.VersionID, oem.Name, oem.HomeURL, oem.BugReportURL)
}

// updateConf sets "KEY=value" lines in update.conf: in place where the key is,
// else at the end, sorted. Other lines stay.
func updateConf(base []byte, values []string) string {
	left := map[string]string{}
	for _, value := range values {
		key, _, _ := strings.Cut(value, "=")
		left[key] = value
	}
	var b strings.Builder
	for line := range strings.Lines(string(base)) {
		line = strings.TrimRight(line, "\r\n")
		key, _, _ := strings.Cut(line, "=")
		if value, ok := left[key]; ok {
			line = value
			delete(left, key)
		}
		b.WriteString(line + "\n")
	}
	for _, key := range slices.Sorted(maps.Keys(left)) {
		b.WriteString(left[key] + "\n")
	}
	return b.String()
}

func etcHosts(hostname string) string {
	hosts := "127.0.0.1 localhost\n::1 localhost\n"
	if hostname == "" || hostname == "localhost" {
		return hosts
	}
	return "127.0.0.1 " + hostname + "\n" + hosts
}

// Package gce reads the metadata server of Google Compute Engine, as Google's
// "About VM metadata" has it: one request for the instance and one for the
// project, as JSON.
//
// Every SSH key of the metadata lets its owner in as core, whatever user name
// stands before it, as on CoreOS. Left out on purpose: OS Login, startup-script
// (user-data is what this system reads), and waiting for changes.
package gce

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/userdata/imds"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

// Header must be in every request, and in every answer.
const (
	HeaderName  = "Metadata-Flavor"
	HeaderValue = "Google"
)

const (
	instancePath = "/computeMetadata/v1/instance/?recursive=true"
	projectPath  = "/computeMetadata/v1/project/attributes/?recursive=true"
)

type instance struct {
	Hostname          string            `json:"hostname"`
	Attributes        map[string]string `json:"attributes"`
	NetworkInterfaces []struct {
		IP            string   `json:"ip"`
		IPv6          []string `json:"ipv6"`
		AccessConfigs []struct {
			ExternalIP string `json:"externalIp"`
		} `json:"accessConfigs"`
		IPv6AccessConfigs []struct {
			ExternalIPv6 string `json:"externalIpv6"`
		} `json:"ipv6AccessConfigs"`
	} `json:"networkInterfaces"`
}

// Parse makes the result from the two documents; project is nil when there is
// none. Keys that are expired at now are left out.
func Parse(instanceJSON, projectJSON []byte, now time.Time) (platform.Result, error) {
	var r platform.Result
	var i instance
	if err := json.Unmarshal(instanceJSON, &i); err != nil {
		return r, fmt.Errorf("read GCE's instance metadata: %w", err)
	}
	project := map[string]string{}
	if projectJSON != nil {
		if err := json.Unmarshal(projectJSON, &project); err != nil {
			r.Fail(fmt.Errorf("read GCE's project metadata: %w", err))
		}
	}
	userData := []byte(i.Attributes["user-data"])
	if i.Attributes["user-data-encoding"] == "base64" {
		// Taken off by SetUserData, whose note is not for this.
		var plain platform.Result
		plain.SetUserData(userData)
		r.UserData = plain.UserData
	} else {
		r.SetUserData(userData)
	}
	r.SetHostname(i.Hostname)
	for _, n := range i.NetworkInterfaces {
		r.Private(n.IP)
		for _, access := range n.AccessConfigs {
			r.Public(access.ExternalIP)
		}
		for _, ip := range n.IPv6 {
			r.Sort(ip)
		}
		for _, access := range n.IPv6AccessConfigs {
			r.Public(access.ExternalIPv6)
		}
	}
	for _, list := range keyLists(i.Attributes, project) {
		for line := range strings.Lines(list) {
			addKey(&r, line, now)
		}
	}
	return r, nil
}

// keyLists returns the lists of keys that count: the instance's, and the
// project's unless the instance blocks them, or has the older sshKeys, which
// replaces them.
func keyLists(instance, project map[string]string) []string {
	lists := []string{instance["ssh-keys"]}
	if older, ok := instance["sshKeys"]; ok {
		return append(lists, older)
	}
	if strings.EqualFold(instance["block-project-ssh-keys"], "true") {
		return lists
	}
	return append(lists, project["ssh-keys"], project["sshKeys"])
}

// addKey takes a line "USER:KEY" or "USER:KEY google-ssh {JSON}", which may
// expire.
func addKey(r *platform.Result, line string, now time.Time) {
	line = strings.TrimSpace(line)
	if line == "" || strings.HasPrefix(line, "#") {
		return
	}
	user, key, found := strings.Cut(line, ":")
	if !found || strings.ContainsAny(user, " \t") {
		key = line
	}
	if key, details, found := strings.Cut(key, " google-ssh "); found {
		user, expires, err := parseLimit(details)
		switch {
		case err != nil:
			r.Notes = append(r.Notes, fmt.Sprintf("an SSH key of GCE is not taken, for it can not be told when it expires: %v", err))
		case now.Before(expires):
			r.AddKey(key + " " + user)
		}
		return
	}
	r.AddKey(key)
}

// expireFormat is how Google writes the time when a key expires.
const expireFormat = "2006-01-02T15:04:05-0700"

func parseLimit(text string) (user string, expires time.Time, err error) {
	var limit struct{ UserName, ExpireOn string }
	if err := json.Unmarshal([]byte(text), &limit); err != nil {
		return "", time.Time{}, err
	}
	for _, format := range []string{expireFormat, time.RFC3339} {
		if expires, err = time.Parse(format, limit.ExpireOn); err == nil {
			break
		}
	}
	return limit.UserName, expires, err
}

// Fetch asks the server.
func Fetch(ctx context.Context, c *imds.Client, now time.Time) (platform.Result, error) {
	header := map[string]string{HeaderName: HeaderValue}
	answer, err := c.Do(ctx, "GET", instancePath, header, nil)
	if err != nil {
		return platform.Result{}, err
	}
	if answer.Header.Get(HeaderName) != HeaderValue {
		return platform.Result{}, errors.New("the metadata server's answer lacks the header \"Metadata-Flavor: Google\", so it is not Google's; nothing of it is used")
	}
	project, projectErr := c.Do(ctx, "GET", projectPath, header, nil)
	if errors.Is(projectErr, imds.ErrNotFound) {
		projectErr = nil
	}
	r, err := Parse(answer.Body, project.Body, now)
	r.Fail(projectErr)
	return r, err
}

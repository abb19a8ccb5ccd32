// Package azure reads Azure's Instance Metadata Service and the provisioning
// CD, and tells the platform's fabric (the WireServer) that the machine is up,
// without which Azure gives a new machine up after some minutes. The documents
// are Microsoft's "Azure Instance Metadata Service" and "Creating generalized
// images without a provisioning agent".
//
// Custom data, which is what `az vm create --custom-data` and most tools hand
// over, is only on the CD; user data is in the metadata service and wins.
// Left out on purpose: extensions and everything else that Azure's own agent
// does, and passwords: the owner logs in with a key.
package azure

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"github.com/coracle-os/coracle/rootfs/userdata/imds"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

const (
	instancePath = "/metadata/instance?api-version=2021-02-01"
	balancerPath = "/metadata/loadbalancer?api-version=2020-10-01"
	// Environment is the file on the provisioning CD.
	Environment = "ovf-env.xml"
)

// Again are the statuses of the metadata service that Microsoft says to try
// again, besides 5xx and 429.
var again = []int{http.StatusGone}

type instance struct {
	Compute struct {
		Name      string
		UserData  string
		OSProfile struct{ ComputerName string }
		// PublicKeys have CR LF ends.
		PublicKeys []struct{ KeyData string }
	}
	Network struct {
		Interface []struct {
			IPv4, IPv6 struct {
				IPAddress []struct{ PrivateIPAddress, PublicIPAddress string }
			}
		}
	}
}

type balancer struct {
	LoadBalancer struct {
		PublicIPAddresses []struct{ FrontendIPAddress, PrivateIPAddress string }
	}
}

// Parse makes the result from the document of the instance, that of the load
// balancer (which has the public address of a machine behind one, nil when there
// is none), and the provisioning CD's (nil when there is none).
func Parse(instanceJSON, balancerJSON, environment []byte) (platform.Result, error) {
	r, errCD := ParseEnvironment(environment)
	r.Fail(errCD)
	if instanceJSON == nil {
		return r, nil
	}
	var i instance
	if err := json.Unmarshal(instanceJSON, &i); err != nil {
		return r, fmt.Errorf("read Azure's instance metadata: %w", err)
	}
	if text := strings.TrimSpace(i.Compute.UserData); text != "" {
		data, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			r.Fail(fmt.Errorf("read Azure's user data, which must be base64: %w", err))
		} else {
			if r.UserData != nil {
				r.Notes = append(r.Notes, "there is user data in the metadata service and custom data on the provisioning CD; the user data is used")
			}
			r.UserData = nil
			r.SetUserData(data)
		}
	}
	for _, name := range []string{i.Compute.Name, i.Compute.OSProfile.ComputerName} {
		r.SetHostname(name)
	}
	for _, key := range i.Compute.PublicKeys {
		for line := range strings.Lines(key.KeyData) {
			r.AddKey(line)
		}
	}
	for _, n := range i.Network.Interface {
		for _, a := range append(n.IPv4.IPAddress, n.IPv6.IPAddress...) {
			r.Private(a.PrivateIPAddress)
			r.Public(a.PublicIPAddress)
		}
	}
	if balancerJSON != nil {
		var b balancer
		if err := json.Unmarshal(balancerJSON, &b); err != nil {
			r.Notes = append(r.Notes, "the load balancer's metadata can not be read: "+err.Error())
		}
		for _, a := range b.LoadBalancer.PublicIPAddresses {
			r.Public(strings.Trim(a.FrontendIPAddress, "[]"))
		}
	}
	return r, nil
}

// ParseEnvironment reads the provisioning CD's document; nil is none.
func ParseEnvironment(data []byte) (platform.Result, error) {
	var r platform.Result
	if data == nil {
		return r, nil
	}
	var env struct {
		Section struct {
			Linux struct {
				HostName, CustomData string
				SSH                  struct {
					PublicKeys struct {
						PublicKey []struct{ Value string }
					}
				}
			} `xml:"LinuxProvisioningConfigurationSet"`
		} `xml:"ProvisioningSection"`
	}
	if err := xml.Unmarshal(data, &env); err != nil {
		return r, fmt.Errorf("read %s of the provisioning CD: %w", Environment, err)
	}
	linux := env.Section.Linux
	r.SetHostname(linux.HostName)
	for _, key := range linux.SSH.PublicKeys.PublicKey {
		for line := range strings.Lines(key.Value) {
			r.AddKey(line)
		}
	}
	text := strings.Join(strings.Fields(linux.CustomData), "")
	if text == "" {
		return r, nil
	}
	custom, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return r, fmt.Errorf("read the custom data in %s, which must be base64: %w", Environment, err)
	}
	r.SetUserData(custom)
	return r, nil
}

// Fetch asks the service, after cd has read the provisioning CD; its error is
// fs.ErrNotExist when there is no CD, as on later boots.
func Fetch(ctx context.Context, c *imds.Client, cd func(context.Context) ([]byte, error)) (platform.Result, error) {
	client := *c
	client.Again = again
	environment, errCD := cd(ctx)
	if errors.Is(errCD, fs.ErrNotExist) {
		errCD = nil
	}
	header := map[string]string{"Metadata": "true"}
	answer, err := client.Do(ctx, http.MethodGet, instancePath, header, nil)
	if err != nil && environment == nil {
		return platform.Result{}, errors.Join(err, errCD)
	}
	lb, errLB := client.Do(ctx, http.MethodGet, balancerPath, header, nil)
	if errLB != nil {
		lb.Body = nil // most machines have none, and the service says so in several ways
	}
	if err != nil {
		answer.Body = nil
	}
	r, errParse := Parse(answer.Body, lb.Body, environment)
	r.Fail(err)
	r.Fail(errCD)
	return r, errParse
}

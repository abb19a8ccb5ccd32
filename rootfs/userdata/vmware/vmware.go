// Package vmware reads guestinfo, the variables that VMware's hosts have for
// their machines: those of coreos-cloudinit, and userdata and metadata of
// cloud-init's VMware data source.
//
// The variables come through the port that VMware's own tools use. The protocol
// is here because the library for it (github.com/vmware/vmw-guestinfo) is no
// longer to be had; it is that of open-vm-tools, by the slower of its two ways,
// which every host has. Left out on purpose: the OVF environment, and setting
// variables.
package vmware

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/coracle-os/coracle/rootfs/userdata/netconfig"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

// Variables returns the variable guestinfo.KEY.
type Variables func(key string) (value string, found bool, err error)

// maxNumbered bounds how far numbered variables are looked for.
const maxNumbered = 32

// reader gathers what can not be read.
type reader struct {
	get      Variables
	r        platform.Result
	failures []error
}

func (v *reader) value(format string, args ...any) string {
	value, _, err := v.get(fmt.Sprintf(format, args...))
	if err != nil {
		v.failures = append(v.failures, err)
	}
	return value
}

// Parse makes the result from the variables. The error is that of a host that
// answers nothing.
func Parse(get Variables) (platform.Result, error) {
	if _, _, err := get("hostname"); err != nil {
		return platform.Result{}, err
	}
	v := &reader{get: get}
	v.userData()
	v.metaData()
	v.r.SetHostname(v.value("hostname"))
	v.network()
	v.r.Fail(errors.Join(v.failures...))
	return v.r, nil
}

func (v *reader) userData() {
	for _, key := range []string{"coreos.config.data", "userdata"} {
		if data := v.decoded(key); data != nil {
			v.r.SetUserData(data)
			return
		}
	}
	v.r.URL = strings.TrimSpace(v.value("coreos.config.url"))
}

// decoded returns a variable without the encoding that KEY.encoding names; gzip
// stays, for provisioning takes that off.
func (v *reader) decoded(key string) []byte {
	value := v.value("%s", key)
	if strings.TrimSpace(value) == "" || value == "---" { // what cloud-init puts there when it is done
		return nil
	}
	switch encoding := strings.ToLower(strings.TrimSpace(v.value("%s.encoding", key))); encoding {
	case "":
		return []byte(value)
	case "base64", "b64", "gzip+base64", "gz+base64", "gzip+b64", "gz+b64":
		data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(value), ""))
		if err != nil {
			v.failures = append(v.failures, fmt.Errorf("read guestinfo.%s as %s: %w", key, encoding, err))
			return nil
		}
		return data
	default:
		v.failures = append(v.failures, fmt.Errorf("read guestinfo.%s: encoding %.40q is not known; use base64 or gzip+base64", key, encoding))
		return nil
	}
}

// metaData reads cloud-init's variable, YAML or JSON.
func (v *reader) metaData() {
	data := v.decoded("metadata")
	if data == nil {
		return
	}
	var meta struct {
		LocalHostname string    `yaml:"local-hostname"`
		Hostname      string    `yaml:"hostname"`
		Keys          string    `yaml:"public-keys-data"`
		Network       yaml.Node `yaml:"network"`
	}
	if err := yaml.Unmarshal(data, &meta); err != nil {
		v.failures = append(v.failures, fmt.Errorf("read guestinfo.metadata: %w", err))
		return
	}
	v.r.SetHostname(meta.Hostname)
	v.r.SetHostname(meta.LocalHostname)
	for line := range strings.Lines(meta.Keys) {
		v.r.AddKey(line)
	}
	if meta.Network.Kind != yaml.MappingNode {
		return
	}
	var config netconfig.Config
	text, err := yaml.Marshal(&meta.Network)
	if err == nil {
		config, err = netconfig.ParseNoCloud(text)
	}
	if err != nil {
		v.r.Notes = append(v.r.Notes, err.Error()+"; the network is set up by DHCP")
		return
	}
	v.use(config)
	for _, l := range config.Links {
		for _, a := range l.Addresses {
			v.r.Sort(a.IP)
		}
	}
}

func (v *reader) use(config netconfig.Config) {
	files, notes := netconfig.Files(config)
	v.r.Network, v.r.Notes = files, append(v.r.Notes, notes...)
}

// network reads the variables of coreos-cloudinit.
func (v *reader) network() {
	var config netconfig.Config
	for n := range maxNumbered {
		link, any := v.link(n)
		if !any {
			break
		}
		config.Links = append(config.Links, link)
	}
	if len(config.Links) == 0 {
		return
	}
	servers, domains := v.numbered("dns.server.%d"), v.numbered("dns.domain.%d")
	for i := range config.Links {
		config.Links[i].DNS, config.Links[i].Domains = servers, domains
	}
	v.use(config)
}

func (v *reader) numbered(format string) (values []string) {
	for n := range maxNumbered {
		value := strings.TrimSpace(v.value(format, n))
		if value == "" {
			break
		}
		values = append(values, value)
	}
	return values
}

// link reads interface N; any is false when there is nothing about it.
func (v *reader) link(n int) (link netconfig.Link, any bool) {
	for m := range maxNumbered {
		address := strings.TrimSpace(v.value("interface.%d.ip.%d.address", n, m))
		if address == "" {
			break
		}
		link.Addresses = append(link.Addresses, netconfig.Address{IP: address})
		switch v.value("interface.%d.role", n) {
		case "public":
			v.r.Public(address)
		case "private":
			v.r.Private(address)
		default:
			v.r.Sort(address)
		}
	}
	for l := range maxNumbered {
		via := strings.TrimSpace(v.value("interface.%d.route.%d.gateway", n, l))
		to := strings.TrimSpace(v.value("interface.%d.route.%d.destination", n, l))
		if via == "" && to == "" {
			break
		}
		link.Routes = append(link.Routes, netconfig.Route{To: to, Via: via})
	}
	link.DHCP = v.value("interface.%d.dhcp", n) == "yes"
	if len(link.Addresses) == 0 && len(link.Routes) == 0 && !link.DHCP {
		return link, false
	}
	link.Name, link.MAC = v.value("interface.%d.name", n), v.value("interface.%d.mac", n)
	return link, true
}

// Fetch asks the host.
func Fetch(host Host) (platform.Result, error) {
	if !Present(host) {
		return platform.Result{}, errors.New("VMware's host does not answer at its port; user-data can come by cloud-config-url= or the OEM partition")
	}
	return Parse(func(key string) (string, bool, error) { return Get(host, "guestinfo."+key) })
}

// Package clouds writes, for clouds whose own tool uploads images best, the
// commands that do it, with the names and digests of the files that were built.
// What they print can be run as it is: `coracle publish gce ... | sh`.
//
// It runs nothing and asks nobody: the tools (gcloud, az, doctl, openstack) have
// their owner's credentials, which this program need not see.
package clouds

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// File is a built file with what its commands name.
type File struct {
	Path    string
	Name    string // of the image in the cloud, "coracle-0.1.0"
	Ending  string // of file names of the form, ".tar.gz"
	Size    int64
	SHA256  string // hex
	MD5     [md5.Size]byte
	Version string
}

// Digest reads a file's digests.
func Digest(r io.Reader) (size int64, sha string, md [md5.Size]byte, err error) {
	strong, weak := sha256.New(), md5.New()
	size, err = io.Copy(io.MultiWriter(strong, weak), r)
	if err != nil {
		return 0, "", md, fmt.Errorf("read image: %w", err)
	}
	return size, hex.EncodeToString(strong.Sum(nil)), [md5.Size]byte(weak.Sum(nil)), nil
}

// Target is where to publish: the names that only the owner knows.
type Target map[string]string

// Cloud is a platform with the form that it takes and the names that it needs.
type Cloud struct {
	Name, Summary string
	// Format and Ending are of the form: `coracle convert -format FORMAT`.
	Format, Ending string
	Needs          []Need
	lines          func(f File, t Target) []string
}

// Need is one name of a Target.
type Need struct{ Flag, Help string }

// All are all of them.
func All() []Cloud {
	return []Cloud{
		{"gce", "Google Compute Engine", "gce", ".tar.gz", []Need{
			{"bucket", "Cloud Storage bucket to upload to"}, {"project", "project of the image"}}, gce},
		{"azure", "Microsoft Azure", "vhd", ".vhd", []Need{
			{"resource-group", "resource group of the image"}, {"storage-account", "storage account to upload to"}, {"container", "container in it"}}, azure},
		{"digitalocean", "DigitalOcean", "qcow2", ".qcow2", []Need{
			{"space", "Space to upload to"}, {"region", "region of Space and image, such as fra1"}}, digitalOcean},
		{"openstack", "OpenStack", "qcow2", ".qcow2", nil, openStack},
	}
}

// Lines are the commands. The error names what is missing.
func (c Cloud) Lines(f File, t Target) ([]string, error) {
	for _, need := range c.Needs {
		if t[need.Flag] == "" {
			return nil, fmt.Errorf("publish %s: -%s is missing: the %s", c.Name, need.Flag, need.Help)
		}
	}
	head := []string{
		"set -e",
		fmt.Sprintf("echo %s | sha256sum --check", quote(f.SHA256+"  "+f.Path)),
	}
	return append(head, c.lines(f, t)...), nil
}

var plain = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// quote makes one word for a shell.
func quote(word string) string {
	if plain.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

func command(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = quote(w)
	}
	return strings.Join(quoted, " ")
}

// gceName is the image's name as Google wants it: lower case, digits, hyphens.
func gceName(name string) string {
	return strings.Trim(regexp.MustCompile(`[^a-z0-9-]+`).ReplaceAllString(strings.ToLower(name), "-"), "-")
}

func gce(f File, t Target) []string {
	object := "gs://" + t["bucket"] + "/" + f.Name + f.Ending
	return []string{
		command("gcloud", "storage", "cp", f.Path, object),
		command("gcloud", "compute", "images", "create", gceName(f.Name), "--project="+t["project"], "--source-uri="+object,
			"--architecture=X86_64", "--guest-os-features=UEFI_COMPATIBLE,GVNIC,VIRTIO_SCSI_MULTIQUEUE", "--family=coracle",
			"--description=Coracle "+f.Version+" sha256:"+f.SHA256),
	}
}

func azure(f File, t Target) []string {
	blob := f.Name + f.Ending
	return []string{
		command("az", "storage", "blob", "upload", "--auth-mode", "login", "--account-name", t["storage-account"], "--container-name", t["container"],
			"--name", blob, "--type", "page", "--file", f.Path, "--content-md5", base64.StdEncoding.EncodeToString(f.MD5[:])),
		command("az", "image", "create", "--resource-group", t["resource-group"], "--name", f.Name, "--os-type", "Linux", "--hyper-v-generation", "V2",
			"--source", "https://"+t["storage-account"]+".blob.core.windows.net/"+t["container"]+"/"+blob, "--tags", "sha256="+f.SHA256),
	}
}

func digitalOcean(f File, t Target) []string {
	host := t["region"] + ".digitaloceanspaces.com"
	object := f.Name + f.Ending
	return []string{
		command("s3cmd", "put", "--acl-public", "--host="+host, "--host-bucket=%(bucket)s."+host, f.Path, "s3://"+t["space"]+"/"+object),
		command("doctl", "compute", "image", "create", f.Name, "--region", t["region"], "--image-distribution", "Unknown",
			"--image-url", "https://"+t["space"]+"."+host+"/"+object, "--image-description", "Coracle "+f.Version+" sha256:"+f.SHA256),
	}
}

func openStack(f File, _ Target) []string {
	return []string{
		command("openstack", "image", "create", f.Name, "--file", f.Path, "--disk-format", "qcow2", "--container-format", "bare",
			"--property", "hw_firmware_type=uefi", "--property", "hw_machine_type=q35", "--property", "os_type=linux", "--property", "os_version="+f.Version,
			"--property", "sha256="+f.SHA256),
		`test "$(` + command("openstack", "image", "show", "--format", "value", "--column", "checksum", f.Name) + `)" = ` + hex.EncodeToString(f.MD5[:]),
	}
}

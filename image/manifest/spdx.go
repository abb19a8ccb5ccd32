package manifest

import (
	"bytes"
	"fmt"
	"net/url"
	"strings"

	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdx/v2/common"
)

// created is the time in the document. SPDX demands one; the build has none.
const created = "1970-01-01T00:00:01Z"

const imageID = common.ElementID("image")

// SPDX is the manifest as a software bill of materials in SPDX 2.3 (JSON): the
// image, which contains Debian packages and programs, which are made of modules.
// Licences are not looked into: the fields say NOASSERTION.
func (m Manifest) SPDX() ([]byte, error) {
	doc := &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT",
		DocumentName:      "coracle-" + m.Version,
		DocumentNamespace: "urn:coracle:" + m.Version + ":" + m.RootHash,
		CreationInfo: &spdx.CreationInfo{
			Created: created, Creators: []common.Creator{{CreatorType: "Tool", Creator: "coracle-build"}},
		},
	}
	relate := func(from common.ElementID, kind string, to common.ElementID) {
		doc.Relationships = append(doc.Relationships, &spdx.Relationship{
			RefA: common.DocElementID{ElementRefID: from}, RefB: common.DocElementID{ElementRefID: to}, Relationship: kind,
		})
	}
	image := newPackage(imageID, "coracle", m.Version, "")
	image.PrimaryPackagePurpose = "OPERATING-SYSTEM"
	for _, r := range m.Results {
		if r.Name == "coracle.raw" {
			image.PackageFileName = r.Name
			image.PackageChecksums = checksums(r.SHA256)
		}
	}
	doc.Packages = append(doc.Packages, image)
	relate("DOCUMENT", common.TypeRelationshipDescribe, imageID)
	for _, p := range m.Packages {
		element := elementID("deb", p.Suite, p.Name)
		item := newPackage(element, p.Name, p.Version,
			fmt.Sprintf("pkg:deb/debian/%s@%s?arch=%s&distro=%s", url.PathEscape(p.Name), url.QueryEscape(p.Version), p.Architecture, p.Suite))
		item.PackageChecksums = checksums(p.SHA256)
		item.PackageSourceInfo = "built by Debian from source package " + p.Source
		doc.Packages = append(doc.Packages, item)
		relate(imageID, common.TypeRelationshipContains, element)
	}
	known := map[common.ElementID]bool{}
	for _, p := range m.Programs {
		element := elementID("program", p.Name)
		item := newPackage(element, p.Name, m.Version, "")
		item.PackageFileName = "/" + p.Path
		item.PackageChecksums = checksums(p.SHA256)
		doc.Packages = append(doc.Packages, item)
		relate(imageID, common.TypeRelationshipContains, element)
		for _, module := range p.Modules {
			id := elementID("go", module.Path, module.Version)
			if !known[id] {
				known[id] = true
				doc.Packages = append(doc.Packages,
					newPackage(id, module.Path, module.Version, "pkg:golang/"+strings.ToLower(module.Path)+"@"+url.QueryEscape(module.Version)))
			}
			relate(element, "STATIC_LINK", id)
		}
	}
	var b bytes.Buffer
	if err := spdxjson.Write(doc, &b, spdxjson.Indent("  ")); err != nil {
		return nil, fmt.Errorf("write SBOM: %w", err)
	}
	return b.Bytes(), nil
}

func newPackage(id common.ElementID, name, version, locator string) *spdx.Package {
	p := &spdx.Package{
		PackageName: name, PackageSPDXIdentifier: id, PackageVersion: version,
		PackageDownloadLocation: "NOASSERTION", PackageLicenseConcluded: "NOASSERTION",
		PackageLicenseDeclared: "NOASSERTION", PackageCopyrightText: "NOASSERTION",
	}
	if locator != "" {
		p.PackageExternalReferences = []*spdx.PackageExternalReference{{
			Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: locator,
		}}
	}
	return p
}

func checksums(sha256 string) []common.Checksum {
	return []common.Checksum{{Algorithm: common.SHA256, Value: sha256}}
}

// elementID makes an identifier of letters, digits, dots and hyphens.
func elementID(parts ...string) common.ElementID {
	return common.ElementID(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-':
			return r
		}
		return '-'
	}, strings.Join(parts, "-")))
}

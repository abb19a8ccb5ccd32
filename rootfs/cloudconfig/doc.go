// Package cloudconfig reads user-data as CoreOS did and turns it into a plan:
// typed steps in the order in which they are applied, each with its reason and
// the line and column it comes from. It serves coreos-cloudinit on the machine and every
// check of a document elsewhere, and is pure: documents and facts in, plan and
// messages out.
//
// The specification is what coreos-cloudinit 1.14 does, recorded from the
// original running; testdata holds recorded cases and the test runs them.
//
// YAML is read with go.yaml.in/yaml/v3's node interface: it is the same libyaml
// port as the original's parser, so syntax messages agree word for word, it
// keeps line numbers and the raw text of scalars, which YAML 1.1 booleans
// (yes, off, y) and "a number given for a string becomes its text" need.
//
// Where the original has a defect we do something else:
//
//	original                                        here
//	YAML syntax error: whole document dropped       the damaged section or list entry is dropped, the rest applies
//	undecodable or unknown encoding: all dropped    that file is not written
//	bad reboot-strategy: apply stops before files   that key is left out, the rest applies
//	bad manage_etc_hosts: apply stops before files  that key is left out
//	no update.conf to start from: apply stops       begins with an empty file
//	bad permissions: apply stops at that file       the file is written, for root only (0600)
//	bad unit command: apply stops at it             that command is left out
//	GROUP also replaces a line GROUP_X=             only GROUP= is replaced
//	manage_etc_hosts leaves no localhost            localhost lines are written too (CoreOS had nss-myhostname)
//	relative or missing path, name with a slash     reported, that entry is left out
//	setuid bits in permissions are lost             they are set
//	line break in an option ends up in the unit     reported, that option is left out
//	/usrlocal counts as below /usr                  only /usr itself does
//	a key given twice: the last one wins, silently  the last one wins, with a warning
//	best-effort is no reboot strategy               it is one
//	syntax error in a tab reported one line early   reported at its line
//	the document is a list or text: silence         reported as a wrong type
//	a MIME multipart message: dropped               its parts apply (package multipart)
//	a user that leaves the document stays           one that the document made goes (package owned)
//	documents of any size                           at most 16 MiB and a million parts
//
// Left out on purpose: keys fetched from remote addresses
// (coreos_ssh_import_*: reported), Ignition (detected here, and left to others),
// and the conversion of Debian network configuration.
package cloudconfig

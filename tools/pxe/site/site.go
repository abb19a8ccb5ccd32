// Package site is what machines load from a boot server by HTTP: iPXE, the
// scripts, the PXE set, each machine's user-data. A machine is known by the
// address of its network card, which is part of the paths that it is given, so
// that the log says what was served to whom.
//
// With Install, machines install themselves; one that has done so (it says so)
// is started from its disk from then on, also after the server's restart. Left
// out on purpose: TLS and authentication: whoever can answer DHCP in a network
// decides what its machines start.
package site

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/coracle-os/coracle/image/pxe"
	"github.com/coracle-os/coracle/tools/pxe/answer"
)

// Site is the content of a boot server.
type Site struct {
	Dir      string   // with the PXE set
	Programs string   // directory with iPXE's boot programs
	Args     []string // kernel arguments for all machines
	// UserData is a file for all machines, or a directory with one for each,
	// named by its hardware address with dashes ("52-54-00-12-34-56"), or
	// "default"; ".yaml", ".yml", ".ign" and ".json" may follow. "" for none.
	UserData string
	Install  string // disk that machines install themselves on; "" for none
	Image    string // file that is installed in place of the running release; "" for that
	Record   string // file with the machines that have installed themselves
	// Log is called with what was served to whom.
	Log func(format string, args ...any)
	Now func() time.Time

	mu sync.Mutex // for Record
}

// Check tells before any machine asks whether all files are there.
func (s *Site) Check() error {
	for _, name := range pxe.Names() {
		if _, err := os.Stat(filepath.Join(s.Dir, name)); err != nil {
			return fmt.Errorf("%w; `coracle build -format pxe` makes the files", err)
		}
	}
	for _, name := range []string{answer.BIOSProgram, answer.UEFIProgram} {
		if _, err := os.Stat(filepath.Join(s.Programs, name)); err != nil {
			return fmt.Errorf("%w; install the Debian package ipxe (make setup does)", err)
		}
	}
	for _, name := range []string{s.UserData, s.Image} {
		if _, err := os.Stat(name); name != "" && err != nil {
			return err
		}
	}
	return nil
}

// Handler serves the site.
func (s *Site) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+answer.ScriptPath, s.first)
	mux.HandleFunc("GET /machine/{mac}/{file}", s.machine)
	for _, name := range []string{answer.BIOSProgram, answer.UEFIProgram} {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) {
			http.ServeFile(w, r, filepath.Join(s.Programs, name))
		})
	}
	for _, name := range pxe.Names() {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) {
			http.ServeFile(w, r, filepath.Join(s.Dir, name))
		})
	}
	return s.logged(mux)
}

// firstScript has iPXE say which machine it is.
const firstScript = "#!ipxe\nchain machine/${mac:hexhyp}/boot.ipxe\n"

func (s *Site) first(w http.ResponseWriter, r *http.Request) { text(w, firstScript) }

func text(w http.ResponseWriter, content string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprint(w, content)
}

// localScript starts the machine's own disk. UEFI takes the next boot option only
// after one that failed.
const localScript = "#!ipxe\necho Coracle is installed: starting the disk\niseq ${platform} efi && exit 1 ||\nsanboot --no-describe --drive 0x80 || exit 1\n"

// Names of files that are made for each machine.
const (
	bootName     = "boot.ipxe"
	userDataName = "user-data"
	imageName    = "image"
	reportName   = "installed"
)

// machine serves one machine's files.
func (s *Site) machine(w http.ResponseWriter, r *http.Request) {
	mac, err := net.ParseMAC(r.PathValue("mac"))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	switch file := r.PathValue("file"); file {
	case bootName:
		script, err := s.script(mac, "http://"+r.Host)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		text(w, script)
	case userDataName:
		content, err := s.userData(mac)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	case imageName:
		http.ServeFile(w, r, s.Image) // an empty name is not found
	case reportName:
		if err := s.installed(mac); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	default:
		http.NotFound(w, r)
	}
}

// script is what a machine boots.
func (s *Site) script(mac net.HardwareAddr, base string) (string, error) {
	own := base + "/machine/" + dashes(mac) + "/"
	args := append([]string{}, s.Args...)
	_, err := s.userData(mac)
	hasData := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if s.Install != "" {
		done, err := s.hasInstalled(mac)
		if err != nil {
			return "", err
		}
		if done {
			return localScript, nil
		}
		args = append(args, "coracle.install="+s.Install, "coracle.report="+own+reportName)
		if hasData {
			args = append(args, "coracle.config="+own+userDataName)
		}
		if s.Image != "" {
			args = append(args, "coracle.image="+own+imageName)
		}
	} else if hasData {
		args = append(args, "cloud-config-url="+own+userDataName)
	}
	return fmt.Sprintf("#!ipxe\nset %s %s\nchain %s/%s\n", pxe.ArgumentsVariable, strings.Join(args, " "), base, pxe.ScriptName), nil
}

func dashes(mac net.HardwareAddr) string { return strings.ReplaceAll(mac.String(), ":", "-") }

// userData reads a machine's user-data; fs.ErrNotExist if it has none.
func (s *Site) userData(mac net.HardwareAddr) ([]byte, error) {
	if s.UserData == "" {
		return nil, fs.ErrNotExist
	}
	info, err := os.Stat(s.UserData)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return os.ReadFile(s.UserData)
	}
	for _, name := range []string{dashes(mac), "default"} {
		for _, end := range []string{"", ".yaml", ".yml", ".ign", ".json"} {
			content, err := os.ReadFile(filepath.Join(s.UserData, name+end))
			if !errors.Is(err, fs.ErrNotExist) {
				return content, err
			}
		}
	}
	return nil, fs.ErrNotExist
}

func (s *Site) hasInstalled(mac net.HardwareAddr) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	content, err := os.ReadFile(s.Record)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	for line := range strings.Lines(string(content)) {
		if first, _, _ := strings.Cut(strings.TrimSpace(line), " "); first == mac.String() {
			return true, nil
		}
	}
	return false, nil
}

// installed records that a machine has installed itself.
func (s *Site) installed(mac net.HardwareAddr) error {
	if done, err := s.hasInstalled(mac); done || err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := os.OpenFile(s.Record, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s %s\n", mac, s.Now().UTC().Format(time.RFC3339))
	return errors.Join(err, f.Sync(), f.Close())
}

// counted is an answer that is counted.
type counted struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (c *counted) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.bytes += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (s *Site) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &counted{ResponseWriter: w, status: http.StatusOK}
		start := s.Now()
		next.ServeHTTP(c, r)
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		s.Log("http %s: %s: %d, %d bytes in %s", host, r.URL.Path, c.status, c.bytes, s.Now().Sub(start).Round(time.Millisecond))
	})
}

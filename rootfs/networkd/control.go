package networkd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/lease"
)

// Socket is where the daemon takes wishes: one line of words, answered by one
// line that is "ok" or says what is wrong. Root only.
const Socket = "/run/systemd/netif/control"

// wish is what somebody wants the loop to do.
type wish struct {
	words  []string
	answer chan error
}

// patience bounds a wish, for both sides.
const patience = 30 * time.Second

// Ask gives the daemon a wish and waits until it is taken up: "reload";
// "reconfigure", "renew" or "forcerenew" with the names of interfaces.
func Ask(socket string, words ...string) error {
	conn, err := net.DialTimeout("unix", socket, patience)
	if err != nil {
		return fmt.Errorf("ask systemd-networkd: %w; is it running? See systemctl status systemd-networkd", err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintln(conn, strings.Join(words, " ")); err != nil {
		return fmt.Errorf("ask systemd-networkd: %w", err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return fmt.Errorf("ask systemd-networkd: %w", err)
	}
	if line = strings.TrimSpace(line); line != "ok" {
		return errors.New(line)
	}
	return nil
}

// listen takes wishes until ctx ends.
func (d *networkDaemon) listen(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(d.paths.Control), 0o755); err != nil {
		return fmt.Errorf("listen for wishes: %w", err)
	}
	os.Remove(d.paths.Control)
	listener, err := net.Listen("unix", d.paths.Control)
	if err != nil {
		return fmt.Errorf("listen for wishes: %w", err)
	}
	if err := os.Chmod(d.paths.Control, 0o600); err != nil {
		listener.Close()
		return fmt.Errorf("listen for wishes: %w", err)
	}
	context.AfterFunc(ctx, func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go d.answer(ctx, conn)
		}
	}()
	return nil
}

func (d *networkDaemon) answer(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	line, err := bufio.NewReaderSize(conn, 4096).ReadSlice('\n')
	if err != nil {
		return
	}
	w := &wish{words: strings.Fields(string(line)), answer: make(chan error, 1)}
	select {
	case d.events <- event{wish: w}:
	case <-ctx.Done():
		return
	}
	text := "ok"
	select {
	case err := <-w.answer:
		if err != nil {
			text = strings.ReplaceAll(err.Error(), "\n", "; ")
		}
	case <-ctx.Done():
		text = "the daemon ends"
	}
	fmt.Fprintln(conn, text)
}

// grant does what somebody wishes.
func (d *networkDaemon) grant(words []string) error {
	if len(words) == 0 {
		return errors.New("nothing was asked for")
	}
	if words[0] == "reload" {
		d.load()
		return nil
	}
	if len(words) == 1 {
		return fmt.Errorf("%s: name an interface", words[0])
	}
	for _, name := range words[1:] {
		found := d.chosen(name)
		if len(found) == 0 {
			return fmt.Errorf("interface %q is not managed; see networkctl list", name)
		}
		for _, m := range found {
			if err := d.change(words[0], m); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *networkDaemon) change(verb string, m *managed) error {
	switch verb {
	case "renew":
		// Whether the lease still holds is asked; until there is an answer it does.
		for _, s := range []*session{&m.dhcp4, &m.dhcp6} {
			if s.stop == nil {
				continue
			}
			select {
			case s.again <- struct{}{}:
			default:
			}
		}
	case "reconfigure", "forcerenew":
		m.setUp = false
		for _, s := range []*session{&m.dhcp4, &m.dhcp6} {
			s.end()
			if s.machine.State != lease.Init && s.machine.State != "" {
				s.machine.LinkUp()
			}
		}
		m.deafen()
	default:
		return fmt.Errorf("%q is not known", verb)
	}
	return nil
}

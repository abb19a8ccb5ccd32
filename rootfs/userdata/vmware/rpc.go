package vmware

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// registers are what a call hands to the host and gets from it.
type registers struct{ ax, bx, cx, dx, si, di uint32 }

// Host is one call of the host by way of the port.
type Host func(*registers)

// The protocol, in the words of open-vm-tools' backdoor_def.h and message.c.
const (
	magic      = 0x564D5868 // "VMXh"
	port       = 0x5658
	cmdVersion = 10
	cmdMessage = 30
	protocol   = 0x49435052 // "RPCI"
	cookies    = 0x80000000

	typeOpen, typeSendSize, typeSend    = 0, 1, 2
	typeReceiveSize, typeReceive        = 3, 4
	typeReceiveStatus, typeClose        = 5, 6
	statusSuccess, statusHasMessage     = 1, 2
	statusCheckpoint                    = 16
	maxReply                            = 4 << 20
	checkpointTries                     = 3
	prefixFound, prefixMissing, infoGet = "1 ", "0 ", "info-get "
)

// errCheckpoint says that the host was suspended or moved in the middle.
var errCheckpoint = errors.New("the host was interrupted")

// channel is an open connection to the host.
type channel struct {
	host   Host
	id     uint32
	si, di uint32
}

// Present asks whether a host answers at all.
func Present(host Host) bool {
	r := registers{ax: magic, bx: ^uint32(magic), cx: cmdVersion, dx: port}
	host(&r)
	return r.bx == magic && r.ax != ^uint32(0)
}

func (c *channel) call(kind, bx uint32) (registers, error) {
	r := registers{ax: magic, bx: bx, cx: kind<<16 | cmdMessage, dx: c.id<<16 | port, si: c.si, di: c.di}
	c.host(&r)
	switch status := r.cx >> 16; {
	case status&statusSuccess != 0:
		return r, nil
	case status&statusCheckpoint != 0:
		return r, errCheckpoint
	default:
		return r, fmt.Errorf("the host refuses message %d with status %#x", kind, status)
	}
}

func open(host Host) (*channel, error) {
	var err error
	for _, flag := range []uint32{cookies, 0} {
		c := &channel{host: host}
		var r registers
		if r, err = c.call(typeOpen, protocol|flag); err == nil {
			c.id, c.si, c.di = r.dx>>16, r.si, r.di
			return c, nil
		}
	}
	return nil, fmt.Errorf("open a channel to VMware's host: %w", err)
}

func (c *channel) close() { _, _ = c.call(typeClose, 0) }

func (c *channel) send(message string) error {
	if _, err := c.call(typeSendSize, uint32(len(message))); err != nil {
		return err
	}
	for data := []byte(message); len(data) > 0; {
		var word [4]byte
		data = data[copy(word[:], data):]
		if _, err := c.call(typeSend, binary.LittleEndian.Uint32(word[:])); err != nil {
			return err
		}
	}
	return nil
}

func (c *channel) receive() ([]byte, error) {
	r, err := c.call(typeReceiveSize, 0)
	if err != nil {
		return nil, err
	}
	if r.cx>>16&statusHasMessage == 0 || r.dx>>16 != typeSendSize {
		return nil, errors.New("the host does not reply")
	}
	size := int(r.bx)
	if size > maxReply {
		return nil, fmt.Errorf("the host's reply has %d bytes; at most %d are read", size, maxReply)
	}
	var reply bytes.Buffer
	for reply.Len() < size {
		r, err := c.call(typeReceive, statusSuccess)
		if err != nil {
			return nil, err
		}
		if r.dx>>16 != typeSend {
			return nil, errors.New("the host's reply breaks off")
		}
		var word [4]byte
		binary.LittleEndian.PutUint32(word[:], r.bx)
		reply.Write(word[:min(4, size-reply.Len())])
	}
	_, err = c.call(typeReceiveStatus, statusSuccess)
	return reply.Bytes(), err
}

// Get returns a variable of the host's, such as "guestinfo.hostname". A
// variable that is not set is not found and no error.
func Get(host Host, key string) (value string, found bool, err error) {
	for range checkpointTries {
		var reply []byte
		reply, err = ask(host, infoGet+key)
		switch text := string(reply); {
		case errors.Is(err, errCheckpoint):
			continue
		case err != nil:
			return "", false, fmt.Errorf("read %s: %w", key, err)
		case strings.HasPrefix(text, prefixFound):
			return strings.TrimPrefix(text, prefixFound), true, nil
		case strings.HasPrefix(text, prefixMissing):
			return "", false, nil
		default:
			return "", false, fmt.Errorf("read %s: the host replies %.80q", key, text)
		}
	}
	return "", false, fmt.Errorf("read %s: %w", key, err)
}

func ask(host Host, message string) ([]byte, error) {
	c, err := open(host)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if err := c.send(message); err != nil {
		return nil, err
	}
	return c.receive()
}

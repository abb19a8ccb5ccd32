package journal

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// StreamHeader is what a client of the stdout socket sends first, one line for
// each field, and what the lines after it are logged as.
type StreamHeader struct {
	Identifier  string // SYSLOG_IDENTIFIER, "" = the writer's name
	Unit        string // unit of the writer, believed only from root
	Priority    int    // level (0..7) of a line without a prefix, plus 8 * facility
	LevelPrefix bool   // "<3>text" sets the level of a line
	ToSyslog    bool   // accepted, and without effect: nothing listens
	ToKmsg      bool   // accepted, and without effect
	ToConsole   bool   // lines also go to the console
}

// headerLines is how many lines the header has.
const headerLines = 7

// MaxHeader bounds the bytes of a header, so that a client that never sends a
// newline costs nothing.
const MaxHeader = 4096

// String returns the header as it is sent.
func (h StreamHeader) String() string {
	bit := map[bool]string{false: "0\n", true: "1\n"}
	return h.Identifier + "\n" + h.Unit + "\n" + strconv.Itoa(h.Priority) + "\n" +
		bit[h.LevelPrefix] + bit[h.ToSyslog] + bit[h.ToKmsg] + bit[h.ToConsole]
}

// ErrShortHeader says that more bytes must come before the header is whole.
var ErrShortHeader = errors.New("stream header is not whole yet")

// ParseStreamHeader reads the header at the front of data and returns what
// follows it.
func ParseStreamHeader(data string) (h StreamHeader, rest string, err error) {
	lines := strings.SplitN(data, "\n", headerLines+1)
	if len(lines) <= headerLines {
		if len(data) > MaxHeader {
			return h, "", fmt.Errorf("stream header: no %d lines in the first %d bytes", headerLines, MaxHeader)
		}
		return h, "", ErrShortHeader
	}
	h.Identifier, h.Unit = lines[0], lines[1]
	if h.Priority, err = strconv.Atoi(lines[2]); err != nil || h.Priority < 0 || h.Priority > 23*8+7 {
		return h, "", fmt.Errorf("stream header: priority %q is not a number from 0 to 191", lines[2])
	}
	for i, flag := range []*bool{&h.LevelPrefix, &h.ToSyslog, &h.ToKmsg, &h.ToConsole} {
		switch lines[3+i] {
		case "0", "no", "false":
		case "1", "yes", "true":
			*flag = true
		default:
			return h, "", fmt.Errorf("stream header: line %d is %q, not 0 or 1", 4+i, lines[3+i])
		}
	}
	return h, lines[headerLines], nil
}

// CutPriority takes a "<N>" prefix off a line. ok is false when there is none.
// priority has the facility in its upper bits.
func CutPriority(line string) (priority int, rest string, ok bool) {
	if len(line) < 3 || line[0] != '<' {
		return 0, line, false
	}
	end := strings.IndexByte(line, '>')
	if end < 2 || end > 4 {
		return 0, line, false
	}
	n, err := strconv.ParseUint(line[1:end], 10, 16)
	if err != nil || n > 1023 {
		return 0, line, false
	}
	return int(n), line[end+1:], true
}

// Syslog is a line of /dev/log.
type Syslog struct {
	Priority, Facility       int
	Identifier, PID, Message string
	Timestamp                string // as sent, with the space after it; "" if none
	Raw                      string // all of it, if the parts above do not give it back; else ""
}

const space = " \t\n\r"

// ParseSyslog reads "<PRI>Mmm dd hh:mm:ss ident[pid]: text"; every part but the
// text may be missing. White space around it and what follows a NUL are cut
// off, as journald does, and then Raw keeps the whole line.
func ParseSyslog(line string) Syslog {
	s := Syslog{Priority: Info, Facility: 1}
	raw := line
	line, _, _ = strings.Cut(strings.TrimRight(line, "\x00"), "\x00")
	line = strings.TrimLeft(strings.TrimRight(line, space), space)
	whole := line == raw
	if n, rest, ok := CutPriority(line); ok {
		s.Priority, s.Facility, line = n&7, n>>3, rest
	}
	if len(line) >= 16 && isStamp(line[:16]) {
		s.Timestamp, line = line[:16], line[16:]
	} else {
		whole = false
	}
	s.Identifier, s.PID, s.Message = cutIdentifier(line)
	if !whole {
		s.Raw = raw
	}
	return s
}

// isStamp recognises "Nov 21 01:02:03 ".
func isStamp(s string) bool {
	for i, class := range "Aaa nN NN:NN:NN " {
		c := s[i]
		digit, letter := c >= '0' && c <= '9', c|0x20 >= 'a' && c|0x20 <= 'z'
		switch class {
		case 'A', 'a':
			if !letter {
				return false
			}
		case 'n':
			if !digit && c != ' ' {
				return false
			}
		case 'N':
			if !digit {
				return false
			}
		default:
			if c != byte(class) {
				return false
			}
		}
	}
	return true
}

// cutIdentifier splits "ident[pid]: text", "ident: text" or plain "text".
func cutIdentifier(line string) (identifier, pid, message string) {
	start := strings.TrimLeft(line, space)
	end := strings.IndexAny(start, space)
	if end < 0 {
		end = len(start)
	}
	name, ok := strings.CutSuffix(start[:end], ":")
	if !ok {
		return "", "", line
	}
	if message = start[end:]; message != "" {
		message = message[1:]
	}
	if open := strings.LastIndexByte(name, '['); open >= 0 && strings.HasSuffix(name, "]") {
		return name[:open], name[open+1 : len(name)-1], message
	}
	return name, "", message
}

// Kmsg is a record of /dev/kmsg.
type Kmsg struct {
	Priority, Facility int
	Seq                uint64 // the kernel's number of the record
	Monotonic          uint64 // microseconds since boot
	Message            string
	Identifier, PID    string  // of a process that wrote to /dev/kmsg
	Fields             []Field // _KERNEL_SUBSYSTEM, _KERNEL_DEVICE and the like
}

// ParseKmsg reads one record: "prio,seq,usec,flags[,...];text\n KEY=value\n".
func ParseKmsg(data string) (k Kmsg, err error) {
	head, text, ok := strings.Cut(data, ";")
	parts := strings.Split(head, ",")
	if !ok || len(parts) < 3 {
		return k, fmt.Errorf("kernel record %.40q: expected priority,number,microseconds,flags;text", data)
	}
	priority, err1 := strconv.ParseUint(parts[0], 10, 16)
	seq, err2 := strconv.ParseUint(parts[1], 10, 64)
	usec, err3 := strconv.ParseUint(parts[2], 10, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return k, fmt.Errorf("kernel record %.40q: %w", data, err)
	}
	k.Priority, k.Facility, k.Seq, k.Monotonic = int(priority&7), int(priority>>3), seq, usec
	text, tags, _ := strings.Cut(text, "\n")
	k.Message = unescapeKmsg(text)
	for line := range strings.Lines(tags) {
		name, value, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(line, " "), "\n"), "=")
		if ok && (name == "SUBSYSTEM" || name == "DEVICE") {
			k.Fields = append(k.Fields, Field{"_KERNEL_" + name, unescapeKmsg(value)})
		}
	}
	if k.Facility == 0 {
		k.Identifier = "kernel"
	} else {
		k.Identifier, k.PID, k.Message = cutIdentifier(k.Message)
	}
	return k, nil
}

// unescapeKmsg replaces the kernel's \xHH.
func unescapeKmsg(s string) string {
	if !strings.Contains(s, `\x`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if strings.HasPrefix(s[i:], `\x`) && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

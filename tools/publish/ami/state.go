package ami

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
)

// header is the first line of a state file: whose state it is.
type header struct {
	Region   string `json:"region"`
	Name     string `json:"name"`
	Digest   string `json:"digest"` // of the plan
	Snapshot string `json:"snapshot"`
}

// state is how far a snapshot is. Its file is only ever appended to: the header,
// then the index of each block that EBS has, then "complete". A line that a
// crash cut off is not taken, and its block is sent again, which changes nothing.
type state struct {
	header
	done     map[int32]bool
	complete bool

	mu   sync.Mutex
	file *os.File
}

const completeLine = "complete"

// loadState reads the state of the same image, name and region; the state of
// anything else is none.
func loadState(path string, want header) (*state, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	whole := string(data)
	if i := strings.LastIndexByte(whole, '\n'); i >= 0 {
		whole = whole[:i+1]
	} else {
		whole = ""
	}
	lines := bufio.NewScanner(strings.NewReader(whole))
	s := &state{done: map[int32]bool{}}
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &s.header) != nil {
		return nil, nil
	}
	want.Snapshot = s.Snapshot
	if s.header != want || s.Snapshot == "" {
		return nil, nil
	}
	for lines.Scan() {
		if lines.Text() == completeLine {
			s.complete = true
			continue
		}
		index, err := strconv.ParseInt(lines.Text(), 10, 32)
		if err != nil {
			return nil, nil
		}
		s.done[int32(index)] = true
	}
	// What a crash cut off goes.
	if err := os.Truncate(path, int64(len(whole))); err != nil {
		return nil, fmt.Errorf("mend state: %w", err)
	}
	s.file, err = os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	return s, nil
}

// newState begins a state file.
func newState(path string, h header) (*state, error) {
	data, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("begin state: %w", err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("begin state: %w", err)
	}
	s := &state{header: h, done: map[int32]bool{}, file: file}
	return s, s.append(string(data))
}

func (s *state) append(line string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.file.WriteString(line + "\n"); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

func (s *state) close() { s.file.Close() }

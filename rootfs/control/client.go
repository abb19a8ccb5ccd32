package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
)

// Client talks to PID 1. The zero value uses SocketPath.
type Client struct {
	Path string
}

// Do sends one request and calls each for every response, the last one too.
// The error of the request as a whole is returned as an *Error. each may be
// nil. When PID 1 is executed anew meanwhile, Do asks the new copy for what is
// left; only Watch ends with an error then.
func (c Client) Do(ctx context.Context, req Request, each func(Response) error) error {
	for {
		var left []string // jobs that the next copy has to tell the end of
		any := false
		err := c.once(ctx, req, func(r Response) error {
			if r.Error != nil && r.Error.Code == Again {
				return nil
			}
			if r.Jobs != nil && req.Verb != ListJobs {
				for _, j := range r.Jobs {
					left = append(left, strconv.Itoa(j.ID))
				}
				return nil
			}
			any = any || !r.Done
			if each == nil {
				return nil
			}
			return each(r)
		})
		if e := (*Error)(nil); !errors.As(err, &e) || e.Code != Again || req.Verb == Watch {
			return err
		}
		switch {
		case len(left) > 0:
			req = Request{Verb: WaitJobs, Units: left}
		case req.Verb == DaemonReexec:
			req, each = Request{Verb: IsSystemRunning}, nil
		case any:
			return err // what was told already cannot be taken back
		}
	}
}

// once sends one request to the copy of PID 1 that listens now.
func (c Client) once(ctx context.Context, req Request, each func(Response) error) error {
	path := c.Path
	if path == "" {
		path = SocketPath
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("connect to PID 1: %w: is Coracle's init running here?", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := json.NewEncoder(conn).Encode(req); err != nil {
		return fmt.Errorf("send request to PID 1: %w", err)
	}
	err = receive(bufio.NewReaderSize(conn, 64<<10), each)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func receive(r *bufio.Reader, each func(Response) error) error {
	dec := json.NewDecoder(r)
	for {
		var resp Response
		if err := dec.Decode(&resp); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("read answer of PID 1: %w", err)
		}
		if each != nil {
			if err := each(resp); err != nil {
				return err
			}
		}
		switch {
		case resp.Error != nil:
			return resp.Error
		case resp.Done:
			return nil
		}
	}
}

// Collect sends one request and returns all responses as one.
func (c Client) Collect(ctx context.Context, req Request) (Response, error) {
	var all Response
	err := c.Do(ctx, req, func(r Response) error {
		all.Units = append(all.Units, r.Units...)
		all.Jobs = append(all.Jobs, r.Jobs...)
		all.Results = append(all.Results, r.Results...)
		all.Warnings = append(all.Warnings, r.Warnings...)
		if r.State != "" {
			all.State = r.State
		}
		return nil
	})
	return all, err
}

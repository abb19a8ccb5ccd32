package overlay

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"
)

// The programs of containers in tests: TCP over the overlay. port is theirs.
const port = "7777"

// runEcho sends everything back, or takes it in and says how much it was when
// the peer has sent all: the first byte of a connection tells which.
func runEcho(address string) int {
	l, err := net.Listen("tcp", net.JoinHostPort(address, port))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return 1
		}
		go func() {
			defer conn.Close()
			kind := make([]byte, 1)
			if _, err := io.ReadFull(conn, kind); err != nil {
				return
			}
			if kind[0] == 'e' {
				io.Copy(conn, conn)
				return
			}
			n, _ := io.Copy(io.Discard, conn)
			fmt.Fprintln(conn, n)
		}()
	}
}

// runHold keeps one connection to address, and prints how many times something
// came back over it; it ends when the connection does.
func runHold(address string) int {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(address, port), 5*time.Second)
	if err != nil {
		fmt.Println("no connection:", err)
		return 1
	}
	b := []byte("e")
	if _, err := conn.Write(b); err != nil {
		return 1
	}
	for n := 1; ; n++ {
		if _, err := conn.Write(b); err != nil {
			fmt.Println("lost:", err)
			return 1
		}
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.ReadFull(conn, b); err != nil {
			fmt.Println("lost:", err)
			return 1
		}
		fmt.Println("back", n)
		time.Sleep(50 * time.Millisecond)
	}
}

// runStream measures for a second: kind "throughput" prints bytes per second,
// "latency" the mean nanoseconds there and back of one byte.
func runStream(kind, address string) int {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(address, port), 5*time.Second)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer conn.Close()
	const limit = time.Second
	began := time.Now()
	if kind == "latency" {
		conn.Write([]byte("e"))
		b, n := make([]byte, 1), 0
		for began = time.Now(); time.Since(began) < limit; n++ {
			if _, err := conn.Write(b); err != nil {
				return 1
			}
			if _, err := io.ReadFull(conn, b); err != nil {
				return 1
			}
		}
		fmt.Println(float64(time.Since(began)) / float64(n))
		return 0
	}
	conn.Write([]byte("s"))
	block := make([]byte, 128<<10)
	for began = time.Now(); time.Since(began) < limit; {
		if _, err := conn.Write(block); err != nil {
			return 1
		}
	}
	conn.(*net.TCPConn).CloseWrite()
	text, err := io.ReadAll(conn)
	if err != nil {
		return 1
	}
	n, err := strconv.Atoi(string(text[:max(len(text)-1, 0)]))
	if err != nil {
		return 1
	}
	fmt.Println(float64(n) / time.Since(began).Seconds())
	return 0
}

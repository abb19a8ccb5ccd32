// Command web is the page of the demonstration cluster: it says where it runs.
// It is the only file of the container image that `coracle cluster up` gives to
// the machines, so that the tour needs no registry.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	machine := os.Getenv("MACHINE")
	server := http.Server{Addr: ":80", ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		here := ""
		if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
			here, _, _ = net.SplitHostPort(a.String())
		}
		fmt.Fprintf(w, "Hello from a container on %s, at %s\n", machine, here)
	})}
	log.Fatal(server.ListenAndServe())
}

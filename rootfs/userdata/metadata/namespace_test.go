package metadata

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"

	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

// The program itself is run where its addresses are: this test program starts
// itself in a network namespace of its own, whose loopback interface has them.
// Root and iproute2 are needed.

const roleVariable = "METADATA_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) != "" {
		if err := inNamespace(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestRealAddresses(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const script = `ip link set lo up && ip address add 169.254.169.254/32 dev lo && ip address add 168.63.129.16/32 dev lo && exec "$0"`
	cmd := exec.CommandContext(t.Context(), "unshare", "--net", "sh", "-c", script, self)
	cmd.Env = append(os.Environ(), roleVariable+"=1", "http_proxy=http://192.0.2.1:3128")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// inNamespace asks every platform's service by its real address, by way of the
// program's Main.
func inNamespace() error {
	t := &testing.T{}
	wire, err := net.Listen("tcp", "168.63.129.16:80")
	if err != nil {
		return err
	}
	azure := &cloud{t: t, userData: plainUserData}
	go http.Serve(wire, azure.handler(platform.Azure))
	for name, want := range platforms {
		listener, err := net.Listen("tcp", "169.254.169.254:80")
		if err != nil {
			return err
		}
		server := &http.Server{Handler: (&cloud{t: t, userData: plainUserData}).handler(name)}
		go server.Serve(listener)
		var out, problems bytes.Buffer
		code := Main(context.Background(), []string{platform.Program, string(name)}, program.Stdio{Out: &out, Err: &problems})
		server.Close()
		var r platform.Result
		err = json.Unmarshal(out.Bytes(), &r)
		if code != 0 || err != nil || string(r.UserData) != plainUserData || r.Metadata.Addresses != want.Metadata.Addresses {
			return fmt.Errorf("%s: exit %d, %v: %s%s", name, code, err, &out, &problems)
		}
	}
	var problems bytes.Buffer
	code := Main(context.Background(), []string{platform.Program, "-ready", "azure"}, program.Stdio{Out: &bytes.Buffer{}, Err: &problems})
	if code != 0 || len(azure.reports) != 1 || t.Failed() {
		return fmt.Errorf("report: exit %d, %d reports: %s", code, len(azure.reports), &problems)
	}
	return nil
}

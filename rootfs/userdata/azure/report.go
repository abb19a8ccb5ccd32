package azure

import (
	"context"
	"encoding/xml"
	"fmt"
	"net/http"

	"github.com/coracle-os/coracle/rootfs/userdata/imds"
)

// WireServer is the address of the fabric, the same in all of Azure.
const WireServer = "http://168.63.129.16"

// Identity is whom a report is about.
type Identity struct{ Incarnation, Container, Instance string }

// ParseGoalState reads the identity from the fabric's document.
func ParseGoalState(data []byte) (Identity, error) {
	var state struct {
		Incarnation string
		Container   struct {
			ContainerId      string
			RoleInstanceList struct {
				RoleInstance []struct{ InstanceId string }
			}
		}
	}
	if err := xml.Unmarshal(data, &state); err != nil {
		return Identity{}, fmt.Errorf("read Azure's goal state: %w", err)
	}
	roles := state.Container.RoleInstanceList.RoleInstance
	if len(roles) == 0 || state.Container.ContainerId == "" || state.Incarnation == "" {
		return Identity{}, fmt.Errorf("read Azure's goal state: it names no machine: %.200q", data)
	}
	return Identity{state.Incarnation, state.Container.ContainerId, roles[0].InstanceId}, nil
}

// health is the report, whose elements the fabric wants in this order.
type health struct {
	XMLName     xml.Name `xml:"Health"`
	Incarnation string   `xml:"GoalStateIncarnation"`
	Container   string   `xml:"Container>ContainerId"`
	Instance    string   `xml:"Container>RoleInstanceList>Role>InstanceId"`
	State       string   `xml:"Container>RoleInstanceList>Role>Health>State"`
	Details     *details `xml:"Container>RoleInstanceList>Role>Health>Details,omitempty"`
}

type details struct{ SubStatus, Description string }

// maxDescription is how much of a failure's reason the fabric takes, in bytes.
const maxDescription = 512

// Report is the document that says that a machine is ready or, with a failure,
// that and why its provisioning failed.
func Report(id Identity, failure string) ([]byte, error) {
	h := health{Incarnation: id.Incarnation, Container: id.Container, Instance: id.Instance, State: "Ready"}
	if failure != "" {
		h.State = "NotReady"
		h.Details = &details{"ProvisioningFailed", failure[:min(len(failure), maxDescription)]}
	}
	data, err := xml.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("report to Azure: %w", err)
	}
	return append([]byte(xml.Header), data...), nil
}

// Tell reports to the fabric.
func Tell(ctx context.Context, c *imds.Client, failure string) error {
	header := map[string]string{"x-ms-agent-name": "coracle", "x-ms-version": "2012-11-30", "Content-Type": "text/xml;charset=utf-8"}
	state, err := c.Do(ctx, http.MethodGet, "/machine/?comp=goalstate", header, nil)
	if err != nil {
		return fmt.Errorf("report to Azure: %w", err)
	}
	id, err := ParseGoalState(state.Body)
	if err != nil {
		return err
	}
	report, err := Report(id, failure)
	if err != nil {
		return err
	}
	if _, err := c.Do(ctx, http.MethodPost, "/machine?comp=health", header, report); err != nil {
		return fmt.Errorf("report to Azure: %w", err)
	}
	return nil
}

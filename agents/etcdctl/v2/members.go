package v2

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/client/v2"
)

func members(ctx context.Context, c *ctl, f *pflag.FlagSet) error {
	api := client.NewMembersAPI(c.client)
	args := append(f.Args(), "", "", "")
	switch {
	case args[0] == "list" && f.NArg() == 1:
		return listMembers(ctx, c, api)
	case args[0] == "add" && f.NArg() == 3:
		return addMember(ctx, c, api, args[1], args[2])
	case args[0] == "remove" && f.NArg() == 2:
		if err := api.Remove(ctx, args[1]); err != nil {
			return err
		}
		fmt.Fprintf(c.Out, "Removed member %s from cluster\n", args[1])
		return nil
	case args[0] == "update" && f.NArg() == 3:
		if err := api.Update(ctx, args[1], strings.Split(args[2], ",")); err != nil {
			return err
		}
		fmt.Fprintf(c.Out, "Updated member with ID %s in cluster\n", args[1])
		return nil
	}
	return usage("use member list, member add NAME URL, member remove ID or member update ID URLS")
}

func listMembers(ctx context.Context, c *ctl, api client.MembersAPI) error {
	list, err := api.List(ctx)
	if err != nil {
		return err
	}
	leader, err := api.Leader(ctx)
	if err != nil {
		leader = nil // there may be none; the list is worth having
	}
	for _, m := range list {
		if m.Name == "" {
			fmt.Fprintf(c.Out, "%s[unstarted]: peerURLs=%s\n", m.ID, strings.Join(m.PeerURLs, ","))
			continue
		}
		fmt.Fprintf(c.Out, "%s: name=%s peerURLs=%s clientURLs=%s isLeader=%v\n", m.ID, m.Name, strings.Join(m.PeerURLs, ","),
			strings.Join(m.ClientURLs, ","), leader != nil && leader.ID == m.ID)
	}
	return nil
}

// addMember adds one and prints what its etcd needs.
func addMember(ctx context.Context, c *ctl, api client.MembersAPI, name, address string) error {
	if u, err := url.Parse(address); err != nil || u.Host == "" {
		return usage("%q is not a peer's URL, such as http://10.0.0.4:2380", address)
	}
	added, err := api.Add(ctx, address)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "Added member named %s with ID %s to cluster\n\n", name, added.ID)
	list, err := api.List(ctx)
	if err != nil {
		return err
	}
	var cluster []string
	for _, m := range list {
		n := m.Name
		if m.ID == added.ID {
			n = name
		}
		for _, u := range m.PeerURLs {
			cluster = append(cluster, n+"="+u)
		}
	}
	fmt.Fprintf(c.Out, "ETCD_NAME=%q\nETCD_INITIAL_CLUSTER=%q\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n", name, strings.Join(cluster, ","))
	return nil
}

// clusterHealth asks every member for its health.
func clusterHealth(ctx context.Context, c *ctl, f *pflag.FlagSet) error {
	for {
		healthy, all, err := askHealth(ctx, c)
		if err != nil {
			return err
		}
		word := "healthy"
		switch {
		case healthy == 0:
			word = "unhealthy"
		case healthy < all:
			word = "degraded"
		}
		fmt.Fprintf(c.Out, "cluster is %s\n", word)
		if flagOf(f, "forever") {
			time.Sleep(10 * time.Second)
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), c.total)
			defer cancel()
			continue
		}
		if healthy < all {
			return exit{exitCluster, errors.New("")}
		}
		return nil
	}
}

func askHealth(ctx context.Context, c *ctl) (healthy, all int, err error) {
	list, err := client.NewMembersAPI(c.client).List(ctx)
	if err != nil {
		return 0, 0, err
	}
	for _, m := range list {
		switch url, good, answered := memberHealth(ctx, c, m); {
		case len(m.ClientURLs) == 0:
			fmt.Fprintf(c.Out, "member %s is unreachable: no available published client urls\n", m.ID)
		case !answered:
			fmt.Fprintf(c.Out, "member %s is unreachable: %v are all unreachable\n", m.ID, m.ClientURLs)
		case good:
			healthy++
			fmt.Fprintf(c.Out, "member %s is healthy: got healthy result from %s\n", m.ID, url)
		default:
			fmt.Fprintf(c.Out, "member %s is unhealthy: got unhealthy result from %s\n", m.ID, url)
		}
	}
	return healthy, len(list), nil
}

// memberHealth is the answer of the first of a member's URLs that has one.
func memberHealth(ctx context.Context, c *ctl, m client.Member) (address string, good, answered bool) {
	for _, address := range m.ClientURLs {
		response, err := c.http(ctx, trimSlash(address)+"/health")
		if err != nil {
			continue
		}
		var body struct{ Health any }
		err = json.Unmarshal(response, &body)
		return address, err == nil && fmt.Sprint(body.Health) == "true", true
	}
	return "", false, false
}

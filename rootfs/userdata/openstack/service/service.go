// Package service asks OpenStack's metadata service, for the documents that
// package openstack reads. The addresses that Nova's own documents do not have
// come from the part of the service that imitates EC2.
package service

import (
	"context"
	"errors"
	"time"

	"github.com/coracle-os/coracle/rootfs/userdata/imds"
	"github.com/coracle-os/coracle/rootfs/userdata/openstack"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

const (
	localIPv4  = "/latest/meta-data/local-ipv4"
	publicIPv4 = "/latest/meta-data/public-ipv4"
)

// addressLimit bounds the wait for each of the addresses.
const addressLimit = 5 * time.Second

// Fetch asks the service.
func Fetch(ctx context.Context, c *imds.Client) (platform.Result, error) {
	paths := []string{"/" + openstack.MetaData, "/" + openstack.UserData, "/" + openstack.NetworkData}
	found, problems := c.Collect(ctx, nil, paths...)
	if len(found) == 0 && len(problems) > 0 {
		return platform.Result{}, errors.Join(problems...)
	}
	// The imitation of EC2 may be switched off, which is nothing to speak of.
	quick := *c
	quick.Say = nil
	if quick.Limit == 0 {
		quick.Limit = addressLimit
	}
	addresses, _ := quick.Collect(ctx, nil, localIPv4, publicIPv4)
	r := openstack.Parse(openstack.Documents{
		MetaData: found[paths[0]], UserData: found[paths[1]], NetworkData: found[paths[2]],
		LocalIPv4: string(addresses[localIPv4]), PublicIPv4: string(addresses[publicIPv4]),
	})
	for _, problem := range problems {
		r.Fail(problem)
	}
	return r, nil
}

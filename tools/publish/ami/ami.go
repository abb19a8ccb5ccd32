// Package ami publishes a raw image as an image of Amazon EC2: it writes the
// image's blocks into an EBS snapshot by the EBS direct API, without a machine
// and without a bucket, and registers the snapshot. For `coracle publish ami`.
//
// Blocks of zeros are not sent. Every block goes with its SHA-256 and the whole
// with the aggregate of all, so that what is registered is what was read. A run
// that was cut off goes on where it was: see state. What AWS throttles or fails
// with 5xx, its library tries again.
//
// Left out on purpose: sharing the image with other accounts and copying it to
// other regions (`aws ec2 modify-image-attribute`, `copy-image`), and encryption
// other than the account's default.
package ami

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"golang.org/x/sync/errgroup"
)

// EBS is what is used of the EBS direct API, EC2 what is used of EC2's.
type (
	EBS interface {
		StartSnapshot(context.Context, *ebs.StartSnapshotInput, ...func(*ebs.Options)) (*ebs.StartSnapshotOutput, error)
		PutSnapshotBlock(context.Context, *ebs.PutSnapshotBlockInput, ...func(*ebs.Options)) (*ebs.PutSnapshotBlockOutput, error)
		CompleteSnapshot(context.Context, *ebs.CompleteSnapshotInput, ...func(*ebs.Options)) (*ebs.CompleteSnapshotOutput, error)
	}
	EC2 interface {
		DescribeImages(context.Context, *ec2.DescribeImagesInput, ...func(*ec2.Options)) (*ec2.DescribeImagesOutput, error)
		DescribeSnapshots(context.Context, *ec2.DescribeSnapshotsInput, ...func(*ec2.Options)) (*ec2.DescribeSnapshotsOutput, error)
		RegisterImage(context.Context, *ec2.RegisterImageInput, ...func(*ec2.Options)) (*ec2.RegisterImageOutput, error)
	}
)

// Publisher publishes one image. All fields but Poll and
// Workers must be set.
type Publisher struct {
	EBS    EBS
	EC2    EC2
	Region string
	Name   string // of the image; one of each in an account and region
	// Description is what people see.
	Description string
	Image       io.ReaderAt
	Plan        Plan
	State       string // path of the state file; it is removed at the end
	Say         func(text string)
	Poll        time.Duration // between looks at the snapshot; 0 is 5 s
	Workers     int           // that send blocks at the same time; 0 is 16
}

const (
	expiryMinutes = 60 // without a block, after which EBS gives a snapshot up
	snapshotWait  = 30 * time.Minute
	rootDevice    = "/dev/xvda"
	sayEvery      = 256 // blocks
)

// Register is the request that registers a snapshot: what machines of the image
// are like.
func Register(name, description, snapshot string, gib int64) *ec2.RegisterImageInput {
	return &ec2.RegisterImageInput{
		Name: aws.String(name), Description: aws.String(description),
		Architecture: types.ArchitectureValuesX8664, VirtualizationType: aws.String("hvm"),
		BootMode: types.BootModeValuesUefi, EnaSupport: aws.Bool(true), SriovNetSupport: aws.String("simple"),
		ImdsSupport: types.ImdsSupportValuesV20, RootDeviceName: aws.String(rootDevice),
		BlockDeviceMappings: []types.BlockDeviceMapping{{
			DeviceName: aws.String(rootDevice),
			Ebs: &types.EbsBlockDevice{
				SnapshotId: aws.String(snapshot), VolumeSize: aws.Int32(int32(gib)),
				VolumeType: types.VolumeTypeGp3, DeleteOnTermination: aws.Bool(true),
			},
		}},
	}
}

// DryRun says what Publish would do. It asks nobody.
func (p *Publisher) DryRun() {
	p.Say(fmt.Sprintf("StartSnapshot in %s: a volume of %d GiB", p.Region, p.Plan.GiB()))
	p.Say(fmt.Sprintf("PutSnapshotBlock: %d blocks of 512 KiB, %d MiB; %d blocks of zeros are not sent",
		len(p.Plan.Blocks), len(p.Plan.Blocks)/2, (p.Plan.Size+BlockSize-1)/BlockSize-int64(len(p.Plan.Blocks))))
	sum := p.Plan.Checksum()
	p.Say("CompleteSnapshot: LINEAR checksum " + base64.StdEncoding.EncodeToString(sum[:]))
	p.Say(fmt.Sprintf("RegisterImage: %q, x86_64, UEFI, ENA, gp3, IMDSv2", p.Name))
}

// Publish makes the image and returns its ID. Called again after it was cut off,
// it goes on.
func (p *Publisher) Publish(ctx context.Context) (id string, err error) {
	existing, snapshot, err := p.find(ctx)
	if err != nil {
		return "", err
	}
	s, err := loadState(p.State, header{Region: p.Region, Name: p.Name, Digest: p.Plan.Digest()})
	if err != nil {
		return "", err
	}
	if existing != "" {
		if s == nil || s.Snapshot != snapshot {
			return "", fmt.Errorf("publish %q: %s has %s of that name already; choose another with -name, or deregister that one", p.Name, p.Region, existing)
		}
		return existing, p.finish(s) // registered, and then cut off
	}
	s, err = p.snapshot(ctx, s)
	if err != nil {
		return "", err
	}
	if err := p.wait(ctx, s.Snapshot); err != nil {
		return "", err
	}
	out, err := p.EC2.RegisterImage(ctx, Register(p.Name, p.Description, s.Snapshot, p.Plan.GiB()))
	if err != nil {
		return "", fmt.Errorf("register %s: %w", s.Snapshot, err)
	}
	return aws.ToString(out.ImageId), p.finish(s)
}

func (p *Publisher) finish(s *state) error {
	s.close()
	if err := os.Remove(p.State); err != nil {
		return fmt.Errorf("remove state: %w", err)
	}
	return nil
}

// find returns the account's image of the name and its snapshot.
func (p *Publisher) find(ctx context.Context) (image, snapshot string, err error) {
	out, err := p.EC2.DescribeImages(ctx, &ec2.DescribeImagesInput{
		Owners: []string{"self"}, Filters: []types.Filter{{Name: aws.String("name"), Values: []string{p.Name}}},
	})
	if err != nil {
		return "", "", fmt.Errorf("look for an image %q: %w", p.Name, err)
	}
	for _, i := range out.Images {
		for _, m := range i.BlockDeviceMappings {
			if m.Ebs != nil {
				snapshot = aws.ToString(m.Ebs.SnapshotId)
			}
		}
		return aws.ToString(i.ImageId), snapshot, nil
	}
	return "", "", nil
}

// snapshot makes the snapshot or goes on with it; one that EBS has given up is
// begun anew.
func (p *Publisher) snapshot(ctx context.Context, s *state) (*state, error) {
	if s != nil {
		p.Say(fmt.Sprintf("going on with %s: %d of %d blocks are there", s.Snapshot, len(s.done), len(p.Plan.Blocks)))
		err := p.fill(ctx, s)
		if !isGone(err) {
			return s, err
		}
		p.Say(fmt.Sprintf("%s is gone, it was left alone for too long; beginning anew", s.Snapshot))
		s.close()
	}
	out, err := p.EBS.StartSnapshot(ctx, &ebs.StartSnapshotInput{
		VolumeSize: aws.Int64(p.Plan.GiB()), Description: aws.String(p.Description), Timeout: aws.Int32(expiryMinutes),
	})
	if err != nil {
		return nil, fmt.Errorf("start a snapshot: %w", err)
	}
	if size := aws.ToInt32(out.BlockSize); size != BlockSize {
		return nil, fmt.Errorf("start a snapshot: EBS wants blocks of %d bytes, this program has %d", size, BlockSize)
	}
	s, err = newState(p.State, header{p.Region, p.Name, p.Plan.Digest(), aws.ToString(out.SnapshotId)})
	if err != nil {
		return nil, err
	}
	return s, p.fill(ctx, s)
}

func isGone(err error) bool {
	var missing *ebstypes.ResourceNotFoundException
	return errors.As(err, &missing)
}

// fill sends the blocks that are missing and completes the snapshot.
func (p *Publisher) fill(ctx context.Context, s *state) error {
	if s.complete {
		return nil
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(cmp.Or(p.Workers, 16))
	var sent atomic.Int64
	sent.Store(int64(len(s.done)))
	for _, b := range p.Plan.Blocks {
		if s.done[b.Index] || groupCtx.Err() != nil {
			continue
		}
		group.Go(func() error {
			if err := p.put(groupCtx, s, b); err != nil {
				return err
			}
			if n := sent.Add(1); n%sayEvery == 0 {
				p.Say(fmt.Sprintf("%d of %d blocks", n, len(p.Plan.Blocks)))
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return p.complete(ctx, s)
}

func (p *Publisher) put(ctx context.Context, s *state, b Block) error {
	block := make([]byte, BlockSize)
	if err := readBlock(p.Image, block, int64(b.Index)*BlockSize); err != nil {
		return err
	}
	_, err := p.EBS.PutSnapshotBlock(ctx, &ebs.PutSnapshotBlockInput{
		SnapshotId: aws.String(s.Snapshot), BlockIndex: aws.Int32(b.Index), BlockData: bytes.NewReader(block), DataLength: aws.Int32(BlockSize),
		Checksum: aws.String(base64.StdEncoding.EncodeToString(b.SHA256[:])), ChecksumAlgorithm: ebstypes.ChecksumAlgorithmChecksumAlgorithmSha256,
	})
	if err != nil {
		return fmt.Errorf("send block %d of %s: %w; the same command goes on from here", b.Index, s.Snapshot, err)
	}
	return s.append(fmt.Sprint(b.Index))
}

func (p *Publisher) complete(ctx context.Context, s *state) error {
	sum := p.Plan.Checksum()
	_, err := p.EBS.CompleteSnapshot(ctx, &ebs.CompleteSnapshotInput{
		SnapshotId: aws.String(s.Snapshot), ChangedBlocksCount: aws.Int32(int32(len(p.Plan.Blocks))),
		Checksum:                  aws.String(base64.StdEncoding.EncodeToString(sum[:])),
		ChecksumAlgorithm:         ebstypes.ChecksumAlgorithmChecksumAlgorithmSha256,
		ChecksumAggregationMethod: ebstypes.ChecksumAggregationMethodChecksumAggregationLinear,
	})
	if err != nil {
		return fmt.Errorf("complete %s: %w", s.Snapshot, err)
	}
	return s.append(completeLine)
}

// wait waits until EC2 can use the snapshot.
func (p *Publisher) wait(ctx context.Context, snapshot string) error {
	poll := p.Poll
	if poll == 0 {
		poll = 5 * time.Second
	}
	waiter := ec2.NewSnapshotCompletedWaiter(p.EC2, func(o *ec2.SnapshotCompletedWaiterOptions) { o.MinDelay, o.MaxDelay = poll, 10*poll })
	if err := waiter.Wait(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{snapshot}}, snapshotWait); err != nil {
		return fmt.Errorf("wait for %s: %w", snapshot, err)
	}
	return nil
}

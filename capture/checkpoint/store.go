// Package checkpoint answers where a pipeline goes on after a restart: the
// position in the binlog and the number that was given there, as one value in etcd.
package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tandem-dc/tandem/capture/binlog"
	"github.com/tandem-dc/tandem/shared/event"
)

// ErrDeposed says that the lease is no longer ours, so the checkpoint was left
// as it is: its new holder writes it.
var ErrDeposed = errors.New("checkpoint: the lease has another holder")

// Version of the stored form. A reader refuses others.
const Version = 1

const timeout = 5 * time.Second

// Checkpoint joins a position and the numbering: Sequence is the number of the
// newest transaction up to Position that has one.
type Checkpoint struct {
	Version  int             `json:"version"`
	Epoch    uint64          `json:"epoch"`
	Sequence uint64          `json:"sequence"`
	Position binlog.Position `json:"position"`
	Time     time.Time       `json:"time"` // when it was stored

	// Rules decide which transactions have a number; Settled says that nothing was
	// sent beyond Position. Only then may other rules number what follows.
	Rules   string `json:"rules,omitempty"`
	Settled bool   `json:"settled,omitempty"`
}

// Key is where the checkpoint of a stream lives.
func Key(source, target string) string { return "/tandem/checkpoint/" + source + "/" + target }

// CorruptError says that the stored value cannot be used.
type CorruptError struct {
	Key string
	Err error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("checkpoint %s in etcd cannot be read: %v: nothing was sent since; put the value of a backup back, or delete the key "+
		"(etcdctl del %s) and set start to the position from which to send again: a new epoch begins there", e.Key, e.Err, e.Key)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// Store holds the checkpoint of one stream.
type Store struct {
	cli *clientv3.Client
	key string
}

// New returns the store of the stream from source to target, both names of datacenters.
func New(cli *clientv3.Client, source, target string) (*Store, error) {
	for _, dc := range []string{source, target} {
		if err := event.CheckName(dc); err != nil {
			return nil, fmt.Errorf("checkpoint: %w", err)
		}
	}
	return &Store{cli: cli, key: Key(source, target)}, nil
}

// Load returns the checkpoint, or false if there is none yet. A value that
// cannot be used is a *CorruptError.
func (s *Store) Load(ctx context.Context) (Checkpoint, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	res, err := s.cli.Get(ctx, s.key)
	if err != nil {
		return Checkpoint{}, false, fmt.Errorf("checkpoint: read %s from etcd: %w", s.key, err)
	}
	if len(res.Kvs) == 0 {
		return Checkpoint{}, false, nil
	}
	c, err := decode(res.Kvs[0].Value)
	if err != nil {
		return Checkpoint{}, false, &CorruptError{Key: s.key, Err: err}
	}
	return c, true, nil
}

func decode(data []byte) (Checkpoint, error) {
	var c Checkpoint
	if err := json.Unmarshal(data, &c); err != nil {
		return c, err
	}
	if c.Version != Version {
		return c, fmt.Errorf("version %d is not %d: upgrade capture", c.Version, Version)
	}
	if c.Epoch == 0 {
		return c, errors.New("epoch is 0")
	}
	if c.Position == (binlog.Position{}) {
		return c, errors.New("position is empty")
	}
	return c, nil
}

// Save stores c if fence still holds, and returns ErrDeposed if it does not. It
// fills in Version and Time. After any other error c may or may not be stored.
func (s *Store) Save(ctx context.Context, fence clientv3.Cmp, c Checkpoint) error {
	c.Version, c.Time = Version, time.Now().UTC()
	data, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	res, err := s.cli.Txn(ctx).If(fence).Then(clientv3.OpPut(s.key, string(data))).Commit()
	if err != nil {
		return fmt.Errorf("checkpoint: write %s to etcd: %w", s.key, err)
	}
	if !res.Succeeded {
		return ErrDeposed
	}
	return nil
}

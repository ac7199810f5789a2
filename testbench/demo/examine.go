package demo

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/tandem-dc/tandem/shared/doctor"
	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/testbench/cluster"
	"github.com/tandem-dc/tandem/testbench/servers"
	"github.com/tandem-dc/tandem/testbench/shop"
)

// examine has doctor look at both servers, and refuses to go on when it does.
func (d *demo) examine(ctx context.Context, c *cluster.Cluster) error {
	var findings [2][]doctor.Finding
	group, looking := errgroup.WithContext(ctx)
	for i, s := range c.Sides {
		group.Go(func() (err error) {
			findings[i], err = examine(looking, s, len(c.Sides))
			if err != nil {
				return fmt.Errorf("%s: %w", s.Name, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, s := range c.Sides {
		var text strings.Builder
		if err := doctor.WriteText(&text, findings[i], true); err != nil {
			return err
		}
		d.progress("doctor on " + s.Name + ": " + strings.TrimRight(text.String(), "\n"))
		if doctor.Worst(findings[i]) == doctor.Refuse {
			return fmt.Errorf("doctor refuses %s: see above", s.Name)
		}
	}
	return nil
}

func examine(ctx context.Context, s *cluster.Side, dcs int) (_ []doctor.Finding, err error) {
	open := func(user, charset string) *sql.DB {
		db, e := sqldb.Open(s.SQL.Config(user), sqldb.Session{Charset: charset, MaxOpen: 2})
		err = errors.Join(err, e)
		return db
	}
	capture, apply := open(servers.Capture, ""), open(servers.Apply, "binary")
	if err != nil {
		return nil, err
	}
	defer capture.Close()
	defer apply.Close()
	return doctor.Run(ctx, doctor.Target{
		DB: s.SQL.Admin(""), Databases: []string{shop.Database}, Capture: capture, Apply: apply,
		Kafka: s.Kafka.Config(), Topic: event.Topic(s.Name),
		DC: s.Number, DCs: dcs, Peers: []doctor.Peer{{Name: s.Peer.Name, DB: s.Peer.SQL.Admin("")}},
	})
}

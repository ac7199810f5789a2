package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tandem-dc/tandem/shared/event"
)

// One write on each side gives one transaction in each direction's topic, in both
// brokers, and then there is silence but for heartbeats.
func TestLoop(t *testing.T) {
	const heartbeats = 5
	each(t, func(t *testing.T, w *world) {
		name := w.table(t, tables, "loop", "%s (id INT PRIMARY KEY, v VARCHAR(20))")
		w.drain(t)
		type watched struct {
			*topic
			at                       string
			transactions, heartbeats int
			strange                  []string
		}
		var all []*watched
		for _, broker := range w.Sides {
			for _, origin := range w.Sides {
				all = append(all, &watched{topic: openTopic(t, broker.Kafka.Config(), event.Topic(origin.Name), false), at: broker.Name})
			}
		}
		before := w.losses(t)
		for side, s := range w.Sides {
			w.write(t, side, fmt.Sprintf("INSERT INTO %s VALUES (%d, '%s')", name, side, s.Name))
		}
		for side := range w.Sides {
			eventually(t, 20*time.Second, w.shows(side, "SELECT COUNT(*) FROM "+name, "2"))
		}
		// A loop would show as further transactions: heartbeats after it tell how long we have looked.
		for _, p := range all {
			eventually(t, 30*time.Second, func(ctx context.Context) error {
				messages, err := p.more(ctx)
				for i := range messages {
					switch kind := header(&messages[i], "ce_type"); {
					case kind == event.TypeTransaction && strings.Contains(string(messages[i].Value), `"loop_`):
						p.transactions, p.heartbeats = p.transactions+1, 0
					case kind == event.TypeHeartbeat:
						p.heartbeats++
					default:
						p.strange = append(p.strange, fmt.Sprintf("%s: %.300s", kind, messages[i].Value))
					}
				}
				if err == nil && (p.transactions == 0 || p.heartbeats < heartbeats) {
					err = fmt.Errorf("%s in %s: %d transactions, %d heartbeats since", p.name, p.at, p.transactions, p.heartbeats)
				}
				return err
			})
			if p.transactions != 1 || len(p.strange) > 0 {
				t.Errorf("%s in %s: %d transactions of one write; besides: %q", p.name, p.at, p.transactions, p.strange)
			}
		}
		w.clean(t, before)
		w.equal(t, tables)
	})
}

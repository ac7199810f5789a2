package datacenter

import (
	"errors"
	"fmt"

	"github.com/tandem-dc/tandem/shared/kafkaconn"
	"github.com/tandem-dc/tandem/testbench/link"
)

// Route is the way from one datacenter to the broker of another. Only programs
// in From may use it.
type Route struct {
	*link.Link
	From, To   string // names of datacenters
	advertised string
}

// Connect makes the routes between two datacenters, each with the same delays.
// The caller closes both.
func Connect(a, b *Datacenter, o link.Options) (there, back *Route, err error) {
	if there, err = connect(a, b, o); err != nil {
		return nil, nil, err
	}
	if back, err = connect(b, a, o); err != nil {
		there.Close()
		return nil, nil, err
	}
	return there, back, nil
}

func connect(from, to *Datacenter, o link.Options) (*Route, error) {
	if from.Name == to.Name {
		return nil, errors.New("a datacenter needs no route to itself")
	}
	l, err := link.New(to.Kafka.Bootstrap(), o)
	if err != nil {
		return nil, fmt.Errorf("route from %s to %s: %w", from.Name, to.Name, err)
	}
	return &Route{Link: l, From: from.Name, To: to.Name, advertised: to.Kafka.Bootstrap()}, nil
}

// Kafka is how to reach the broker over the route. A broker tells its clients
// its own address, which would lead them past the link: the map leads them back.
func (r *Route) Kafka() kafkaconn.Config {
	return kafkaconn.Config{Brokers: []string{r.Addr()}, AddressMap: map[string]string{r.advertised: r.Addr()}}
}

package main

import (
	"github.com/tandem-dc/tandem/shared/config"
	"github.com/tandem-dc/tandem/shared/coord"
	"github.com/tandem-dc/tandem/shared/fnhost"
	"github.com/tandem-dc/tandem/shared/kafkaconn"
	"github.com/tandem-dc/tandem/shared/serve"
	"github.com/tandem-dc/tandem/shared/sqldb"
)

// groups are settings that several programs have, under these keys.
type groups struct {
	Log      serve.LogConfig  `key:"log"`
	HTTP     serve.Config     `key:"http"`
	Function fnhost.Config    `key:"function"`
	MySQL    sqldb.Config     `key:"mysql"`
	Kafka    kafkaconn.Config `key:"kafka"`
	Etcd     coord.Config     `key:"etcd"`
}

// sections lists the programs in the order of the page. A program with
// settings of its own has a line here, with the struct that its main loads.
func sections() []config.Section {
	return []config.Section{
		{Program: "Groups that programs share", Summary: "A program has those that it needs; `--help` says which.", Config: groups{}},
	}
}

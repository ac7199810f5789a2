package main

import (
	"github.com/tandem-dc/tandem/capture"
	"github.com/tandem-dc/tandem/functions/apply"
	"github.com/tandem-dc/tandem/shared/config"
)

// sections lists the programs in the order of the page, each with the struct
// that its main loads.
func sections() []config.Section {
	return []config.Section{
		{Program: "capture", Summary: "Sends what this datacenter's MySQL or MariaDB commits to Kafka, here and in every other datacenter.", Config: capture.Config{}},
		{Program: "apply", Summary: "Applies the transactions of peer datacenters to this datacenter's MySQL.", Config: apply.Program{}},
	}
}

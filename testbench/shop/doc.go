// Package shop is the workload of the bench: the schema of a marketplace, its
// first rows, and customers and merchants who write in one datacenter at a
// steady rate.
//
// Users, merchants and products have a home datacenter, which stands in the
// high bits of their ids, so two datacenters never mint the same id and, apart
// from the share of conflicts that is asked for, never write the same row.
package shop

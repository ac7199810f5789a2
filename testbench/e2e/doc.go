// Package e2e answers whether the whole of tandem keeps its promises: two
// datacenters of real servers and programs, wired by triggers/, under load, loss,
// kills and nonsense. It holds tests only.
//
// The tests share one cluster for each flavour of database and kind of broker,
// see world. TANDEM_TEST_KAFKA=embedded,apache adds the real broker.
package e2e

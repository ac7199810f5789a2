// Package servers answers how a test or a bench gets real servers: MySQL,
// MariaDB, Kafka, etcd and Redis as child processes or in this process, on
// 127.0.0.1, with the settings tandem asks for.
//
// Every server has the same verbs: Kill (as a crash), Stop (as an operator
// would), Restart (same data, same port), Pause and Resume (a machine that
// hangs), and Close, which ends it and removes its files. Children die with
// this process, however it ends.
//
// Tests take MySQLForTest or EachFlavor, and end with
//
//	func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }
package servers

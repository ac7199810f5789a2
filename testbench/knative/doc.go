// Package knative answers how the manifests in triggers/ run on one machine:
// Knative Services and Deployments as child processes, KafkaSources through a
// dispatcher with the semantics of the real one, faults of its design included.
//
// What the dispatcher copies from knative-extensions/eventing-kafka-broker:
//
//   - unordered: polls all the time; a poll takes up to max.poll.records, and the
//     next one waits only while that many requests are in flight, so up to twice
//     as many (less one) can be;
//   - ordered: polls on a timer of 200 ms, one request in flight per partition;
//   - a record that is no CloudEvent is delivered as dev.knative.kafka.event;
//   - every event gets knativekafkapartition and knativekafkaoffset;
//   - >= 500, 404, 408, 409, 429 and connection errors are sent again, other
//     answers outside 2xx are final; replies are discarded;
//   - what cannot be delivered goes to the dead-letter sink, by the same retries,
//     and the offset is committed EVEN IF that fails too;
//   - offsets are committed every 5 s, as far as everything before is finished,
//     so a crash repeats up to 5 s of events.
//
// What it does not copy: group membership (one dispatcher owns all partitions),
// autoscaling, the queue-proxy's hop, OIDC, and offsets that stick at a gap in
// the log (compaction, transaction markers), of which tandem's topics have none.
package knative

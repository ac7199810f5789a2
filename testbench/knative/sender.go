package knative

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/tandem-dc/tandem/shared/kafkaconn"
)

// sender puts one event into a sink, once. A zero status means that there was
// no answer; err then says why.
type sender interface {
	send(ctx context.Context, o *outgoing) (status int, body []byte, err error)
	dest() string
	close() error
}

// failure is why an event was given up.
type failure struct {
	dest   string
	status int // 0: no answer
	body   []byte
	err    error
}

func (f *failure) Error() string {
	if f.status != 0 {
		return fmt.Sprintf("%s answered %d: %.200s", f.dest, f.status, f.body)
	}
	return fmt.Sprintf("%s: %v", f.dest, f.err)
}

// errStopped ends deliveries that wait for a retry.
var errStopped = errors.New("dispatcher stopped")

// deliver sends o until it is taken, refused for good, or out of retries. It
// returns nil, a *failure, or another error if it was ended before: ctx cuts off
// a request, stop only the wait for the next one.
func (p retryPolicy) deliver(ctx context.Context, stop <-chan struct{}, s sender, o *outgoing, retried func()) error {
	for n := 0; ; n++ {
		attempt, cancel := context.WithTimeout(ctx, p.timeout)
		status, body, err := s.send(attempt, o)
		cancel()
		if status >= 200 && status < 300 {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		f := &failure{dest: s.dest(), status: status, body: body, err: err}
		if status != 0 && !retryable(status) || n >= p.retries {
			return f
		}
		retried()
		t := time.NewTimer(p.backoff(n + 1))
		select {
		case <-t.C:
		case <-stop:
			t.Stop()
			return errStopped
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
	}
}

// targets gives the URL for the next request; several instances take turns.
type targets func() (string, error)

type httpSender struct {
	client *http.Client
	url    targets
	name   string // for knativeerrordest
}

func newHTTPSender(url targets, name string, conns int) *httpSender {
	t := &http.Transport{
		MaxConnsPerHost: conns, MaxIdleConns: 0, MaxIdleConnsPerHost: conns,
		// Below the idle timeout of the servers here, so that no request meets a
		// connection that is being closed.
		IdleConnTimeout: 10 * time.Second, DisableCompression: true,
	}
	noRedirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &httpSender{client: &http.Client{Transport: t, CheckRedirect: noRedirect}, url: url, name: name}
}

func (h *httpSender) dest() string { return h.name }

func (h *httpSender) close() error {
	h.client.CloseIdleConnections()
	return nil
}

func (h *httpSender) send(ctx context.Context, o *outgoing) (int, []byte, error) {
	url, err := h.url()
	if err != nil {
		return 0, nil, err
	}
	// No GetBody: net/http must not send an event again on its own; retries are
	// the policy's, and counted.
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, io.NopCloser(bytes.NewReader(o.data)))
	if err != nil {
		return 0, nil, err
	}
	req.Header, req.ContentLength = o.header(), int64(len(o.data))
	if len(o.data) == 0 {
		req.Body = http.NoBody
	}
	res, err := h.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxErrorData))
	if err != nil {
		return 0, nil, fmt.Errorf("read the answer: %w", err)
	}
	// The rest is read so that the connection can be used again; more than this
	// is not worth it.
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
	return res.StatusCode, body, nil
}

// topicSender is a KafkaSink: 202 once the brokers have the record, 503 else.
type topicSender struct {
	client *kafka.Client
	writer *kafka.Writer
	done   func()
	name   string
}

func newTopicSender(c kafkaconn.Config, sink *KafkaSink) (*topicSender, error) {
	client, done, err := c.Client()
	if err != nil {
		return nil, err
	}
	w := &kafka.Writer{
		Addr: client.Addr, Transport: client.Transport, Topic: sink.Spec.Topic, Balancer: &kafka.Hash{},
		RequiredAcks: kafka.RequireAll, BatchSize: 1, BatchTimeout: time.Millisecond, MaxAttempts: 1,
	}
	return &topicSender{client: client, writer: w, done: done, name: "kafkasink/" + sink.Metadata.Name}, nil
}

func (t *topicSender) dest() string { return t.name }

func (t *topicSender) send(ctx context.Context, o *outgoing) (int, []byte, error) {
	if err := t.writer.WriteMessages(ctx, o.message()); err != nil {
		return http.StatusServiceUnavailable, []byte(err.Error()), nil
	}
	return http.StatusAccepted, nil, nil
}

func (t *topicSender) close() error {
	err := t.writer.Close()
	t.done()
	return err
}

// noSink stands for a dead-letter sink that nobody set.
type noSink struct{}

var errNoDeadLetterSink = errors.New("no dead letter sink is set")

func (noSink) dest() string { return "" }
func (noSink) close() error { return nil }
func (noSink) send(context.Context, *outgoing) (int, []byte, error) {
	return 0, nil, errNoDeadLetterSink
}

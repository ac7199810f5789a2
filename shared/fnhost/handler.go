package fnhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

const (
	maxReason     = 1024             // bytes of an answer; a sender keeps no more in a dead letter
	readTimeout   = 30 * time.Second // for an event to arrive
	answerTimeout = 10 * time.Second // for a caller to take the answer
	batchType     = "application/cloudevents-batch"
)

// refusal is an answer given before the function is asked.
type refusal struct {
	code   int
	reason string
}

// route sends events to the function and the rest to the probes and metrics.
// It does not use a ServeMux for events: that redirects and answers 404, which
// a sender would take for a reason to come again.
func (h *Host) route(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path != "/" && r.URL.Path != "" && r.URL.Path != "//":
		h.server.Handler().ServeHTTP(w, r)
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "events are sent by POST", http.StatusMethodNotAllowed)
	default:
		h.serveEvent(w, r)
	}
}

func (h *Host) serveEvent(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	h.metrics.inFlight.Inc()
	defer h.metrics.inFlight.Dec()
	code, reason := h.answer(w, r)
	h.metrics.duration.Observe(time.Since(begin).Seconds())
	h.metrics.requests.WithLabelValues(strconv.Itoa(code)).Inc()

	if code == http.StatusOK {
		w.WriteHeader(code)
		return
	}
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "")
	}
	http.Error(w, reason, code)
}

// answer handles one request up to its status and reason.
func (h *Host) answer(w http.ResponseWriter, r *http.Request) (int, string) {
	size, no := h.admit(r)
	if no != nil {
		return no.code, no.reason
	}
	defer h.held.Add(-size)
	e, no := h.read(w, r)
	if no != nil {
		if no.code == http.StatusBadRequest {
			h.log.WarnContext(r.Context(), "not a CloudEvent", "from", r.RemoteAddr, "reason", no.reason)
		}
		return no.code, no.reason
	}
	err := h.call(r.Context(), e)
	if err == nil {
		return http.StatusOK, ""
	}
	code := Status(err)
	h.log.LogAttrs(r.Context(), levelOf(code), "event not handled",
		slog.Int("status", code), slog.String("id", e.ID()), slog.String("source", e.Source()), slog.String("type", e.Type()), slog.Any("error", err))
	return code, err.Error()
}

// levelOf spares the log what is part of a normal day: events that come again.
func levelOf(code int) slog.Level {
	switch code {
	case http.StatusInternalServerError:
		return slog.LevelError
	case http.StatusUnprocessableEntity:
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// admit reserves memory for the event, or refuses it.
func (h *Host) admit(r *http.Request) (int64, *refusal) {
	if enc := r.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return 0, &refusal{http.StatusUnsupportedMediaType, "content-encoding is not supported: send the event uncompressed"}
	}
	if strings.HasPrefix(strings.ToLower(r.Header.Get("Content-Type")), batchType) {
		return 0, &refusal{http.StatusUnsupportedMediaType, "batches are not supported: send one event per request"}
	}
	size := r.ContentLength
	if size > h.cfg.MaxBody {
		return 0, h.tooLarge()
	}
	if size < 0 {
		size = h.cfg.MaxBody
	}
	if h.held.Add(size) > h.cfg.MaxInFlightBytes {
		h.held.Add(-size)
		return 0, &refusal{http.StatusTooManyRequests, "too many bytes of events are being handled: send it again later"}
	}
	return size, nil
}

func (h *Host) tooLarge() *refusal {
	return &refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("the event is larger than %d bytes (max-body)", h.cfg.MaxBody)}
}

// body remembers why reading failed, which the CloudEvents SDK does not pass on
// in every case.
type body struct {
	io.ReadCloser
	err error
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}

// read makes a valid event of the request.
func (h *Host) read(w http.ResponseWriter, r *http.Request) (*ce.Event, *refusal) {
	b := &body{ReadCloser: http.MaxBytesReader(w, r.Body, h.cfg.MaxBody)}
	r.Body = b
	e, err := cehttp.NewEventFromHTTPRequest(r)
	var large *http.MaxBytesError
	switch {
	case errors.As(b.err, &large):
		return nil, h.tooLarge()
	case b.err != nil:
		return nil, &refusal{http.StatusBadRequest, "the body could not be read: " + b.err.Error()}
	}
	if err == nil {
		err = e.Validate()
	}
	if err != nil {
		return nil, &refusal{http.StatusBadRequest, "not a valid CloudEvent: " + err.Error()}
	}
	return e, nil
}

// call hands the event to the function. A panic is the function's error.
func (h *Host) call(ctx context.Context, e *ce.Event) (err error) {
	ctx, cancel := context.WithTimeout(ctx, h.cfg.Timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			h.log.ErrorContext(ctx, "function panicked", "panic", fmt.Sprint(p), "id", e.ID(), "source", e.Source(), "type", e.Type(), "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	return h.function.Handle(ctx, *e)
}

// errPanic tells the sender no more: what was panicked with may hold data.
var errPanic = errors.New("the function panicked; its log says where")

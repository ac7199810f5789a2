package fnhost

import (
	"context"
	"errors"
	"net/http"
)

// classed is an error with the answer it asks for.
type classed struct {
	code int
	err  error
}

func (c *classed) Error() string { return c.err.Error() }
func (c *classed) Unwrap() error { return c.err }

func class(code int, err error) error {
	if err == nil {
		return nil
	}
	return &classed{code, err}
}

// Transient marks an error that passes by itself: 503, the event comes again.
func Transient(err error) error { return class(http.StatusServiceUnavailable, err) }

// Overloaded marks an event turned away for want of room: 429, it comes again.
func Overloaded(err error) error { return class(http.StatusTooManyRequests, err) }

// Busy marks an event that is being handled elsewhere: 409, it comes again.
func Busy(err error) error { return class(http.StatusConflict, err) }

// Refuse marks an event that no repetition mends: 422, it goes to the sender's
// dead letters at once, if there are any.
func Refuse(err error) error { return class(http.StatusUnprocessableEntity, err) }

// Status is the answer to an error of a Function: 200 for nil, that of its
// outermost mark, 503 for a deadline that passed or a cancelled context, else
// 500. Senders repeat 409, 429 and everything from 500 up.
func Status(err error) int {
	var c *classed
	switch {
	case err == nil:
		return http.StatusOK
	case errors.As(err, &c):
		return c.code
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

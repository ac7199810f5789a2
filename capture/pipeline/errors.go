package pipeline

// RefusedError says that the source cannot be replicated as it stands. Nothing
// was sent from beyond the checkpoint.
type RefusedError struct {
	Problem string // what is wrong and what it means
	Remedy  string // what to do about it
	Err     error  // may be nil
}

func (e *RefusedError) Error() string {
	s := e.Problem
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s + ": " + e.Remedy
}

func (e *RefusedError) Unwrap() error { return e.Err }

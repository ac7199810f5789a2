package knative_test

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if program, err := echo(); err == nil {
			os.RemoveAll(filepath.Dir(program))
		}
		os.Exit(code)
	}))
}

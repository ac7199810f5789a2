package apply

import (
	"errors"

	"github.com/tandem-dc/tandem/shared/config"
	"github.com/tandem-dc/tandem/shared/fnhost"
	"github.com/tandem-dc/tandem/shared/serve"
)

// Program is what the command apply loads: the function's settings and those of
// its host.
type Program struct {
	Config
	HTTP  fnhost.Config   `key:"http"`
	Log   serve.LogConfig `key:"log"`
	Pprof bool            `key:"pprof" help:"serve profiles at /debug/pprof/: only where no stranger can reach the port"`
}

// Validate checks all groups.
func (p Program) Validate() error {
	return errors.Join(p.Config.Validate(), config.Within("http", p.HTTP.Validate()), config.Within("log", p.Log.Validate()))
}

package server

import (
	"context"
	"log/slog"

	"kiln"
	"kiln/internal/driver/container"
	"kiln/internal/driver/gvisor"
	"kiln/internal/driver/process"
	"kiln/internal/node"
)

// driverHooks is what a driver tells.
type driverHooks struct {
	exited func(kiln.Exit)
	output func(kiln.ContainerID, []byte)
}

// boundary is a driver with its end.
type boundary struct {
	node.Driver
	close func(context.Context) error
}

// openDriver makes the driver the configuration asks for. auto takes container, which every Linux can have; stronger, slower
// ones and those that isolate nothing are only what was asked for by name.
func openDriver(ctx context.Context, cfg *Config, dir *dataDir, hooks driverHooks, log *slog.Logger) (*boundary, error) {
	switch cfg.Driver {
	case "auto", "container":
		d, err := container.New(ctx, container.Config{
			Dir: dir.in("containers"), Exited: hooks.exited, Output: hooks.output, Logger: log.With("room", "container"),
		})
		if err != nil {
			return nil, err
		}
		return &boundary{d, d.Close}, nil
	case "gvisor":
		d, err := gvisor.New(ctx, gvisor.Config{
			Dir: dir.in("sandboxes"), Exited: hooks.exited, Output: hooks.output, Logger: log.With("room", "gvisor"),
		})
		if err != nil {
			return nil, err
		}
		return &boundary{d, d.Close}, nil
	case "process":
		log.Warn("driver process isolates nothing and limits nothing: run only code you trust")
		d, err := process.New(process.Config{
			Dir: dir.in("processes"), Exited: hooks.exited, Output: hooks.output, Logger: log.With("room", "process"),
		})
		if err != nil {
			return nil, err
		}
		return &boundary{d, func(context.Context) error { return nil }}, nil
	}
	return nil, kiln.Errorf(kiln.KindUnsupported, "server: open driver", "the driver %s is not served yet; use container or gvisor, or process on a machine without root", cfg.Driver)
}

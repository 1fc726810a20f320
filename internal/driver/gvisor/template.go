//go:build linux

package gvisor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"kiln"
	"kiln/internal/sandbox"
	"kiln/internal/stage"
)

// template is a runtime's saved sandbox: its runtime waits for its binding.
type template struct {
	mu    sync.Mutex
	image string // guarded by mu; the folder, empty until it is saved and when it could not be
}

// templateDir holds the saved sandboxes. They are made anew by each driver: only the runsc that saved one continues it.
func (d *Driver) templateDir() string { return filepath.Join(d.c.Dir, "templates") }

// image gives the folder with the saved sandbox that a container may be continued from; empty when there is none. The first
// to ask for a runtime has it saved, aside, and starts in the ordinary way meanwhile.
func (d *Driver) image(spec kiln.ContainerSpec) string {
	if spec.Runtime.Kind != kiln.RuntimeManaged || !spec.Runtime.Copies || spec.Fresh != nil {
		return ""
	}
	d.mu.Lock()
	t := d.templates[spec.Runtime.Name]
	if t == nil && !d.closed {
		t = &template{}
		d.templates[spec.Runtime.Name] = t
		d.news.Go(func() {
			if err := d.save(context.Background(), t, spec.Runtime); err != nil {
				d.c.Logger.Warn("a runtime could not be saved; its containers start in the ordinary way", "runtime", spec.Runtime.Name, "error", err)
			}
		})
	}
	d.mu.Unlock()
	if t == nil {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.image
}

// save prepares a runtime in a sandbox of no instance, saves it and takes it away.
func (d *Driver) save(ctx context.Context, t *template, r kiln.Runtime) error {
	name := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			return c
		}
		return '-'
	}, r.Name)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d.news.Go(func() {
		select {
		case <-d.ended:
			cancel(errEnded)
		case <-ctx.Done():
		}
	})
	c := d.newContainer(kiln.ContainerSpec{ID: kiln.ContainerID("template-" + name), Instance: "templates", Runtime: r}, cancel)
	dir := d.stage.Instance(kiln.InstanceID("template-" + name))
	c.instance = &instance{dir: dir, code: stage.NewCache(dir), containers: map[kiln.ContainerID]*container{}}
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(c.instance.machineID(), nil, 0o444)); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, "gvisor: save runtime", "cannot make the template's folder", err)
	}
	group, err := d.tree.Group("templates")
	if err != nil {
		return err
	}
	if err := group.Create(sandbox.Limits{}); err != nil {
		return err
	}
	image := filepath.Join(d.templateDir(), name)
	err = d.create(ctx, c, "")
	if err == nil {
		if err = os.MkdirAll(image, 0o700); err == nil {
			err = d.run(ctx, c, [3]*os.File{}, "checkpoint", "--compression=none", "--exclude-committed-zero-pages", "--image-path", image)
		}
	}
	close(c.created)
	if err := errors.Join(err, d.endContainer(ctx, c), os.RemoveAll(dir)); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.image = image
	return nil
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"kiln"
	"kiln/internal/client"
)

const (
	// topEvents is how many decisions are remembered, and shown where there is room.
	topEvents = 200
	// topOnce is how many decisions are printed by --once.
	topOnce = 20
	// topWidth and topHeight are a terminal's where it does not say; a page without a height has no end.
	topWidth, topHeight = 120, 40
)

// What a terminal is told. Without a word between them it shows what it is given.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // another page, no cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	atTop       = "\x1b[H"
	endLine     = "\x1b[K\r\n"
	endScreen   = "\x1b[J"
)

func (a *app) topCommand() *cobra.Command {
	var once bool
	var interval time.Duration
	c := &cobra.Command{
		Use:   "top [--once]",
		Short: "Show fleets, pools, instances and the last decisions as they change",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if interval < 100*time.Millisecond {
				return mistake("--interval %s is too short: a tenth of a second is the least", interval)
			}
			cl, err := a.connect()
			if err != nil {
				return err
			}
			t := &top{client: cl, interval: interval}
			if a.json {
				return t.printJSON(c.Context(), a)
			}
			if terminal, is := a.stdout.(*os.File); is && !once && term.IsTerminal(int(terminal.Fd())) {
				return t.live(c.Context(), a, terminal)
			}
			if err := t.look(c.Context()); err != nil {
				return err
			}
			_, err = io.WriteString(a.stdout, strings.Join(t.page.draw(topWidth, 0), "\n")+"\n")
			return err
		},
	}
	c.Flags().BoolVar(&once, "once", false, "print one page and end, as where the output is no terminal")
	c.Flags().DurationVar(&interval, "interval", time.Second, "the time between two looks")
	return c
}

// top looks at a server again and again.
type top struct {
	client   *client.Client
	interval time.Duration
	page     topPage
	raw      map[string][]json.RawMessage // the lists as they came
}

// look asks the server for everything. What it does not know (a server of an earlier version) is left out.
func (t *top) look(ctx context.Context) error {
	t.raw = map[string][]json.RawMessage{}
	for kind, into := range map[string]any{
		"nodes": &t.page.Nodes, "pools": &t.page.Pools, "fleets": &t.page.Fleets, "rates": &t.page.Rates,
		"instances": &t.page.Instances, "containers": &t.page.Containers,
	} {
		items, err := t.client.List(ctx, kind, nil, 0)
		if k := kiln.KindOf(err); k == kiln.KindNotFound || k == kiln.KindUnsupported || k == kiln.KindDenied {
			continue
		}
		if err != nil {
			return err
		}
		t.raw[kind] = items
		all, err := json.Marshal(items)
		if err == nil {
			err = json.Unmarshal(all, into)
		}
		if err != nil {
			return fmt.Errorf("the server's list of %s cannot be read: %w", kind, err)
		}
	}
	t.page.At = time.Now()
	return t.lookBack(ctx)
}

// lookBack asks for the events since the last look; at first for those of the last minute, or of longer when there are few.
func (t *top) lookBack(ctx context.Context) error {
	var items []json.RawMessage
	since := []time.Duration{time.Minute, 10 * time.Minute, 24 * time.Hour}
	if n := len(t.page.Events); n > 0 {
		since = []time.Duration{time.Since(t.page.Events[n-1].Time.Time) + time.Second}
	}
	for _, back := range since {
		var err error
		q := url.Values{"since": {time.Now().Add(-back).UTC().Format(time.RFC3339)}}
		if items, err = t.client.List(ctx, "events", q, maxNewest); err != nil {
			return err
		}
		if len(items) >= topOnce {
			break
		}
	}
	known := map[uint64]bool{}
	for _, e := range t.page.Events {
		known[e.ID] = true
	}
	for _, item := range items {
		var e kiln.Event
		if err := json.Unmarshal(item, &e); err != nil {
			return fmt.Errorf("the server's list of events cannot be read: %w", err)
		}
		if !known[e.ID] {
			t.page.Events = append(t.page.Events, e)
		}
	}
	t.page.Events = slices.Delete(t.page.Events, 0, max(0, len(t.page.Events)-topEvents))
	t.raw["events"] = items[max(0, len(items)-topEvents):]
	return nil
}

// printJSON prints the lists a page is made of.
func (t *top) printJSON(ctx context.Context, a *app) error {
	if err := t.look(ctx); err != nil {
		return err
	}
	all := map[string]any{"at": kiln.Time{Time: t.page.At}}
	for kind, items := range maps.All(t.raw) {
		all[kind] = append([]json.RawMessage{}, items...)
	}
	return a.printJSON(all)
}

// live shows pages until q is pressed, the context ends or the server is gone. On a terminal that knows no words it prints
// page under page.
func (t *top) live(ctx context.Context, a *app, terminal *os.File) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	begin, end, line, rest := enterScreen, leaveScreen, endLine, endScreen
	before := atTop
	if kind := a.getenv("TERM"); kind == "" || kind == "dumb" {
		begin, end, line, rest, before = "", "", "\r\n", "\r\n", ""
	}
	if keys, is := a.stdin.(*os.File); is && term.IsTerminal(int(keys.Fd())) {
		state, err := term.MakeRaw(int(keys.Fd()))
		if err != nil {
			return err
		}
		defer func() { _ = term.Restore(int(keys.Fd()), state) }()
		go quitOn(keys, stop) // ends with the process: nothing ends a read of a terminal
	}
	fmt.Fprint(terminal, begin)
	defer func() { fmt.Fprint(terminal, end) }()
	ticker := time.NewTicker(t.interval)
	defer ticker.Stop()
	for {
		if err := t.look(ctx); err != nil {
			if ctx.Err() != nil {
				return nil // the user has seen enough
			}
			return err
		}
		width, height, err := term.GetSize(int(terminal.Fd()))
		if err != nil || width <= 0 || height <= 0 {
			width, height = topWidth, topHeight
		}
		lines := t.page.draw(width, height-1)
		fmt.Fprint(terminal, before+strings.Join(lines, line)+line+rest)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// quitOn ends the page at q, Escape, Ctrl-C or Ctrl-D, or when there are no more keys.
func quitOn(keys io.Reader, stop func()) {
	defer stop()
	var key [1]byte
	for {
		if n, err := keys.Read(key[:]); n == 0 || err != nil || strings.IndexByte("qQ\x1b\x03\x04", key[0]) >= 0 {
			return
		}
	}
}

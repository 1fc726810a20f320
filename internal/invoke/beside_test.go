package invoke

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kiln"
	"kiln/internal/driver/fake"
)

// Executions at once in one container print on one pipe: a marked line is its execution's, without the mark, and so is one
// that names its request; what tells of nobody is the function's while several run, and the one's that runs alone. A mark of
// an execution that is none of the container's is text. START comes first and END last for each. // R43
func TestLinesOfExecutionsAtOnce(t *testing.T) {
	met := make(chan struct{})
	var mu sync.Mutex
	came := 0
	in(t, fake.Config{Handle: func(_ context.Context, g *fake.Guest, e *kiln.Delivery) ([]byte, *kiln.Failure) {
		id := string(e.RequestID)
		if string(e.Payload) == `"alone"` {
			g.Print("nobody's, and alone\n")
			return e.Payload, nil
		}
		mu.Lock()
		came++
		if came == 3 {
			close(met)
		}
		mu.Unlock()
		<-met
		g.Print("\x1e" + id + "\x1emarked\n")
		g.Print("[INFO] " + id + " named\n")
		g.Print("nobody's\n")
		g.Print("\x1er-999\x1eforged\n")
		pause(time.Second)
		return e.Payload, nil
	}}, nil, func(h *house) {
		var wg sync.WaitGroup
		containers := map[kiln.ContainerID]bool{}
		var all []*Request
		for range 3 {
			req := h.ask("several")
			all = append(all, req)
			wg.Go(func() { h.must(req) })
		}
		wg.Wait()
		for _, req := range all {
			containers[h.record(req.ID).Container] = true
			lines := h.log("several", req.ID)
			if len(lines) != 5 || !strings.HasPrefix(lines[0], "START") || lines[1] != "marked" || lines[2] != "[INFO] "+string(req.ID)+" named" ||
				!strings.HasPrefix(lines[3], "END") || !strings.HasPrefix(lines[4], "REPORT") {
				t.Errorf("%s: its log: %q", req.ID, lines)
			}
		}
		if len(containers) != 1 {
			t.Errorf("in %d containers", len(containers))
		}
		everything := h.log("several", "")
		if n := len(everything); n != 3*5+6 || !slices.Contains(everything, "\x1er-999\x1eforged") || !slices.Contains(everything, "nobody's") {
			t.Errorf("%d lines: %q", n, everything)
		}
		req := h.ask("several")
		req.Payload = []byte(`"alone"`)
		h.must(req)
		if lines := h.log("several", req.ID); len(lines) != 4 || lines[1] != "nobody's, and alone" {
			t.Errorf("alone: %q", lines)
		}
	})
}

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// printJSON answers with indented JSON.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// say tells the user something beside the answer.
func (a *app) say(format string, args ...any) { fmt.Fprintf(a.stderr, format+"\n", args...) }

// isTerminal reports whether a stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// progressAfter is how long something may take before a line says that it goes on.
const progressAfter = time.Second

// progress shows on standard error that something goes on, once it has taken a second: a line that counts seconds on a
// terminal, one plain line elsewhere. The function it gives ends that and waits for it; call it before printing more.
func (a *app) progress(what string) (done func()) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { showProgress(a.stderr, what, stop) })
	return sync.OnceFunc(func() { close(stop); wg.Wait() })
}

func showProgress(w io.Writer, what string, stop <-chan struct{}) {
	start := time.Now()
	ticker := time.NewTicker(progressAfter)
	defer ticker.Stop()
	terminal, shown := isTerminal(w), false
	for {
		select {
		case <-stop:
			if shown && terminal {
				fmt.Fprint(w, "\r\033[K")
			}
			return
		case <-ticker.C:
			if terminal {
				fmt.Fprintf(w, "\r%s … %d s", what, int(time.Since(start).Seconds()))
			} else if !shown {
				fmt.Fprintf(w, "%s …\n", what)
			}
			shown = true
		}
	}
}

// orDash shows something where there is nothing.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

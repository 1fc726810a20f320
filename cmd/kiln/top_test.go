package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"kiln/internal/client"
)

var update = flag.Bool("update", false, "write the golden files anew")

// fixedPage is a page of fixed data.
func fixedPage(t *testing.T) *topPage {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "top.json"))
	if err != nil {
		t.Fatal(err)
	}
	p := &topPage{At: time.Date(2026, 11, 30, 2, 10, 1, 0, time.UTC)}
	if err := json.Unmarshal(b, p); err != nil {
		t.Fatal(err)
	}
	return p
}

// A page shows fleets, pools with their rates against what is expected, instances with their containers and the last
// decisions with their reasons; it keeps within the terminal it is drawn for, and says what it leaves out; what others
// wrote cannot move the cursor. With -update the golden files are written anew.
func TestTopPage(t *testing.T) {
	for _, c := range []struct{ width, height int }{{160, 0}, {100, 24}, {60, 14}, {20, 3}} {
		name := filepath.Join("testdata", fmt.Sprintf("top-%dx%d.golden", c.width, c.height))
		lines := fixedPage(t).draw(c.width, c.height)
		if c.height > 0 && len(lines) > c.height {
			t.Errorf("%s: %d lines", name, len(lines))
		}
		for _, line := range lines {
			if n := utf8.RuneCountInString(line); n > c.width || strings.ContainsAny(line, "\x1b\n") {
				t.Errorf("%s: a line of %d: %q", name, n, line)
			}
		}
		got := strings.Join(lines, "\n") + "\n"
		if *update {
			if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: got\n%swant\n%s", name, got, want)
		}
	}
}

// What is known of the past is kept within its bound and each event once, whatever overlaps between two looks; a server
// that does not know a list is shown without it.
func TestTopLooksAgain(t *testing.T) {
	const list = `{"items":[],"next":""}`
	events := func(from, to int) string {
		var items []string
		for n := from; n <= to; n++ {
			items = append(items, fmt.Sprintf(`{"id":%d,"time":"2026-11-30T02:00:00Z","kind":"instance.warm","cause":"c"}`, n))
		}
		return `{"items":[` + strings.Join(items, ",") + `],"next":""}`
	}
	looks := 0
	s := newStranger(t, map[string]func(http.ResponseWriter){})
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch kind := strings.TrimPrefix(r.URL.Path, "/kiln/v1/"); kind {
		case "fleets", "rates": // of a later version
			http.Error(w, `{"message":"no such path"}`, http.StatusNotFound)
		case "events":
			looks++
			_, _ = io.WriteString(w, events(1+100*(looks-1), 150+100*(looks-1)))
		default:
			_, _ = io.WriteString(w, list)
		}
	})
	cl, err := client.New(s.URL, client.Credentials{AccessKeyID: "AKIDTEST", SecretAccessKey: "x", Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	look := top{client: cl, interval: time.Second}
	for range 3 {
		if err := look.look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	all := look.page.Events
	if len(all) != topEvents || all[len(all)-1].ID != 350 {
		t.Errorf("%d events, the last %d", len(all), all[len(all)-1].ID)
	}
	for i := 1; i < len(all); i++ {
		if all[i].ID != all[i-1].ID+1 {
			t.Fatalf("event %d after %d", all[i].ID, all[i-1].ID)
		}
	}
}

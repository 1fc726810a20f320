package pool

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kiln"
	"kiln/internal/driver/fake"
	"kiln/internal/manager"
)

// Over two days in which one function is asked for every half hour and another once, the first is there when it is asked for
// and seldom else, and the second goes; both by the real shell, with containers that are paused while they are idle. What
// Explain says of them is so. R40 R41 R63
func TestRetentionByFunction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, fake.Config{Capabilities: kiln.Capabilities{Pause: true}}, func(s *manager.Settings) {
			s.Learned, s.Worth, s.RetentionContainer, s.PauseAfter = true, 80.5, 0, 5*time.Second
		})
		defer b.stop()
		time.Sleep(time.Second)
		periodic, rare := b.version("a", "periodic"), b.version("a", "rare")
		warm := func(function string) (n int) {
			for _, c := range b.pool.Containers() {
				if c.Function == function {
					n++
				}
			}
			return n
		}
		b.invoke(rare)
		cold, held := 0, 0
		for n := range 96 {
			if r := b.invoke(periodic); r.err != nil || r.answer.Failure != nil {
				t.Fatal(r.err, r.answer.Failure)
			} else if n >= 48 && r.lease.Path != kiln.PathContainer {
				cold++
			}
			for range 30 {
				time.Sleep(time.Minute)
				if n >= 48 {
					held += warm("periodic")
				}
			}
		}
		if cold > 4 {
			t.Errorf("%d of 48 requests waited for a start", cold)
		}
		if held > 48*10 {
			t.Errorf("loaded in %d of %d minutes", held, 48*30)
		}
		if n := warm("rare"); n != 0 {
			t.Errorf("%d containers of the rare one", n)
		}
		for function, begins := range map[string]string{
			"rare": "It is not kept warm now; there were 0 requests in the last hour; ", "never": "It is not kept warm: ", "periodic": "It is "} {
			list := b.pool.Explain("a", function)
			if len(list) != 1 || !strings.HasPrefix(list[0].Sentence, begins) || (list[0].Warm > 0) != strings.HasPrefix(list[0].Sentence, "It is kept warm now") {
				t.Errorf("%s: %+v", function, list)
			}
		}
	})
}

// What is told of requests of before, once a start, counts as they do: a function that was asked for every half hour is loaded
// when it is due again, and nothing but its past has told so. R63
func TestRecall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, fake.Config{}, func(s *manager.Settings) { s.Learned, s.Worth, s.RetentionContainer = true, 80.5, 0 })
		defer b.stop()
		v := b.version("a", "periodic")
		last := time.Now().Add(-5 * time.Minute)
		for n := range 48 {
			b.pool.Recall(Need{Version: v, MemoryMiB: v.MemoryMiB}, last.Add(time.Duration(n-47)*30*time.Minute))
		}
		if list := b.pool.Explain("a", "periodic"); len(list) != 1 || list[0].RequestsPerHour == 0 {
			t.Errorf("%+v", list)
		}
		time.Sleep(25 * time.Minute)
		if r := b.invoke(v); r.lease.Path != kiln.PathContainer || r.lease.Init.Duration != 0 {
			t.Errorf("by %s", r.lease.Path)
		}
	})
}

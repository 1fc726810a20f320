package pool

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kiln"
	"kiln/internal/driver/fake"
	"kiln/internal/manager"
	"kiln/internal/record"
)

// What was recorded of a pool with bursts, crashes, failing boots, promises and changed settings, run again from the file,
// decides every step as it was decided live; and a record of which a number is changed does not (R67).
func TestRecordedDecisionsAreTheSame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record")
	synctest.Test(t, func(t *testing.T) {
		log := slog.New(slog.DiscardHandler)
		rec, err := record.Create(path, log)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var writing sync.WaitGroup
		writing.Go(func() {
			if err := rec.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		var binds atomic.Int64
		config := fake.Config{Handle: busy(70 * time.Millisecond), BindError: func(kiln.ContainerID) error {
			if binds.Add(1)%5 == 0 {
				return errors.New("broken")
			}
			return nil
		}}
		b := newLoggedBench(t, log, config, pauseAfter, func(c *Config) { c.Record = rec })
		for i := range 30 {
			v := b.version([]string{"a", "b", "c"}[i%3], []string{"one", "two"}[i%2])
			b.many(v, 1+i)
			if i == 10 {
				if err := b.pool.Provision(b.version("a", "one"), "", 2); err != nil {
					t.Error(err)
				}
			}
			if i == 20 {
				if err := b.pool.Change(FleetID{Name: kiln.FleetLowVolume}, func(s *manager.Settings) { s.RetentionContainer = time.Minute }); err != nil {
					t.Error(err)
				}
				b.pool.Forget(b.version("b", "two").ID())
			}
			if i%7 == 0 {
				for _, in := range b.pool.Instances() {
					b.driver.KillInstance(in.ID, "test")
					break
				}
			}
			time.Sleep(time.Duration(i) * 13 * time.Second)
		}
		b.stop()
		cancel()
		writing.Wait()
	})
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := record.Replay(t.Context(), bytes.NewReader(text))
	if err != nil || got.Differs != "" || got.Same != got.Steps || got.Requests < 400 || got.Decisions < got.Requests {
		t.Errorf("%+v, %v", got, err)
	}
	for what, with := range map[string][2]string{
		"another retention": {`"RetentionContainer":600000000000`, `"RetentionContainer":60000000000`},
		"another amount":    {`"MemoryMiB":128`, `"MemoryMiB":1280`},
	} {
		other := bytes.ReplaceAll(text, []byte(with[0]), []byte(with[1]))
		if got, err := record.Replay(t.Context(), bytes.NewReader(other)); err == nil && got.Same == got.Steps || got.Steps == 0 {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
	cut := text[:len(text)*2/3]
	if got, err := record.Replay(t.Context(), bytes.NewReader(cut)); err != nil || got.Ended == "" || got.Same != got.Steps || got.Steps == 0 {
		t.Errorf("cut off: %+v, %v", got, err)
	}
	if strings.Contains(string(text), "payload") {
		t.Error("the record holds a payload")
	}
}

package fake

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kiln"
	"kiln/internal/driver/drivertest"
)

// The fake keeps the contract that the real drivers keep. Its guest is the suite's program, played in memory.
func TestContract(t *testing.T) {
	drivertest.Run(t, func(t *testing.T, h drivertest.Hooks) drivertest.Subject {
		d := New(Config{Capabilities: kiln.Capabilities{Pause: true, Notes: []string{"nothing runs"}}, Exited: h.Exited, Output: h.Output, Bind: initialise, Handle: guest})
		return drivertest.Subject{Driver: d, Runtimes: []kiln.Runtime{{Name: "provided", Kind: kiln.RuntimeProvided}}, Left: func() []string {
			if i, c, _ := d.Alive(); i+c > 0 {
				return []string{fmt.Sprint(i, c)}
			}
			return nil
		}}
	})
}

func initialise(_ context.Context, g *Guest, b kiln.Binding) kiln.InitResult {
	if b.Environment["GUEST_INIT"] == "exit" {
		g.Exit("exit status 1", false)
	}
	if _, err := os.Stat(b.CodeDir + "/bootstrap"); err != nil {
		return kiln.InitResult{Failure: failure(kiln.OutcomeInit, "Runtime.InvalidEntrypoint", "no bootstrap")}
	}
	g.State["meeting"] = &meeting{}
	return kiln.InitResult{}
}

// meeting is where executions of one container wait for each other.
type meeting struct {
	mu   sync.Mutex
	came int
	all  chan struct{}
}

// meet waits until n have come.
func (m *meeting) meet(ctx context.Context, n int) {
	m.mu.Lock()
	if m.came == 0 {
		m.all = make(chan struct{})
	}
	m.came++
	all := m.all
	if m.came == n {
		m.came = 0
		close(all)
	}
	m.mu.Unlock()
	select {
	case <-all:
	case <-ctx.Done():
	}
}

// guest does what drivertest's program does.
func guest(ctx context.Context, g *Guest, d *kiln.Delivery) ([]byte, *kiln.Failure) {
	var c struct {
		Do, Arg string
		N       int
	}
	_ = json.Unmarshal(d.Payload, &c)
	switch c.Do {
	case "info":
		constant, _ := os.ReadFile(g.Binding.CodeDir + "/constant")
		env := map[string]string{"AWS_LAMBDA_RUNTIME_API": "none"}
		maps.Copy(env, g.Binding.Environment)
		b, _ := json.Marshal(map[string]any{"count": g.Executions, "constant": string(constant), "env": env})
		return b, nil
	case "tick":
		go func() {
			for g.Runs() {
				g.Print("tick\n")
				time.Sleep(5 * time.Millisecond)
			}
		}()
	case "print":
		for range c.N / 100 {
			g.Print(strings.Repeat("x", 99) + "\n")
		}
		g.Print(c.Arg + "\n")
		g.Print(c.Arg + "\n")
	case "error":
		return nil, &kiln.Failure{Outcome: kiln.OutcomeError, Type: "Custom", Payload: fmt.Appendf(nil, `{"errorType":"Custom","errorMessage":%q}`, c.Arg)}
	case "exit":
		g.Exit(fmt.Sprintf("exit status %d", c.N), false)
	case "panic":
		g.Exit("exit status 2", false)
	case "meet":
		g.State["meeting"].(*meeting).meet(ctx, c.N)
		if c.Arg == "exit" {
			g.Exit("exit status 3", false)
		}
		stay, _ := time.ParseDuration(c.Arg)
		wait(ctx, stay)
	case "sleep", "spawn":
		wait(ctx, time.Duration(c.N)*time.Millisecond)
	}
	return d.Payload, nil
}

// In a bubble, hours of scripted delays pass at once, and what ends from outside is told once.
func TestBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var exits []kiln.Exit
		d := New(Config{
			BootTime:  func(kiln.InstanceSpec) time.Duration { return time.Hour },
			StartTime: func(kiln.ContainerSpec) time.Duration { return time.Minute },
			Exited:    func(e kiln.Exit) { exits = append(exits, e) },
			Handle: func(ctx context.Context, _ *Guest, d *kiln.Delivery) ([]byte, *kiln.Failure) {
				wait(ctx, time.Second)
				return d.Payload, nil
			},
		})
		begin := time.Now()
		if err := d.CreateInstance(t.Context(), kiln.InstanceSpec{ID: "i-1"}); err != nil || time.Since(begin) != time.Hour {
			t.Fatal(err, time.Since(begin))
		}
		for _, id := range []kiln.ContainerID{"c-1", "c-2"} {
			if _, err := d.CreateContainer(t.Context(), kiln.ContainerSpec{ID: id, Instance: "i-1"}); err != nil {
				t.Fatal(err)
			}
			if r, err := d.BindContainer(t.Context(), id, kiln.Binding{InitLimit: time.Second}); err != nil || r.Failure != nil {
				t.Fatal(r, err)
			}
		}
		a := d.Execute(t.Context(), "c-1", &kiln.Delivery{Payload: []byte("1"), Deadline: time.Now().Add(3 * time.Second)})
		if string(a.Payload) != "1" || a.End.Sub(a.Start) != time.Second {
			t.Errorf("%+v", a)
		}
		done := make(chan kiln.Answer)
		go func() {
			done <- d.Execute(t.Context(), "c-1", &kiln.Delivery{Payload: []byte("1"), Deadline: time.Now().Add(3 * time.Second)})
		}()
		synctest.Wait()
		d.KillInstance("i-1", "lost")
		if a := <-done; !a.Lost || a.Failure == nil || a.Failure.Type != "Runtime.ExitError" {
			t.Errorf("%+v", a)
		}
		if len(exits) != 1 || exits[0].Container != "" || exits[0].Instance != "i-1" {
			t.Errorf("exits %+v", exits)
		}
		if err := d.DeleteInstance(t.Context(), "i-1"); err != nil {
			t.Error(err)
		}
		if i, c, most := d.Alive(); i != 0 || c != 0 || most != 2 {
			t.Error(i, c, most)
		}
	})
}

// Package kilntest starts a real `kiln serve` for a test and looks at it from outside: by the Lambda API, by signed HTTP,
// by the command line, and by what the kernel shows. When the test has ended it ends the server and fails if anything was
// left behind.
//
// It is not a place for what Kiln must do (that is in test/rows and test/conformance), and it never reaches into Kiln's
// own packages: a test that used them would take the system's word. Called by the black-box tests only. A Server is safe
// concurrently; an Account belongs to one test, whose goroutines may share it. There are no locks to order: each guards
// one buffer or list and is held for no call.
//
// Environment: KILN_BIN names a built kiln (otherwise one is built, once a run), KILN_REQUIRE_CONTAINER=1 turns every
// skip into a failure.
package kilntest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Bounds of what a test waits for.
const (
	// ReadyWithin bounds the start of a server until its warming targets are met.
	ReadyWithin = 60 * time.Second
	// GoneWithin bounds the end of a server after TERM.
	GoneWithin = 45 * time.Second
	// tailLines is how much of the server's log a failing test prints.
	tailLines = 60
)

// Options says how a server is started.
type Options struct {
	// Driver is the boundary, "container" or "process". Empty takes Driver().
	Driver string
	// Settings are configuration keys and their values: {"warming.instances": "2"}. They are handed over by environment
	// variables.
	Settings map[string]string
	// Data is the data directory; empty takes a new one, which is removed at the end.
	Data string
	// Listen is host:port; empty takes a free port. A server that is to be killed and started again keeps its address.
	Listen string
	// Environment holds further variables, NAME=value, which win over those the tests set themselves.
	Environment []string
}

// Server is one running `kiln serve`.
type Server struct {
	// URL is where it said it is ready, without a slash at the end.
	URL string
	// Data is its data directory, Temp its TMPDIR.
	Data, Temp string
	// Driver is the boundary it was started with.
	Driver string
	// Started and Ready are when the process was started and when it said it is ready, by this process's clock.
	Started, Ready time.Time

	binary  string
	options Options
	folder  string // holds Data and Temp; removed at the end
	killed  bool   // by Kill, and not started again since
	cmd     *exec.Cmd
	exited  chan struct{} // closed when the process has been waited for
	log     *logBuffer
	before  footprint
	keys    credentials
	http    *http.Client

	stop sync.Once
	left error // what Stop found; guarded by stop

	explained sync.Map // testing.TB → true: the failed tests for which the log was printed
}

// Driver is the strongest boundary this machine and this user can have: "container" for root on Linux with crun or runc,
// otherwise "process".
func Driver() string {
	if os.Geteuid() != 0 {
		return "process"
	}
	for _, launcher := range []string{"crun", "runc"} {
		if _, err := exec.LookPath(launcher); err == nil {
			return "container"
		}
	}
	return "process"
}

// Required reports whether skips are failures.
func Required() bool { return os.Getenv("KILN_REQUIRE_CONTAINER") == "1" }

// Skip skips a test loudly, or fails it where skips are failures.
func Skip(tb testing.TB, format string, args ...any) {
	tb.Helper()
	if Required() {
		tb.Fatalf("KILN_REQUIRE_CONTAINER=1 and "+format, args...)
	}
	tb.Skipf("SKIPPED, NOT SHOWN: "+format, args...)
}

// NeedContainer skips a test that can only be shown in containers.
func NeedContainer(tb testing.TB) {
	tb.Helper()
	if Driver() != "container" {
		Skip(tb, "this needs root and crun or runc, to run code in containers")
	}
}

// Start starts a server for one test; it is ended with the test, and what it leaves behind fails the test.
func Start(tb testing.TB, o Options) *Server {
	tb.Helper()
	s, err := Launch(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Stop(); err != nil {
			tb.Errorf("%v\n%s", err, s.Log())
		}
	})
	return s
}

// Launch starts a server and waits until it is ready. The caller stops it.
func Launch(o Options) (*Server, error) {
	binary, err := Binary()
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "kilntest-")
	if err != nil {
		return nil, err
	}
	o.Settings = settled(o.Settings)
	s := &Server{
		Data: o.Data, Temp: filepath.Join(folder, "tmp"), Driver: o.Driver,
		binary: binary, options: o, folder: folder, log: &logBuffer{}, exited: make(chan struct{}),
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}, Timeout: 2 * time.Minute},
	}
	if s.Data == "" {
		s.Data = filepath.Join(folder, "data")
	}
	if s.Driver == "" {
		s.Driver = Driver()
	}
	if err := os.Mkdir(s.Temp, 0o700); err != nil {
		return nil, err
	}
	s.before = takeFootprint()
	if err := s.run(o); err != nil {
		_ = s.Stop()
		return nil, fmt.Errorf("%w\n%s", err, s.Log())
	}
	return s, nil
}

// settled has functions stay in the fleet they start in, however often a test calls them, unless it says when they go.
func settled(settings map[string]string) map[string]string {
	all := map[string]string{"fleet.enter": "1000000"}
	maps.Copy(all, settings)
	return all
}

// run starts the process, waits for its ready line and reads the first key.
func (s *Server) run(o Options) error {
	ready, err := s.start(o)
	if err != nil {
		return err
	}
	select {
	case line := <-ready:
		s.Ready = time.Now()
		url, _, _ := strings.Cut(strings.TrimPrefix(line, "kiln: ready "), " ")
		if url = strings.TrimRight(url, "/"); url != s.URL { // goroutines of the test may read it during a restart
			s.URL = url
		}
	case <-s.exited:
		return fmt.Errorf("kiln serve ended before it was ready: %v", s.cmd.ProcessState)
	case <-time.After(ReadyWithin):
		return fmt.Errorf("kiln serve was not ready within %s", ReadyWithin)
	}
	text, err := s.CLI("env", "--data", s.Data)
	if err != nil {
		return err
	}
	s.keys, err = parseExports(text)
	return err
}

// start starts the process. Its ready line comes out of the channel.
func (s *Server) start(o Options) (ready chan string, err error) {
	listen := "127.0.0.1:0"
	if o.Listen != "" {
		listen = o.Listen
	}
	s.cmd, s.exited, s.killed = exec.Command(s.binary, "serve", "--data", s.Data, "--listen", listen, "--driver", s.Driver), make(chan struct{}), false
	s.cmd.Env = environment(o.Settings, append(o.Environment, "TMPDIR="+s.Temp)...)
	s.cmd.Stderr = s.log
	// A process of its own group, so that a signal to the tests does not reach it before they have ended it.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.Started = time.Now()
	if err := s.cmd.Start(); err != nil {
		close(s.exited)
		return nil, err
	}
	ready = make(chan string, 1)
	go s.watch(s.cmd, s.exited, out, ready)
	return ready, nil
}

// watch reads a process's standard output to its end, tells its ready line, then waits for it.
func (s *Server) watch(cmd *exec.Cmd, exited chan struct{}, out io.Reader, ready chan<- string) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		_, _ = fmt.Fprintln(s.log, "stdout:", lines.Text())
		if strings.HasPrefix(lines.Text(), "kiln: ready http://") {
			select {
			case ready <- lines.Text():
			default:
			}
		}
	}
	_ = cmd.Wait()
	close(exited)
}

// CLI runs kiln with arguments and gives its standard output. An error carries its standard error.
func (s *Server) CLI(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.binary, args...)
	cmd.Env = environment(nil, "TMPDIR="+s.Temp)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return string(out), fmt.Errorf("kiln %s: %w", strings.Join(args, " "), err)
	}
	return string(out), nil
}

// Command makes a command that runs kiln as account a would from its shell.
func (a *Account) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, a.Server.binary, args...)
	cmd.Env = environment(nil, a.Environ()...)
	return cmd
}

// Pid is the server's process.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Log gives the end of what the server wrote.
func (s *Server) Log() string {
	return "--- the end of the server's log\n" + s.log.tail(0, tailLines) + "---"
}

// WholeLog gives everything the server wrote, to look for what must not be there.
func (s *Server) WholeLog() string { return s.log.tail(0, 1<<30) }

// Stop ends the server by TERM and looks at what is left. The first call's answer is given again by later ones.
func (s *Server) Stop() error {
	s.stop.Do(func() { s.left = s.end() })
	return s.left
}

func (s *Server) end() error {
	var found []error
	if s.killed { // by a test that failed since: what it left is taken away in the way that exists
		found = append(found, s.restart())
	}
	if s.cmd != nil && s.cmd.Process != nil {
		traces := s.traces()
		found = append(found, s.terminate())
		found = append(found, leftBehind(s.before, traces)...)
	}
	s.http.CloseIdleConnections()
	found = append(found, emptyFolder(s.Temp))
	if err := errors.Join(found...); err != nil {
		return fmt.Errorf("%w\n(the server's folder is kept: %s)", err, s.folder)
	}
	return removeTree(s.folder)
}

// terminate sends TERM and waits; a server that does not end within the bound is killed, and that is an error.
func (s *Server) terminate() error {
	select {
	case <-s.exited:
		return fmt.Errorf("kiln serve ended by itself: %v", s.cmd.ProcessState)
	default:
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("TERM: %w", err)
	}
	select {
	case <-s.exited:
	case <-time.After(GoneWithin):
		_ = s.cmd.Process.Kill()
		<-s.exited
		return fmt.Errorf("kiln serve did not end within %s of TERM and was killed", GoneWithin)
	}
	if !s.cmd.ProcessState.Success() {
		return fmt.Errorf("kiln serve ended with %v after TERM", s.cmd.ProcessState)
	}
	return nil
}

// Shared is a server that all tests of a package use; the first that asks starts it.
type Shared struct {
	Options Options

	once   sync.Once
	server *Server
	err    error
}

// Main runs a package's tests and then ends the server. What is left behind fails the run. Use as
// func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }.
func (s *Shared) Main(m *testing.M) int {
	code := m.Run()
	if s.server == nil {
		return code
	}
	if err := s.server.Stop(); err != nil {
		_, _ = fmt.Fprintf(os.Stderr, "FAIL: the shared server: %v\n%s\n", err, s.server.Log())
		return max(code, 1)
	}
	return code
}

// Server gives the shared server, started if need be.
func (s *Shared) Server(tb testing.TB) *Server {
	tb.Helper()
	s.once.Do(func() {
		s.server, s.err = Launch(s.Options)
		if s.err == nil {
			tb.Logf("the shared server was ready after %s", s.server.Ready.Sub(s.server.Started))
		}
	})
	if s.err != nil {
		tb.Fatal(s.err)
	}
	return s.server
}

// Eventually asks until the answer is nil, at most for the bound; then the last answer fails the test.
func Eventually(tb testing.TB, within time.Duration, ask func() error) {
	tb.Helper()
	end := time.NewTimer(within)
	defer end.Stop()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-end.C:
			tb.Fatalf("not within %s: %v", within, err)
		case <-again.C:
		}
	}
}

// environment gives what a kiln process sees: the machine's search path and home, no AWS or KILN variables of the
// tests' own, the settings as KILN_ variables, and extra, of which the last wins.
func environment(settings map[string]string, extra ...string) []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LANG=C.UTF-8"}
	for key, value := range settings {
		env = append(env, "KILN_"+strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(key))+"="+value)
	}
	return append(env, extra...)
}

// logBuffer keeps what a server writes, line by line.
type logBuffer struct {
	mu    sync.Mutex
	lines []string // guarded by mu
	part  []byte   // guarded by mu; the line not ended yet
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.part = append(b.part, p...)
	for {
		line, rest, whole := strings.Cut(string(b.part), "\n")
		if !whole {
			return len(p), nil
		}
		b.lines = append(b.lines, line)
		b.part = []byte(rest)
	}
}

// mark is how many lines there are now.
func (b *logBuffer) mark() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.lines)
}

// tail gives at most n of the lines from a mark on.
func (b *logBuffer) tail(mark, n int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	lines := b.lines[min(mark, len(b.lines)):]
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	var text strings.Builder
	for _, line := range lines {
		text.WriteString(line + "\n")
	}
	return text.String() + string(b.part)
}

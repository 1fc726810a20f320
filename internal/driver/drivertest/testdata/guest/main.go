// Command guest is the compiled function of the driver suite: a raw Runtime API loop over one connection that does what
// its event says. Standard library only; the suite builds it as a package's bootstrap.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type command struct {
	Do  string
	Arg string
	N   int
}

func main() {
	api := os.Getenv("AWS_LAMBDA_RUNTIME_API")
	if os.Getenv("GUEST_INIT") == "exit" {
		os.Exit(1)
	}
	slots, _ := strconv.Atoi(os.Getenv("AWS_LAMBDA_MAX_CONCURRENCY"))
	for range slots - 1 {
		go loop(api)
	}
	loop(api)
}

// loop serves one event after another.
func loop(api string) {
	nc, err := net.Dial("tcp", api)
	if err != nil {
		panic(err)
	}
	r := bufio.NewReader(nc)
	const base = "/2018-06-01/runtime/invocation/"
	for {
		fmt.Fprintf(nc, "GET %snext HTTP/1.1\r\nHost: %s\r\n\r\n", base, api)
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			os.Exit(9)
		}
		event, _ := io.ReadAll(res.Body)
		id := res.Header.Get("Lambda-Runtime-Aws-Request-Id")
		verb, body := "response", handle(event, int(count.Add(1)))
		if bytes.HasPrefix(body, []byte("!")) {
			verb, body = "error", body[1:]
		}
		fmt.Fprintf(nc, "POST %s%s/%s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", base, id, verb, api, len(body), body)
		res, err = http.ReadResponse(r, nil)
		if err != nil {
			os.Exit(9)
		}
		io.Copy(io.Discard, res.Body)
	}
}

var kept [][]byte

var count atomic.Int64 // of executions

// who is who waits for others to come.
var who struct {
	sync.Mutex
	came int
	all  chan struct{}
}

// meet waits until n executions have come at once.
func meet(n int) {
	who.Lock()
	if who.came == 0 {
		who.all = make(chan struct{})
	}
	who.came++
	all := who.all
	if who.came == n {
		who.came = 0
		close(all)
	}
	who.Unlock()
	<-all
}

func handle(event []byte, n int) []byte {
	var c command
	json.Unmarshal(event, &c)
	switch c.Do {
	case "info":
		return info(n)
	case "print":
		line := strings.Repeat("x", 99) + "\n"
		for i := 0; i < c.N; i += len(line) {
			os.Stdout.WriteString(line)
		}
		fmt.Println(c.Arg)
		fmt.Fprintln(os.Stderr, c.Arg)
	case "error":
		return []byte(`!{"errorType":"Custom","errorMessage":"` + c.Arg + `"}`)
	case "exit":
		os.Exit(c.N)
	case "panic":
		panic(c.Arg)
	case "sleep":
		time.Sleep(time.Duration(c.N) * time.Millisecond)
	case "tick":
		go func() {
			for {
				fmt.Println("tick")
				time.Sleep(5 * time.Millisecond)
			}
		}()
	case "spawn":
		exec.Command("/bin/sleep", "1000").Start()
		time.Sleep(time.Duration(c.N) * time.Millisecond)
	case "meet":
		meet(c.N)
		if c.Arg == "exit" {
			os.Exit(3)
		}
		stay, _ := time.ParseDuration(c.Arg)
		time.Sleep(stay)
	case "write":
		if err := os.WriteFile(os.TempDir()+"/marker", []byte(c.Arg), 0o600); err != nil {
			return []byte(`!{"errorType":"Write","errorMessage":"` + err.Error() + `"}`)
		}
	case "alloc":
		for range c.N {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = byte(i)
			}
			kept = append(kept, b)
		}
	}
	return event
}

func info(n int) []byte {
	read := func(names ...string) string {
		for _, name := range names {
			if b, err := os.ReadFile(name); err == nil {
				return strings.TrimSpace(string(b))
			}
		}
		return ""
	}
	host, _ := os.Hostname()
	cwd, _ := os.Getwd()
	env := map[string]string{}
	for _, e := range os.Environ() {
		k, v, _ := strings.Cut(e, "=")
		env[k] = v
	}
	b, _ := json.Marshal(map[string]any{
		"count": n, "host": host, "cwd": cwd, "env": env,
		"machine":  read("/etc/machine-id"),
		"constant": read(os.Getenv("LAMBDA_TASK_ROOT") + "/constant"),
		"marker":   read(os.TempDir() + "/marker"),
		"memory":   read("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max"),
		"quota":    read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu.max"),
	})
	return b
}

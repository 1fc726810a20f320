// Command rawloop is a function for tests: a Runtime API loop over a plain socket. An event names what to do.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

type event struct {
	Do   string   `json:"do"`
	Args []string `json:"args"`
	N    int      `json:"n"`
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "sleep" {
		_ = syscall.Pause()
	}
	address := os.Getenv("AWS_LAMBDA_RUNTIME_API")
	switch os.Getenv("AT_START") {
	case "exit":
		fmt.Println("leaving")
		os.Exit(3)
	case "hang":
		_ = syscall.Pause()
	}
	c, err := net.Dial("tcp", address)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	r := bufio.NewReader(c)
	for n := 1; ; n++ {
		fmt.Fprintf(c, "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: %s\r\n\r\n", address)
		answer, err := http.ReadResponse(r, nil)
		if err != nil {
			os.Exit(1)
		}
		body, _ := io.ReadAll(answer.Body)
		id := answer.Header.Get("Lambda-Runtime-Aws-Request-Id")
		reply, _ := json.Marshal(handle(n, body))
		fmt.Fprintf(c, "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", id, address, len(reply), reply)
		answer, err = http.ReadResponse(r, nil)
		if err != nil {
			os.Exit(1)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
	}
}

func handle(n int, body []byte) any {
	var e event
	_ = json.Unmarshal(body, &e)
	switch e.Do {
	case "count":
		return n
	case "print":
		fmt.Println(e.Args[0])
		return "printed"
	case "read":
		m := map[string]string{}
		for _, f := range e.Args {
			b, err := os.ReadFile(f)
			if err != nil {
				m[f] = "error: " + err.Error()
			} else {
				m[f] = strings.TrimSpace(string(b))
			}
		}
		return m
	case "sockets":
		m := map[string]string{}
		for _, arguments := range e.Args {
			var family, kind, protocol int
			_, _ = fmt.Sscan(arguments, &family, &kind, &protocol)
			fd, err := syscall.Socket(family, kind, protocol)
			m[arguments] = ""
			if err != nil {
				m[arguments] = err.Error()
			} else {
				_ = syscall.Close(fd)
			}
		}
		return m
	case "env":
		return os.Environ()
	case "sh":
		out, err := exec.Command("/bin/sh", "-c", e.Args[0]).CombinedOutput()
		if err != nil {
			return string(out) + "error: " + err.Error()
		}
		return strings.TrimSpace(string(out))
	case "memory":
		b := make([]byte, e.N<<20)
		for i := range b {
			b[i] = 1
		}
		return len(b)
	case "write":
		f, err := os.Create("/tmp/file")
		if err != nil {
			return "error: " + err.Error()
		}
		defer f.Close()
		chunk := make([]byte, 1<<20)
		for i := range e.N {
			if _, err := f.Write(chunk); err != nil {
				return fmt.Sprintf("error after %d MiB: %v", i, err)
			}
		}
		return "written"
	case "fork":
		started := 0
		for range e.N {
			if exec.Command("/proc/self/exe", "sleep").Start() != nil {
				break
			}
			started++
		}
		return started
	case "exit":
		os.Exit(e.N)
	case "hang":
		_ = syscall.Pause()
	case "spin":
		for started := time.Now(); time.Since(started) < time.Hour; {
		}
	}
	return json.RawMessage(body)
}

// Command raw is the least a compiled function can be: a loop over the Runtime API on one socket, without any library. It
// gives its event back. An event that begins with "sleep N;" (inside a JSON string) is held for N milliseconds first.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	address := os.Getenv("AWS_LAMBDA_RUNTIME_API")
	if err := loop(address); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func loop(address string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	r := bufio.NewReader(c)
	next := []byte("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: " + address + "\r\n\r\n")
	var out []byte
	for {
		if _, err := c.Write(next); err != nil {
			return err
		}
		id, event, err := answer(r)
		if err != nil {
			return err
		}
		if ms, found := strings.CutPrefix(string(event), `"sleep `); found {
			ms, _, _ = strings.Cut(ms, ";")
			n, _ := strconv.ParseFloat(ms, 64)
			<-time.After(time.Duration(n * float64(time.Millisecond)))
		}
		out = fmt.Appendf(out[:0], "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			id, address, len(event), event)
		if _, err := c.Write(out); err != nil {
			return err
		}
		if _, _, err := answer(r); err != nil {
			return err
		}
	}
}

// answer reads one answer of the Runtime API: the request id it names, if any, and its body.
func answer(r *bufio.Reader) (id string, body []byte, err error) {
	if _, err := r.ReadSlice('\n'); err != nil {
		return "", nil, err
	}
	length := 0
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return "", nil, err
		}
		name, value, found := strings.Cut(strings.TrimSpace(string(line)), ":")
		if !found {
			break
		}
		switch textproto.CanonicalMIMEHeaderKey(name) {
		case "Content-Length":
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return "", nil, err
			}
		case "Lambda-Runtime-Aws-Request-Id":
			id = strings.TrimSpace(value)
		}
	}
	body = make([]byte, length)
	_, err = io.ReadFull(r, body)
	return id, body, err
}

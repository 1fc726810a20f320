//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// api tries what the Runtime API must not take: answers for others, calls out of turn, more than fits.
func api(foreign, own string) []probe {
	const base = "/2018-06-01/runtime/"
	return []probe{
		{"answer for the neighbour's execution", func() error { return post(base+"invocation/"+foreign+"/response", "", `"forged"`) }},
		{"fail the neighbour's execution", func() error { return post(base+"invocation/"+foreign+"/error", "", `{"errorType":"Forged"}`) }},
		{"answer for an execution that never was", func() error { return post(base+"invocation/00000000-0000-4000-8000-000000000000/response", "", `1`) }},
		{"answer for ../ and the neighbour's", func() error { return post(base+"invocation/x/../"+foreign+"/response", "", `1`) }},
		{"fail its initialisation after it", func() error { return post(base+"init/error", "", `{}`) }},
		{"ask for the binding again", func() error { return raw("GET /kiln/binding HTTP/1.1\r\nHost: x\r\n\r\n") }},
		{"a call nobody knows", func() error { return raw("GET /2018-06-01/runtime/secrets HTTP/1.1\r\nHost: x\r\n\r\n") }},
		{"DELETE the event", func() error { return raw("DELETE " + base + "invocation/next HTTP/1.1\r\nHost: x\r\n\r\n") }},
		{"a header of 1 MiB", func() error {
			return post(base+"invocation/"+foreign+"/response", "X-Large: "+strings.Repeat("x", 1<<20)+"\r\n", `1`)
		}},
		{"ten thousand headers", func() error { return post(base+"init/error", strings.Repeat("X: 1\r\n", 10000), `1`) }},
		{"two lengths", func() error {
			return raw("POST " + base + "invocation/" + own + "/response HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12")
		}},
		{"a length and chunks at once", func() error {
			return raw("POST " + base + "invocation/" + own + "/response HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
		}},
		{"noise instead of HTTP", func() error { return raw("\x16\x03\x01\x00\x00\x00\xff\xfe\r\n\r\n") }},
		{"a line of 1 MiB", func() error { return raw("GET /" + strings.Repeat("a", 1<<20) + " HTTP/1.1\r\n\r\n") }},
		{"a thousand connections", connections},
	}
}

func post(path, header, body string) error {
	return raw(fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n%s", path, header, len(body), body))
}

// raw sends bytes to the Runtime API. What is answered with a status below 400 succeeded.
func raw(request string) error {
	s, err := net.DialTimeout("tcp", os.Getenv("AWS_LAMBDA_RUNTIME_API"), 2*time.Second)
	if err != nil {
		return err
	}
	defer s.Close()
	_ = s.SetDeadline(time.Now().Add(5 * time.Second))
	go func() { _, _ = io.WriteString(s, request) }() // it may be cut off before its end
	res, err := http.ReadResponse(bufio.NewReader(s), nil)
	if err != nil {
		return errors.New("connection closed")
	}
	defer res.Body.Close()
	if res.StatusCode < 400 {
		return nil
	}
	return errors.New(res.Status)
}

// connections opens a thousand connections and counts those that are kept.
func connections() error {
	var open []net.Conn
	defer func() {
		for _, s := range open {
			_ = s.Close()
		}
	}()
	for range 900 {
		s, err := net.DialTimeout("tcp", os.Getenv("AWS_LAMBDA_RUNTIME_API"), 2*time.Second)
		if err != nil {
			break
		}
		open = append(open, s)
	}
	kept := 0
	<-time.After(time.Second) // for the node to close what it will close
	for _, s := range open {
		_ = s.SetReadDeadline(time.Now().Add(2 * time.Millisecond))
		if _, err := s.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			kept++
		}
	}
	if kept > 32 {
		return nil
	}
	return errors.New("closed but for a few")
}

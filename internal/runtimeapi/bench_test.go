package runtimeapi

import (
	"net"
	"strings"
	"testing"
	"time"

	"kiln"
)

// BenchmarkExecute measures one warm round trip of a 120-byte event: hand-over, echo by a guest in this process, answer.
func BenchmarkExecute(b *testing.B) {
	for _, way := range []string{"tcp", "pipe"} {
		for _, pipelined := range []bool{false, true} {
			name := way + "/plain"
			if pipelined {
				name = way + "/pipelined"
			}
			b.Run(name, func(b *testing.B) {
				var s *Session
				if way == "tcp" {
					session, connect := open(b, Config{})
					g := connect()
					_ = g.nc.SetDeadline(time.Time{})
					go g.echo(pipelined)
					s = session
				} else {
					s = New(Config{})
					ours, theirs := net.Pipe()
					l := newPipeListener(ours)
					go func() { _ = s.Serve(l) }()
					defer s.Close()
					go newGuest(b, theirs).echo(pipelined)
				}
				if r := s.Started(b.Context(), 10*time.Second); r.Failure != nil {
					b.Fatal(r.Failure)
				}
				d := &kiln.Delivery{RequestID: "00000000-0000-4000-8000-000000000001", Payload: []byte(strings.Repeat("x", 120)),
					ARN: "arn:aws:lambda:us-east-1:000000000000:function:f"}
				b.ReportAllocs()
				for b.Loop() {
					d.Deadline = time.Now().Add(time.Minute)
					if a := s.Execute(b.Context(), d); a.Failure != nil || len(a.Payload) != 120 {
						b.Fatalf("answer: %+v", a.Failure)
					}
				}
			})
		}
	}
}

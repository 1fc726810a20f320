// Package agent is the guest's side of a boundary that the node cannot reach into (a gVisor sandbox, a virtual machine), and
// the protocol between the two: one byte stream over which the node and kiln-agent speak in length-prefixed frames.
//
// The agent serves the Runtime API's address on the guest's loopback, so that a function sees plain
// AWS_LAMBDA_RUNTIME_API=host:port, and carries each connection made to it as a stream of its own to the node, which
// answers it with package runtimeapi as in every other boundary: there is one implementation of the Runtime API, and it is
// on the trusted side. Streams, their flow control and the bounded frames are yamux's (github.com/hashicorp/yamux); the
// handshake before it (see hello.go) has a version of its own.
//
// It is not for what runs on the node (drivers), and it decides nothing. cmd/kiln-agent calls Run inside the guest;
// drivers call Dial or Accept on the node. The node treats everything an agent sends as hostile: greetings and frames are
// bounded, streams are counted, and what they carry goes to runtimeapi, which trusts no guest.
//
// A guest may be stopped, copied and continued elsewhere while a runtime waits for its first event. The link is gone then;
// the agent opens it again and asks anew what was asked and not answered, so that the runtime never notices (see relay.go).
//
// Link and Guest are safe concurrently. Each has one lock, held for a few assignments and never over I/O.
package agent

import (
	"io"
	"log"
	"time"

	"github.com/hashicorp/yamux"
)

// Bounds of a link, on both ends.
const (
	// ConnectionsMax is how many connections of one guest may be carried at once; more are closed at once. The session
	// behind them has a smaller limit of its own.
	ConnectionsMax = 64
	// windowBytes is what may be on its way in one stream, in bytes: yamux's least.
	windowBytes = 256 << 10
	// writeLimit is how long the other end may take nothing before the link counts as broken.
	writeLimit = 10 * time.Second
	// helloLimit bounds the handshake.
	helloLimit = 10 * time.Second
)

// sessionConfig is yamux's, on both ends. Keep-alives are off: a guest at rest costs nothing, and the end of a guest shows
// in the end of its stream.
func sessionConfig() *yamux.Config {
	c := yamux.DefaultConfig()
	c.AcceptBacklog = ConnectionsMax
	c.EnableKeepAlive = false
	c.ConnectionWriteTimeout = writeLimit
	c.MaxStreamWindowSize = windowBytes
	c.StreamOpenTimeout = helloLimit
	c.StreamCloseTimeout = writeLimit
	c.LogOutput = nil
	c.Logger = log.New(io.Discard, "", 0)
	return c
}

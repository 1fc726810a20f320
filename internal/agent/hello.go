package agent

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"time"

	"kiln"
)

// Version is the protocol's. Both ends must speak the same: agent and node are of one release.
const Version = 1

// MaxHelloBytes bounds one greeting, in bytes.
const MaxHelloBytes = 64 << 10

// magic begins every greeting, so that a stream that is something else is told apart at once.
const magic = "kiln-agent\n"

// Greeting is what the agent says first.
type Greeting struct {
	Version int `json:"version"`
	// Boot counts the links this agent has opened; above one it has been continued or has lost a link.
	Boot int `json:"boot"`
}

// Welcome is what the node answers.
type Welcome struct {
	Version int `json:"version"`
	// Now is the node's clock, in nanoseconds since 1970: a guest that was stopped has an old one.
	Now int64 `json:"now"`
	// Seed is new randomness for the guest's kernel, 64 bytes: copies of one guest would draw the same numbers.
	Seed []byte `json:"seed"`
	// Instance says which instance the guest is now.
	Instance kiln.InstanceID `json:"instance"`
}

// writeHello sends a greeting: the magic, its length in four bytes, big endian, and that much JSON.
func writeHello(w io.Writer, hello any) error {
	body, err := json.Marshal(hello)
	if err != nil {
		return kiln.Wrap(kiln.KindInternal, "agent: greet", "a greeting cannot be written", err)
	}
	frame := binary.BigEndian.AppendUint32([]byte(magic), uint32(len(body)))
	if _, err := w.Write(append(frame, body...)); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, "agent: greet", "the link broke off", err)
	}
	return nil
}

// readHello reads a greeting. KindMalformed when it is none, KindUnavailable when the link broke off.
func readHello(r io.Reader, hello any) error {
	const op = "agent: read greeting"
	var head [len(magic) + 4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "the link broke off", err)
	}
	if string(head[:len(magic)]) != magic {
		return kiln.Errorf(kiln.KindMalformed, op, "what speaks is no agent of Kiln")
	}
	n := binary.BigEndian.Uint32(head[len(magic):])
	if n > MaxHelloBytes {
		return kiln.Errorf(kiln.KindMalformed, op, "a greeting of %d bytes is longer than %d", n, MaxHelloBytes)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "the link broke off", err)
	}
	if err := json.Unmarshal(body, hello); err != nil {
		return kiln.Wrap(kiln.KindMalformed, op, "a greeting is not JSON", err)
	}
	return nil
}

// checkVersion refuses the other end when it speaks another protocol.
func checkVersion(version int) error {
	if version != Version {
		return kiln.Errorf(kiln.KindUnavailable, "agent: check version", "the other end speaks version %d of the protocol, this one %d: agent and node must be of one release", version, Version)
	}
	return nil
}

// withDeadline runs a handshake under helloLimit where the stream can do that.
func withDeadline(rw any, do func() error) error {
	d, ok := rw.(interface{ SetDeadline(time.Time) error })
	if !ok {
		return do()
	}
	if err := d.SetDeadline(time.Now().Add(helloLimit)); err != nil {
		return do()
	}
	err := do()
	_ = d.SetDeadline(time.Time{})
	return err
}

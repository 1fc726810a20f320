// Command runsc is gVisor's launcher and kernel, built from its Go module as a helper program of Kiln's release. It is a
// module of its own, so that what it needs is not Kiln's: Kiln starts it and links nothing of it.
package main

import "gvisor.dev/gvisor/runsc/cli/maincli"

func main() { maincli.Main() }

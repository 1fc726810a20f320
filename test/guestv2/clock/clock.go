// Package clock steps the machine's clock by an hour, forwards and back, under a running server, and looks at what it does
// from outside. Its test is for a machine whose clock is nobody's: it is built with the tag "clock" by package guestv2 and
// runs in that package's virtual machine only.
package clock

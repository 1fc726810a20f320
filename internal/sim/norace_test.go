//go:build !race && long

package sim

// underRace says that the race detector is on.
const underRace = false

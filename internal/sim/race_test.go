//go:build race && long

package sim

// underRace says that the race detector is on, by which everything takes ten times as long.
const underRace = true

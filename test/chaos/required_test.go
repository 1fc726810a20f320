//go:build !long

package chaos

// How much of each in `make test`, where minutes count; `make test-long` has all.
const (
	kills        = 4
	earlyKills   = 3
	launcherWays = 2
)

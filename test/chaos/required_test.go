//go:build !long

package chaos

// How much of each in `make test`, where minutes count; `make test-long` has all.
const (
	kills        = 3
	earlyKills   = 2
	launcherWays = 2
)

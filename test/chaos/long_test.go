//go:build long

package chaos

// How much of each in `make test-long`.
const (
	kills        = 20
	earlyKills   = 12
	launcherWays = 3
)

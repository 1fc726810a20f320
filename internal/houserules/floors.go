package houserules

import "strings"

// module is the path every package of the house begins with.
const module = "kiln"

// beside marks packages that stand next to the house: they may import any floor, and nothing but tests and the binaries
// import them.
const (
	beside   = -1
	binaries = 13
)

// floor is one row of the house: who lives there and what the floor is for. A package imports lower floors only, never
// a neighbour on its own.
type floor struct {
	number int
	why    string
	rooms  []string // folders; one ending in /* stands for each folder below it
}

// floors is the house, from the words up. To add a package, write it here, on the lowest floor its imports allow. To
// import a neighbour, do not: hand it in as a function or an interface from the floor above, or move what both need down.
var floors = []floor{
	{0, "words: the standard library only, so that every package can speak them", []string{"."}},
	{1, "deciding, pure: no goroutine, clock, logger or I/O, so that the simulator runs the very same code; and the wire's shapes",
		[]string{"internal/placement", "internal/capacity", "internal/fleet", "internal/retention", "internal/sizing",
			"internal/admission", "internal/promise", "internal/rollout", "internal/lambdaapi"}},
	{2, "managing, pure: one fleet's instance manager, made of the cores below", []string{"internal/manager"}},
	{3, "ground: the engine's one connection, what containers talk to, what the kernel gives",
		[]string{"internal/engine", "internal/runtimeapi", "internal/sandbox", "internal/record"}},
	{4, "what drivers share: the guest's side of a boundary, and the stage that containers are built from", []string{"internal/agent", "internal/stage"}},
	{5, "materials: what boundaries are made of; implements node's driver interface without importing it",
		[]string{"internal/driver/*"}},
	{6, "keeping: what survives a restart", []string{"internal/registry", "internal/identity", "internal/code",
		"internal/images", "internal/buckets", "internal/shared", "internal/ledger", "internal/usage", "internal/backup"}},
	{7, "host: one machine and its instances", []string{"internal/node"}},
	{8, "pools: the instance managers' shells", []string{"internal/pool"}},
	{9, "executing: every door and every trigger comes through here", []string{"internal/invoke"}},
	{10, "steering: what makes executions, or containers, without a caller waiting", []string{"internal/events", "internal/deploy",
		"internal/provisioning"}},
	{11, "doors: what a stranger knocks at; and the client that knocks", []string{"internal/frontend", "internal/objects",
		"internal/console", "internal/operations", "internal/client"}},
	{12, "wiring: the only place that knows every concrete type", []string{"internal/server"}},
	{binaries, "binaries", []string{"cmd/kiln", "cmd/kiln-agent"}},
	{beside, "beside the house: simulator, traces, suites, generators, examples, scripts", []string{"internal/sim",
		"internal/sim/*", "internal/trace", "internal/train", "internal/driver/drivertest", "internal/houserules", "internal/lambdaapi/*", "test/*", "examples/*", "scripts/*", "build/*"}},
}

// pureFloors are the highest and lowest floors whose packages decide and do nothing else.
const (
	lowestPure  = 1
	highestPure = 2
)

// notPure lists the packages on pure floors that are not cores: the wire reads requests and writes answers.
var notPure = []string{"internal/lambdaapi"}

// floorOf finds a folder's floor; nil when it is in no room. An exact room wins over one with a star.
func floorOf(dir string) *floor {
	var starred *floor
	for i := range floors {
		for _, room := range floors[i].rooms {
			if room == dir {
				return &floors[i]
			}
			prefix, star := strings.CutSuffix(room, "*")
			if star && strings.HasPrefix(dir, prefix) && dir != prefix {
				starred = &floors[i]
			}
		}
	}
	return starred
}

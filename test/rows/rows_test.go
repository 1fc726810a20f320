// Package rows shows the rows of the requirements, one test or more each, from outside: by what the code finds around
// itself (boot id, hostname, process, cgroup limits), by what the kernel of this machine shows, and by this process's
// clock. Where a test reads Kiln's own lists it compares them with such facts.
package rows

import (
	"os"
	"slices"
	"testing"
	"time"

	"kiln/test/kilntest"
)

// shared is the server of all tests that do not need one of their own. Its instances have room for several containers.
var shared = kilntest.Shared{Options: kilntest.Options{Settings: map[string]string{
	"instances.shapes":  `[{"memory":1024,"cpus":2},{"memory":3072,"cpus":3}]`,
	"instances.max":     "48",
	"warming.instances": "1", "warming.maximum": "1", // tests compare the warming pool before and after
}}}

func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }

// account gives a fresh account on the shared server.
func account(t *testing.T) *kilntest.Account {
	t.Helper()
	kilntest.NeedContainer(t)
	return shared.Server(t).NewAccount(t)
}

// slack is how far two clocks of one machine are taken to differ: processes' start times come in hundredths of a second.
const slack = 30 * time.Millisecond

// warm gives the instances that belong to nobody.
func warm(instances []kilntest.Instance) []kilntest.Instance {
	return slices.DeleteFunc(slices.Clone(instances), func(i kilntest.Instance) bool { return i.Pool != "warming" })
}

// byBoot finds the instance whose boot id code read in its /etc/machine-id.
func byBoot(t *testing.T, instances []kilntest.Instance, machineID string) (kilntest.Instance, bool) {
	t.Helper()
	i := slices.IndexFunc(instances, func(i kilntest.Instance) bool { return i.BootID == machineID })
	if i < 0 {
		return kilntest.Instance{}, false
	}
	return instances[i], true
}

// kinds picks events of some kinds.
func kinds(events []kilntest.Event, wanted ...string) []kilntest.Event {
	return slices.DeleteFunc(slices.Clone(events), func(e kilntest.Event) bool { return !slices.Contains(wanted, e.Kind) })
}

// lastEvent is the id of the newest event the operator sees.
func lastEvent(operator *kilntest.Account) uint64 {
	var last uint64
	for _, e := range operator.Events() {
		last = max(last, e.ID)
	}
	return last
}

// sameContainer demands that two executions ran in one container of one instance, in one process.
func sameContainer(t *testing.T, a, b kilntest.Facts) {
	t.Helper()
	if a.MachineID != b.MachineID || a.Hostname != b.Hostname || a.Pid != b.Pid {
		t.Fatalf("the second execution ran elsewhere: %s/%s/%d, then %s/%s/%d", a.MachineID, a.Hostname, a.Pid, b.MachineID, b.Hostname, b.Pid)
	}
}

// sameInstance demands that two executions ran in different containers of one instance.
func sameInstance(t *testing.T, a, b kilntest.Facts) {
	t.Helper()
	if a.MachineID != b.MachineID {
		t.Fatalf("the second execution ran on another instance: %s, then %s", a.MachineID, b.MachineID)
	}
	if a.Hostname == b.Hostname {
		t.Fatalf("both executions ran in container %s", a.Hostname)
	}
}

// languages runs a test once for each language the probe is written in.
func languages(t *testing.T, test func(t *testing.T, language string)) {
	for _, language := range []string{"python", "node", "go"} {
		t.Run(language, func(t *testing.T) { test(t, language) })
	}
}

package drivertest

import (
	"encoding/json"
	"fmt"
	"strings"

	"kiln"
)

// managedGuest is the suite's handler in one language.
type managedGuest struct {
	language string
	file     string
	source   string
	// early is a variable that acts only when the process starts, and what the handler then says of it.
	early, value, says string
}

var managedGuests = []managedGuest{ // never written
	{"python", "app.py", `
import os, sys
n = 0
def handler(event, context):
    global n
    n += 1
    print("hello")
    if event.get("do") == "error":
        raise ValueError(event["arg"])
    if event.get("do") == "exit":
        sys.exit(event["n"])
    if event.get("do") == "fault":
        import ctypes
        ctypes.string_at(0)
    return {"count": n, "early": str(sys.flags.optimize), "constant": open(os.environ["LAMBDA_TASK_ROOT"] + "/constant").read(),
            "id": context.aws_request_id, "variable": os.environ["VARIABLE"], "cwd": os.getcwd() == os.environ["LAMBDA_TASK_ROOT"]}
`, "PYTHONOPTIMIZE", "2", "2"},
	{"nodejs", "app.js", `
const fs = require('fs');
let n = 0;
exports.handler = async (event, context) => {
  n++;
  console.log('hello');
  if (event.do === 'error') { const e = new Error(event.arg); e.name = 'ValueError'; throw e; }
  if (event.do === 'exit') process.exit(event.n);
  if (event.do === 'fault') process.abort();
  return { count: n, early: process.title, constant: fs.readFileSync(process.env.LAMBDA_TASK_ROOT + '/constant', 'utf8'),
    id: context.awsRequestId, variable: process.env.VARIABLE, cwd: process.cwd() === process.env.LAMBDA_TASK_ROOT };
};
`, "NODE_OPTIONS", "--title=early", "early"},
}

// each runs f for every managed language the driver can start.
func each(b *bench, f func(g managedGuest, i kiln.InstanceID, dir string)) {
	for _, g := range managedGuests {
		if _, ok := b.runtime(g.language); !ok {
			b.Logf("NOT TESTED: no interpreter for %s", g.language)
			continue
		}
		i := b.instance()
		f(g, i, b.code(i, map[string]string{g.file: g.source, "constant": "one"}))
	}
}

type managedInfo struct {
	Count                         int
	Early, Constant, ID, Variable string
	Cwd                           bool
}

func (b *bench) managedInfo(c kiln.ContainerID) (m managedInfo) {
	b.Helper()
	a := b.execute(c, "{}", patience)
	if err := json.Unmarshal(a.Payload, &m); err != nil || a.Failure != nil {
		b.Errorf("answer %s", a.Payload)
	}
	// What starting and binding took is not the execution's.
	if a.Usage.CPUNanos > 0 && (a.Before.CPUNanos == 0 || a.Before.CPUNanos > a.Usage.CPUNanos) {
		b.Errorf("usage %+v before the execution, %+v after it", a.Before, a.Usage)
	}
	return m
}

// managed: interpreters are prepared before their code is known, keep their state, report errors and ends as AWS does.
func managed(b *bench) {
	each(b, func(g managedGuest, i kiln.InstanceID, dir string) {
		c := b.container(i, g.language, nil)
		b.bind(c, binding(dir, "app.handler", map[string]string{"VARIABLE": "ü"}))
		for n := 1; n <= 3; n++ {
			m := b.managedInfo(c)
			if m.Count != n || m.Constant != "one" || m.Variable != "ü" || !m.Cwd || !strings.HasPrefix(m.ID, "00000000-") {
				b.Errorf("%s: %+v", g.language, m)
			}
		}
		b.mu.Lock()
		if n := strings.Count(string(b.written[c]), "hello\n"); n != 3 {
			b.Errorf("%s: wrote %q", g.language, b.written[c])
		}
		b.mu.Unlock()
		a := b.execute(c, `{"do":"error","arg":"no luck"}`, patience)
		if a.Failure == nil || a.Failure.Type != "ValueError" || a.Lost || !strings.Contains(string(a.Payload), `no luck`) {
			b.Errorf("%s: %+v %s", g.language, a, a.Payload)
		}
		b.wantLost(b.execute(c, `{"do":"exit","n":4}`, patience), kiln.OutcomeCrash, "Runtime.ExitError")
		b.eventually("Exited", func() bool { return len(b.exits[c]) == 1 && b.exits[c][0].Status == "exit status 4" })

		c = b.container(i, g.language, nil)
		b.bind(c, binding(dir, "app.handler", map[string]string{"VARIABLE": "ü"}))
		b.wantLost(b.execute(c, `{"do":"fault"}`, patience), kiln.OutcomeCrash, "Runtime.ExitError")
		// Which signal is the boundary's: the first process of a namespace cannot abort, and ends by the fault that follows.
		b.eventually("Exited", func() bool { return len(b.exits[c]) == 1 && strings.HasPrefix(b.exits[c][0].Status, "signal: ") })

		c = b.container(i, g.language, nil)
		r, err := b.Driver.BindContainer(b.Context(), c, binding(dir, "nothing.handler", nil))
		if err != nil || r.Failure == nil || r.Failure.Type != "Runtime.ImportModuleError" || r.Failure.Outcome != kiln.OutcomeInit {
			b.Errorf("%s: %+v, %v", g.language, r.Failure, err)
		}
	})
}

// managedFresh: a variable that acts when the interpreter starts acts in a container made for it, and the binding that
// follows is told as ever.
func managedFresh(b *bench) {
	each(b, func(g managedGuest, i kiln.InstanceID, dir string) {
		bound := binding(dir, "app.handler", map[string]string{"VARIABLE": "v", g.early: g.value})
		c := b.container(i, g.language, &bound)
		b.bind(c, bound)
		if m := b.managedInfo(c); m.Early != g.says || m.Variable != "v" {
			b.Errorf("%s: %s", g.language, fmt.Sprintf("%+v", m))
		}
	})
}

package drivertest

import (
	"encoding/json"
	"strconv"
	"sync"
	"time"

	"kiln"
)

// declared is a binding that declares so many executions at once, as node makes it.
func declared(dir, handler string, slots int) kiln.Binding {
	g := binding(dir, handler, map[string]string{"AWS_LAMBDA_MAX_CONCURRENCY": strconv.Itoa(slots)})
	g.Version.Concurrency = slots
	return g
}

// atOnce has a container execute events at once.
func (b *bench) atOnce(c kiln.ContainerID, limit time.Duration, events ...string) []kiln.Answer {
	answers := make([]kiln.Answer, len(events))
	var wg sync.WaitGroup
	for i, event := range events {
		wg.Go(func() { answers[i] = b.execute(c, event, limit) })
	}
	wg.Wait()
	return answers
}

// several: a container executes as many at once as its version declares (they wait for each other, and none would end
// alone); an error is one execution's own; the deadline of one leaves the others, after which nothing begins; its end fails
// each of them for itself; and what it used is counted once among them.
func several(b *bench) {
	i := b.instance()
	dir := b.compiled(i, "one")
	ready := func() kiln.ContainerID {
		c := b.container(i, "provided", nil)
		b.bind(c, declared(dir, "h", 3))
		return c
	}
	c := ready()
	meet := `{"do":"meet","n":3}`
	for _, a := range b.atOnce(c, patience, meet, meet, meet) {
		if a.Failure != nil || a.Lost || string(a.Payload) != meet || a.Usage.CPUNanos < a.Before.CPUNanos {
			b.Errorf("at once: %+v %s", a, a.Payload)
		}
	}
	answers := b.atOnce(c, patience, `{"do":"meet","n":2}`, `{"do":"error","arg":"own"}`, `{"do":"meet","n":2}`)
	if answers[0].Failure != nil || answers[2].Failure != nil || answers[1].Failure == nil || answers[1].Failure.Type != "Custom" || answers[1].Lost {
		b.Errorf("beside an error: %s %s %s", answers[0].Payload, answers[1].Payload, answers[2].Payload)
	}

	var wg sync.WaitGroup
	var beside kiln.Answer
	wg.Go(func() { beside = b.execute(c, `{"do":"meet","n":2,"arg":"4s"}`, patience) })
	b.wantLost(b.execute(c, `{"do":"meet","n":2,"arg":"1m"}`, 2*time.Second), kiln.OutcomeTimeout, "Sandbox.Timedout")
	if a := b.execute(c, "{}", patience); !a.Lost || !a.Undelivered {
		b.Errorf("began in a container that is lost: %+v", a)
	}
	wg.Wait()
	if beside.Failure != nil {
		b.Errorf("beside a timeout: %s", beside.Payload)
	}

	c = ready()
	for _, a := range b.atOnce(c, patience, `{"do":"meet","n":3,"arg":"1m"}`, `{"do":"meet","n":3,"arg":"exit"}`, `{"do":"meet","n":3,"arg":"1m"}`) {
		b.wantLost(a, kiln.OutcomeCrash, "Runtime.ExitError")
	}
	b.eventually("Exited", func() bool { return len(b.exits[c]) == 1 && b.exits[c][0].Status == "exit status 3" })
}

// severalGuests wait for each other by files, which processes of one container share.
var severalGuests = []managedGuest{ // never written
	{language: "python", file: "app.py", source: `
import os, tempfile, time
def handler(event, context):
    here = os.path.join(tempfile.gettempdir(), "met")
    os.makedirs(here, exist_ok=True)
    open(os.path.join(here, context.aws_request_id), "w").close()
    while len(os.listdir(here)) < event["n"]:
        time.sleep(0.005)
    return context.aws_request_id
`}, {language: "nodejs", file: "app.js", source: `
const fs = require('fs'), path = require('path');
exports.handler = async (event, context) => {
  const here = path.join(require('os').tmpdir(), 'met');
  fs.mkdirSync(here, { recursive: true });
  fs.writeFileSync(path.join(here, context.awsRequestId), '');
  while (fs.readdirSync(here).length < event.n) await new Promise((r) => setTimeout(r, 5));
  return context.awsRequestId;
};
`},
}

// severalManaged: so do the managed languages, with our bootstraps.
func severalManaged(b *bench) {
	for _, g := range severalGuests {
		if _, ok := b.runtime(g.language); !ok {
			b.Logf("NOT TESTED: no interpreter for %s", g.language)
			continue
		}
		i := b.instance()
		c := b.container(i, g.language, nil)
		b.bind(c, declared(b.code(i, map[string]string{g.file: g.source}), "app.handler", 4))
		ids := map[string]bool{}
		for _, a := range b.atOnce(c, patience, `{"n":4}`, `{"n":4}`, `{"n":4}`, `{"n":4}`) {
			var id string
			if err := json.Unmarshal(a.Payload, &id); err != nil || a.Failure != nil {
				b.Errorf("%s: %s", g.language, a.Payload)
			}
			ids[id] = true
		}
		if len(ids) != 4 {
			b.Errorf("%s: answers of %v", g.language, ids)
		}
	}
}

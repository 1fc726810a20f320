// Command tide calls one function for about a minute, first seldom, then often, then not at all, and prints beside it how
// the pools follow: what was asked for, how many instances are warm and how many are to be, what the active ones hold, how
// many requests waited for a new container, and which fleet served them. At the end it counts what was decided meanwhile.
//
// It is the demo's, which starts it against a server of its own whose times are short; any other server serves as well. The
// endpoint and the key come from AWS's environment variables. A call that fails ends it.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"kiln"
	"kiln/internal/client"
)

// every is the time between two rows.
const every = 3 * time.Second

// phase is a while of one rate.
type phase struct {
	perSecond float64
	lasts     time.Duration
}

// tide rises and falls.
var tide = []phase{{1, 6 * time.Second}, {5, 9 * time.Second}, {14, 12 * time.Second}, {5, 12 * time.Second}, {0, 18 * time.Second}}

// due is how many calls are to have been made after a while, and whether the tide is over.
func due(phases []phase, after time.Duration) (calls int, over bool) {
	var sum float64
	for _, p := range phases {
		if after < p.lasts {
			return int(sum + p.perSecond*after.Seconds()), false
		}
		sum += p.perSecond * p.lasts.Seconds()
		after -= p.lasts
	}
	return int(sum), true
}

// row is what is shown of one moment.
type row struct {
	at                                       time.Duration
	asked                                    float64 // a second, since the row before
	warm, target, active, busy, idle, paused int
	executions, waited                       int
	fleet                                    string
	runtime                                  string // as far as it is known from the rows before
}

const heading = " TIME  ASKED/S                  INSTANCES              CONTAINERS         REQUESTS THAT     SERVED\n" +
	"                                WARM/TARGET  ACTIVE    BUSY IDLE PAUSED   HAD A NEW ONE     BY FLEET\n"

func (r row) String() string {
	return fmt.Sprintf("%4ds  %7.1f  %-14s %5d/%-5d  %6d    %4d %4d %6d   %6d of %-4d    %s",
		int(r.at.Round(time.Second).Seconds()), r.asked, strings.Repeat("#", min(int(r.asked+0.5), 14)), r.warm, r.target, r.active,
		r.busy, r.idle, r.paused, r.waited, r.executions, cmp.Or(r.fleet, "-"))
}

func main() {
	function := flag.String("function", "", "the function that is called")
	flag.Parse()
	key := client.Credentials{AccessKeyID: os.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY"),
		Region: cmp.Or(os.Getenv("AWS_REGION"), kiln.DefaultRegion)}
	c, err := client.New(os.Getenv("AWS_ENDPOINT_URL"), key)
	if err == nil {
		err = run(context.Background(), c, *function, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tide:", err)
		os.Exit(1)
	}
}

// run lets the tide pass.
func run(ctx context.Context, c *client.Client, function string, out io.Writer) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	begin := time.Now()
	var asked atomic.Int64
	var calls sync.WaitGroup
	calls.Go(func() {
		call := func() {
			_, err := c.Lambda().Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String(function), Payload: []byte("{}")})
			if err != nil && ctx.Err() == nil {
				stop(fmt.Errorf("a call of %s failed: %w", function, err))
			}
		}
		for n, over := 0, false; !over && ctx.Err() == nil; {
			var want int
			for want, over = due(tide, time.Since(begin)); n < want; n++ {
				asked.Add(1)
				calls.Go(call)
			}
			<-time.After(20 * time.Millisecond)
		}
	})
	err := watch(ctx, c, function, begin, &asked, out)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	calls.Wait()
	return errors.Join(err, tell(ctx, c, begin, out))
}

// watch prints a row again and again until the tide is over.
func watch(ctx context.Context, c *client.Client, function string, begin time.Time, asked *atomic.Int64, out io.Writer) error {
	fmt.Fprint(out, heading)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var before int64
	last, runtime := begin, ""
	for over := false; !over; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		now := time.Now()
		_, over = due(tide, now.Sub(begin))
		sum := asked.Load()
		r := row{at: now.Sub(begin), asked: float64(sum-before) / now.Sub(last).Seconds(), runtime: runtime}
		if err := look(ctx, c, function, last, &r); err != nil {
			return err
		}
		fmt.Fprintln(out, r)
		before, last, runtime = sum, now, r.runtime
	}
	return nil
}

// look fills a row with what the server says of itself: of the pools, those of the function's runtime once that is known.
func look(ctx context.Context, c *client.Client, function string, since time.Time, r *row) error {
	var pools []struct {
		Pool                       kiln.Pool
		Runtime                    string
		Target, Instances, Booting int
	}
	var containers []struct{ State, Function string }
	var executions []struct {
		Fleet, RuntimeUsed string
		Path               kiln.Path
	}
	err := errors.Join(
		list(ctx, c, "pools", nil, &pools),
		list(ctx, c, "containers", nil, &containers),
		list(ctx, c, "executions", url.Values{"function": {function}, "since": {since.UTC().Format(time.RFC3339Nano)}}, &executions),
	)
	for _, e := range executions { // the newest first
		r.fleet, r.runtime = cmp.Or(r.fleet, e.Fleet), cmp.Or(r.runtime, e.RuntimeUsed)
		r.executions++
		if e.Path != kiln.PathContainer {
			r.waited++
		}
	}
	for _, p := range pools {
		if r.runtime != "" && p.Runtime != r.runtime {
			continue
		}
		if p.Pool == kiln.PoolWarming {
			r.warm += p.Instances - p.Booting
			r.target += p.Target
		} else {
			r.active += p.Instances
		}
	}
	for _, held := range containers {
		if held.Function != function {
			continue
		}
		switch held.State {
		case "busy":
			r.busy++
		case "idle":
			r.idle++
		case "paused":
			r.paused++
		}
	}
	return err
}

// tell counts what was decided since.
func tell(ctx context.Context, c *client.Client, since time.Time, out io.Writer) error {
	var events []struct{ Kind, Cause string }
	if err := list(ctx, c, "events", url.Values{"since": {since.UTC().Format(time.RFC3339)}}, &events); err != nil {
		return err
	}
	counts := map[string]int{}
	for _, e := range events {
		if strings.HasPrefix(e.Kind, "instance.") || strings.HasPrefix(e.Kind, "container.") || strings.HasPrefix(e.Kind, "fleet.") || strings.HasPrefix(e.Kind, "code.fleet") {
			counts[e.Kind+": "+kindOf(e.Cause)]++
		}
	}
	fmt.Fprintln(out, "\nWhat was decided, and why:")
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(out, "%5d × %s\n", counts[what], what)
	}
	return nil
}

// causeRunes is how much of a cause is printed.
const causeRunes = 100

// kindOf makes one of causes that differ in their numbers alone, or beyond what is printed.
func kindOf(cause string) string {
	runes := []rune(numbers.ReplaceAllString(cause, "N"))
	if len(runes) > causeRunes {
		return string(runes[:causeRunes-1]) + "…"
	}
	return string(runes)
}

var numbers = regexp.MustCompile(`[0-9][0-9.,e+]*`)

// list reads one of the server's lists.
func list(ctx context.Context, c *client.Client, kind string, q url.Values, into any) error {
	items, err := c.List(ctx, kind, q, 0)
	if err != nil {
		return err
	}
	all, err := json.Marshal(items)
	if err != nil {
		return err
	}
	return json.Unmarshal(all, into)
}

package trace

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"kiln"
)

// What a trace may hold, so that a broken file cannot take all memory.
const (
	// MaxFunctions is the most functions of a trace, each as often as it weighs.
	MaxFunctions = 1_000_000
	// MaxMinutes is the longest span of a trace, in minutes: a year.
	MaxMinutes = 366 * 24 * 60
	// MaxRequests is the most single calls with times of their own.
	MaxRequests = 50_000_000
	// maxCount is the most calls of a function in a minute.
	maxCount = 100_000_000
	// maxLine is the longest line, in bytes.
	maxLine = 16 << 20
	// blockMinutes is how long a block of the trace by apps and blocks is.
	blockMinutes = 504
)

// Open reads a trace from a file, compressed by gzip or not. KindNotFound when there is none, KindInvalid when it is not
// a trace.
func Open(file string) (*Trace, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, kiln.Wrap(kiln.KindNotFound, "trace: open", "There is no trace to read.", err)
	}
	defer f.Close()
	name, _, _ := strings.Cut(filepath.Base(file), ".")
	return Read(name, f)
}

// Read reads a trace in one of four formats, told apart by the first line:
//
//   - HashOwner,HashApp,HashFunction,Trigger, percentiles, then a number of calls per minute (Azure Functions 2019);
//   - id,weight,total, percentiles, then a number of calls per minute: a row stands for weight functions;
//   - end_timestamp_s,func: a row per request, with its end in seconds (Azure Functions 2021);
//   - HashApp,metric,b0,b1,…: calls and cold starts of an app per block of 504 minutes. Where in the block is not known:
//     they are spread over it in as many bursts as there were cold starts.
//
// KindInvalid, with the line and what is wrong there, when it is none of them.
func Read(name string, from io.Reader) (*Trace, error) {
	buffered := bufio.NewReaderSize(from, 1<<16)
	if magic, _ := buffered.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		unpacked, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, kiln.Wrap(kiln.KindInvalid, "trace: read", "The trace cannot be unpacked.", err)
		}
		buffered = bufio.NewReaderSize(unpacked, 1<<16)
	}
	r := &reader{trace: &Trace{Name: name}, lines: bufio.NewScanner(buffered)}
	r.lines.Buffer(make([]byte, 1<<16), maxLine)
	if err := r.read(); err != nil {
		return nil, kiln.Wrap(kiln.KindInvalid, "trace: read", fmt.Sprintf("Line %d of the trace: %s.", r.line, err), err)
	}
	return r.trace, nil
}

// reader is one file being read.
type reader struct {
	trace   *Trace
	lines   *bufio.Scanner
	line    int
	columns map[string]int
	first   int // the first column with a count
	weight  int // of all functions so far
}

func (r *reader) next() ([]string, bool) {
	for r.lines.Scan() {
		r.line++
		if text := strings.TrimRight(r.lines.Text(), "\r"); text != "" {
			return strings.Split(text, ","), true
		}
	}
	return nil, false
}

func (r *reader) read() error {
	head, ok := r.next()
	if !ok {
		return fmt.Errorf("there is none; give a trace in CSV")
	}
	r.columns = make(map[string]int, len(head))
	for i, name := range head {
		r.columns[name] = i
	}
	var err error
	switch {
	case r.has("HashFunction", "Trigger"), r.has("id", "weight"):
		err = r.minutes(head)
	case r.has("end_timestamp_s", "func"):
		err = r.requests()
	case r.has("HashApp", "metric", "b0"):
		err = r.blocks(head)
	default:
		err = fmt.Errorf("it begins with %q, which is the first line of no trace known", strings.Join(head[:min(len(head), 4)], ","))
	}
	if err == nil {
		err = r.lines.Err()
	}
	if err == nil && len(r.trace.Functions) == 0 {
		err = fmt.Errorf("no function follows")
	}
	return err
}

func (r *reader) has(names ...string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { _, there := r.columns[name]; return !there })
}

// minutes reads a row per function with a count per minute.
func (r *reader) minutes(head []string) error {
	r.first = slices.IndexFunc(head, func(name string) bool {
		_, err := strconv.Atoi(strings.TrimPrefix(name, "m"))
		return err == nil
	})
	if r.first < 0 || len(head)-r.first > MaxMinutes {
		return fmt.Errorf("it has no column for each minute, or too many")
	}
	r.trace.Minutes = len(head) - r.first
	for {
		row, ok := r.next()
		if !ok {
			return nil
		}
		if len(row) != len(head) {
			return fmt.Errorf("it has %d columns and the first line %d", len(row), len(head))
		}
		f, err := r.function(row)
		if err != nil {
			return err
		}
		for i, text := range row[r.first:] {
			if text == "0" || text == "" {
				continue
			}
			n, err := strconv.Atoi(text)
			if err != nil || n < 0 || n > maxCount {
				return fmt.Errorf("%q in minute %d is no number of calls", text, i)
			}
			if n > 0 {
				f.Calls = append(f.Calls, Call{int32(i), int32(n)})
			}
		}
		if err := r.add(f); err != nil {
			return err
		}
	}
}

func (r *reader) add(f Function) error {
	if r.weight += f.Weight; r.weight > MaxFunctions {
		return fmt.Errorf("there are more than %d functions", MaxFunctions)
	}
	r.trace.Functions = append(r.trace.Functions, f)
	return nil
}

// function reads what stands before the counts.
func (r *reader) function(row []string) (Function, error) {
	text := func(name string) string {
		if i, there := r.columns[name]; there {
			return row[i]
		}
		return ""
	}
	number := func(name string) float64 {
		v, err := strconv.ParseFloat(text(name), 64)
		if err != nil {
			return 0
		}
		return v
	}
	f := Function{Account: text("HashOwner"), App: text("HashApp"), Name: text("HashFunction"), Trigger: text("Trigger"), Weight: 1}
	if w := text("weight"); w != "" {
		n, err := strconv.Atoi(w)
		if err != nil || n < 1 || n > MaxFunctions {
			return f, fmt.Errorf("the weight %q is none", w)
		}
		f.Weight, f.Name = n, text("id")
	}
	f.MemoryMiB = number("mem_avg_mb")
	if !(f.MemoryMiB >= 0 && f.MemoryMiB < 1<<30) {
		return f, fmt.Errorf("the memory %q is none", text("mem_avg_mb"))
	}
	if count := text("dur_count"); count == "0" || text("dur_avg_ms") == "" {
		return f, nil
	}
	f.Duration.Average = millis(number("dur_avg_ms"))
	for i, name := range []string{"dur_p1_ms", "dur_p25_ms", "dur_p50_ms", "dur_p75_ms", "dur_p99_ms", "dur_max_ms"} {
		f.Duration.Percentiles[i] = millis(number(name))
		if i > 0 { // sampled, so not always in order
			f.Duration.Percentiles[i] = max(f.Duration.Percentiles[i], f.Duration.Percentiles[i-1])
		}
	}
	return f, nil
}

// requests reads a row per request.
func (r *reader) requests() error {
	at := map[string]int{}
	var last time.Duration
	for total := 0; ; total++ {
		row, ok := r.next()
		if !ok {
			break
		}
		if len(row) != 2 || total == MaxRequests {
			return fmt.Errorf("it has %d columns, or is one too many", len(row))
		}
		seconds, err := strconv.ParseFloat(row[0], 64)
		if err != nil || !(seconds >= 0 && seconds < MaxMinutes*60) {
			return fmt.Errorf("%q is no time in seconds", row[0])
		}
		i, known := at[row[1]]
		if !known {
			i = len(r.trace.Functions)
			at[row[1]] = i
			if err := r.add(Function{Name: row[1], Weight: 1}); err != nil {
				return err
			}
		}
		when := time.Duration(seconds * float64(time.Second))
		last = max(last, when)
		f := &r.trace.Functions[i]
		f.Times = append(f.Times, when)
	}
	r.trace.Minutes = int(last/time.Minute) + 1
	for i := range r.trace.Functions {
		r.trace.Functions[i].count()
	}
	return nil
}

// count makes the calls per minute from the single ones.
func (f *Function) count() {
	slices.Sort(f.Times)
	f.Calls = nil
	for _, at := range f.Times {
		minute := int32(at / time.Minute)
		if n := len(f.Calls); n > 0 && f.Calls[n-1].Minute == minute {
			f.Calls[n-1].Count++
			continue
		}
		f.Calls = append(f.Calls, Call{minute, 1})
	}
}

// blocks reads rows of an app's metrics per block.
func (r *reader) blocks(head []string) error {
	first := r.columns["b0"]
	blocks := len(head) - first
	r.trace.Minutes = blocks * blockMinutes
	app, metrics := "", map[string][]float64{}
	flush := func() error {
		calls := metrics["invocations"]
		if calls == nil {
			return nil
		}
		f := Function{App: app, Name: app, Weight: 1, Calls: spread(calls, metrics["coldstarts_5minKA"])}
		if len(f.Calls) == 0 {
			return nil
		}
		return r.add(f)
	}
	for {
		row, ok := r.next()
		if !ok {
			return flush()
		}
		if len(row) != len(head) {
			return fmt.Errorf("it has %d columns and the first line %d", len(row), len(head))
		}
		if name := row[r.columns["HashApp"]]; name != app {
			if err := flush(); err != nil {
				return err
			}
			app, metrics = name, map[string][]float64{}
		}
		values := make([]float64, blocks)
		for i, text := range row[first:] {
			v, err := strconv.ParseFloat(text, 64)
			if text != "" && (err != nil || !(v >= 0 && v <= maxCount*blockMinutes)) {
				return fmt.Errorf("%q in block %d is no number", text, i)
			}
			values[i] = v
		}
		metrics[row[r.columns["metric"]]] = values
	}
}

// spread puts the calls of each block in as many bursts as there were cold starts, evenly.
func spread(calls, colds []float64) []Call {
	var out []Call
	for b, n := range calls {
		total := int(n)
		if total == 0 {
			continue
		}
		bursts := 1
		if colds != nil {
			bursts = min(max(int(colds[b]), 1), total, blockMinutes)
		}
		for i := range bursts {
			count := total*(i+1)/bursts - total*i/bursts
			out = append(out, Call{int32(b*blockMinutes + i*blockMinutes/bursts), int32(min(count, maxCount))})
		}
	}
	return out
}

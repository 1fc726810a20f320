package trace

import (
	"bytes"
	"compress/gzip"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// Each format of the public traces is read: functions, weights, calls by minute, durations, memory (R67).
func TestRead(t *testing.T) {
	rows := []struct {
		name, text string
		want       Trace
	}{
		{"a row a function", "HashOwner,HashApp,HashFunction,Trigger,dur_count,dur_avg_ms,dur_p1_ms,dur_p25_ms,dur_p50_ms,dur_p75_ms,dur_p99_ms,dur_max_ms,mem_avg_mb,480,481,482\n" +
			"o,a,f,http,7,10,1,2,3,4,5,6,170.5,0,2,1\no,a,g,timer,0,,,,,,,,,1,0,0\n",
			Trace{Minutes: 3, Functions: []Function{
				{Account: "o", App: "a", Name: "f", Trigger: "http", Weight: 1, Calls: []Call{{1, 2}, {2, 1}}, MemoryMiB: 170.5,
					Duration: Duration{10 * time.Millisecond, [6]time.Duration{1e6, 2e6, 3e6, 4e6, 5e6, 6e6}}},
				{Account: "o", App: "a", Name: "g", Trigger: "timer", Weight: 1, Calls: []Call{{0, 1}}},
			}}},
		{"a row for many", "id,weight,total,dur_avg_ms,m0,m1\nx,253,2,,1,1\n",
			Trace{Minutes: 2, Functions: []Function{{Name: "x", Weight: 253, Calls: []Call{{0, 1}, {1, 1}}}}}},
		{"a row a request", "end_timestamp_s,func\n0.5,f\n61,g\n1.25,f\n",
			Trace{Minutes: 2, Functions: []Function{
				{Name: "f", Weight: 1, Calls: []Call{{0, 2}}, Times: []time.Duration{5e8, 125e7}},
				{Name: "g", Weight: 1, Calls: []Call{{1, 1}}, Times: []time.Duration{61e9}},
			}}},
		{"a row a metric", "HashApp,metric,b0,b1\na,invocations,5,0\na,coldstarts_5minKA,2,0\nb,invocations,0,1\n",
			Trace{Minutes: 1008, Functions: []Function{
				{App: "a", Name: "a", Weight: 1, Calls: []Call{{0, 2}, {252, 3}}},
				{App: "b", Name: "b", Weight: 1, Calls: []Call{{504, 1}}},
			}}},
	}
	for _, row := range rows {
		row.want.Name = "t"
		got, err := Read("t", strings.NewReader(row.text))
		if err != nil || !reflect.DeepEqual(*got, row.want) {
			t.Errorf("%s: %+v, %v; want %+v", row.name, got, err, row.want)
		}
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		w.Write([]byte(row.text))
		w.Close()
		if again, err := Read("t", &packed); err != nil || !reflect.DeepEqual(got, again) {
			t.Errorf("%s, packed: %+v, %v", row.name, again, err)
		}
	}
}

// What is no trace is refused with the line and what is wrong there.
func TestReadMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"":                                       "there is none",
		"a,b\n1,2\n":                             "first line of no trace",
		"id,weight,total\nx,1,1\n":               "no column for each minute",
		"id,weight,total,m0\nx,1,1\n":            "Line 2",
		"id,weight,total,m0\nx,0,1,1\n":          "weight",
		"id,weight,total,m0\nx,1,1,many\n":       "no number of calls",
		"id,weight,total,m0\n":                   "no function",
		"end_timestamp_s,func\nNaN,f\n":          "no time",
		"HashApp,metric,b0\na,invocations,x\n":   "no number",
		"id,weight,total,m0\nx,1,1,9999999999\n": "no number of calls",
	} {
		if _, err := Read("t", strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := Open(t.TempDir() + "/none.csv"); err == nil || os.IsExist(err) {
		t.Errorf("no file: %v", err)
	}
}

// Whatever the file holds, reading ends with a trace in order or an error.
func FuzzRead(f *testing.F) {
	f.Add("id,weight,total,m0\nx,1,1,4\n")
	f.Add("end_timestamp_s,func\n0.5,f\n")
	f.Add("HashApp,metric,b0\na,invocations,5\n")
	f.Add("HashOwner,HashApp,HashFunction,Trigger,480\no,a,f,http,3\n")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := Read("t", strings.NewReader(text))
		if err != nil {
			return
		}
		for _, fn := range got.Functions {
			last := int32(-1)
			for _, c := range fn.Calls {
				if c.Minute <= last || int(c.Minute) >= got.Minutes || c.Count < 1 {
					t.Fatalf("calls %v in %d minutes", fn.Calls, got.Minutes)
				}
				last = c.Minute
			}
		}
	})
}

// Copies keep every call; turned ones too, each by a time of its own, the same for the same seed.
func TestExpanded(t *testing.T) {
	one := &Trace{Minutes: 10, Functions: []Function{{Name: "f", Weight: 3, Calls: []Call{{1, 2}, {9, 1}}}}}
	plain := one.Expanded(1, false)
	if len(plain.Functions) != 3 || plain.Requests() != one.Requests() || plain.Functions[2].Calls[1].Minute != 9 {
		t.Errorf("%+v", plain)
	}
	turned := one.Expanded(7, true)
	if turned.Requests() != one.Requests() || !reflect.DeepEqual(turned, one.Expanded(7, true)) {
		t.Errorf("%+v", turned)
	}
	for _, f := range turned.Functions {
		if gap := f.Calls[1].Minute - f.Calls[0].Minute; gap != 8 && gap != 2 {
			t.Errorf("%+v", f)
		}
	}
	if cut := one.Cut(5, 5); cut.Minutes != 5 || len(cut.Functions) != 1 || cut.Functions[0].Calls[0] != (Call{4, 1}) {
		t.Errorf("%+v", cut)
	}
}

// A made trace is the seed's alone, and its arrivals are as many as its calls, in order, each in its minute.
func TestMake(t *testing.T) {
	a := Make(3, 40, 120)
	if !reflect.DeepEqual(a, Make(3, 40, 120)) || reflect.DeepEqual(a, Make(4, 40, 120)) {
		t.Error("not the seed's alone")
	}
	if a.Requests() < 1000 {
		t.Errorf("%d requests", a.Requests())
	}
	for i := range a.Functions {
		f := &a.Functions[i]
		times := f.Arrivals(rand.New(rand.NewPCG(1, 1)))
		again := Function{Times: times}
		again.count()
		if !reflect.DeepEqual(again.Calls, f.Calls) {
			t.Errorf("%s: %v, from its arrivals %v", f.Name, f.Calls, again.Calls)
		}
	}
}

// Durations lie between their percentiles.
func TestDurationAt(t *testing.T) {
	d := Duration{Average: 1, Percentiles: [6]time.Duration{10, 20, 30, 40, 50, 60}}
	for rank, want := range map[float64]time.Duration{-1: 10, 0: 10, 0.01: 10, 0.25: 20, 0.375: 25, 0.5: 30, 0.99: 50, 1: 60, 2: 60} {
		if got := d.At(rank); got != want {
			t.Errorf("at %g: %d, want %d", rank, got, want)
		}
	}
}

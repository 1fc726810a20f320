// Command probe is a compiled function that tells where it runs, as the kernel shows it. Its answer is kilntest.Facts;
// probe.py and probe.mjs give the same. It speaks the Runtime API by plain net/http, without any library of AWS's.
//
// With MODE=echo in its environment it answers the bytes it was given, untouched.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// constant tells one package from another: tests put another text of ten letters in its place, in the binary.
const constant = "@CONSTANT@"

func main() {
	loaded := seconds()
	base := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
	for count := 1; ; count++ {
		res, err := http.Get(base + "next")
		if err != nil {
			fmt.Fprintln(os.Stderr, "next:", err)
			os.Exit(1)
		}
		event, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil {
			fmt.Fprintln(os.Stderr, "read event:", err)
			os.Exit(1)
		}
		answer := event
		if os.Getenv("MODE") != "echo" {
			answer = facts(event, loaded, count)
		}
		id := res.Header.Get("Lambda-Runtime-Aws-Request-Id")
		res, err = http.Post(base+id+"/response", "application/json", bytes.NewReader(answer))
		if err != nil {
			fmt.Fprintln(os.Stderr, "response:", err)
			os.Exit(1)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
}

func facts(event []byte, loaded float64, count int) []byte {
	began := seconds()
	host, _ := os.Hostname()
	var wishes struct {
		Marker, Print string
		SleepMs       float64
	}
	_ = json.Unmarshal(event, &wishes)
	f := map[string]any{
		"beganAt": began, "loadedAt": loaded, "processAt": processAt(),
		"machineId": read("/etc/machine-id"), "hostname": host, "pid": os.Getpid(),
		"count": count, "constant": constant, "memoryLimit": memoryLimit(), "cpus": cpus(),
		"marker": read("/tmp/marker"), "memorySize": os.Getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"),
		"interfaces": interfaces(), "event": json.RawMessage(event),
	}
	if wishes.Marker != "" {
		if err := os.WriteFile("/tmp/marker", []byte(wishes.Marker), 0o600); err != nil {
			f["marker"] = err.Error()
		}
	}
	if wishes.Print != "" {
		fmt.Println(wishes.Print)
	}
	if wishes.SleepMs > 0 {
		<-time.After(time.Duration(wishes.SleepMs * float64(time.Millisecond)))
	}
	f["endedAt"] = seconds()
	b, err := json.Marshal(f)
	if err != nil {
		return []byte(strconv.Quote(err.Error()))
	}
	return b
}

func seconds() float64 { return float64(time.Now().UnixMicro()) / 1e6 }

func read(path string) string {
	b, _ := os.ReadFile(path)
	return strings.TrimSpace(string(b))
}

func memoryLimit() int64 {
	text := read("/sys/fs/cgroup/memory/memory.limit_in_bytes")
	if text == "" {
		text = read("/sys/fs/cgroup/memory.max")
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

func cpus() float64 {
	quota, period := read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), read("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
	if quota == "" {
		quota, period, _ = strings.Cut(read("/sys/fs/cgroup/cpu.max"), " ")
	}
	q, err1 := strconv.ParseFloat(quota, 64)
	p, err2 := strconv.ParseFloat(period, 64)
	if err1 != nil || err2 != nil || q < 0 {
		return -1
	}
	return q / p
}

func processAt() float64 {
	stat := read("/proc/self/stat")
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	up := strings.Fields(read("/proc/uptime"))
	if len(f) < 20 || len(up) < 1 {
		return 0
	}
	ticks, _ := strconv.ParseFloat(f[19], 64)
	uptime, _ := strconv.ParseFloat(up[0], 64)
	return seconds() - uptime + ticks/100
}

func interfaces() string {
	var names []string
	for line := range strings.Lines(read("/proc/net/dev")) {
		if name, _, ok := strings.Cut(line, ":"); ok {
			names = append(names, strings.TrimSpace(name))
		}
	}
	return strings.Join(names, " ")
}

package process

import (
	"bufio"
	"os/exec"
	"syscall"
	"testing"
)

// Killed processes are gone, not only asked to go, when a session has been ended: children that hold much memory take
// longer than their parent. R44
func TestEndSession(t *testing.T) {
	cmd := exec.Command("python3", "-c", `
import os, sys, time
for _ in range(8):
    if os.fork() == 0:
        held = bytearray(32 << 20)
        os.write(1, b"held\n")
        time.sleep(600)
time.sleep(600)`)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	lines := bufio.NewScanner(out)
	for range 8 {
		if !lines.Scan() {
			t.Fatal("a child did not start")
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	awaitExit(pid)
	left := endSession(pid)
	if again := killSession(pid); len(left)+len(again) > 0 {
		t.Errorf("left when it returned: %v, and just after: %v", left, again)
	}
	_ = cmd.Wait()
}

# probe.py tells where it runs, as the kernel shows it. Its answer is kilntest.Facts; probe.mjs and probe/main.go give the same.
import json
import os
import socket
import time

CONSTANT = "@CONSTANT@"
LOADED_AT = time.time()
count = 0


def read(path):
    try:
        with open(path) as f:
            return f.read().strip()
    except OSError:
        return ""


def memory_limit():
    text = read("/sys/fs/cgroup/memory/memory.limit_in_bytes") or read("/sys/fs/cgroup/memory.max")
    return int(text) if text.isdigit() else -1


def cpus():
    quota, period = read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), read("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
    if not quota:
        quota, _, period = read("/sys/fs/cgroup/cpu.max").partition(" ")
    if not quota.isdigit() or not period.isdigit():
        return -1
    return int(quota) / int(period)


def process_at():
    ticks = float(read("/proc/self/stat").rpartition(")")[2].split()[19])
    uptime = float(read("/proc/uptime").split()[0])
    return time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")


def interfaces():
    return " ".join(line.split(":")[0].strip() for line in read("/proc/net/dev").splitlines() if ":" in line)


def handler(event, context):
    global count
    count += 1
    facts = {
        "beganAt": time.time(), "loadedAt": LOADED_AT, "processAt": process_at(),
        "machineId": read("/etc/machine-id"), "hostname": socket.gethostname(), "pid": os.getpid(),
        "count": count, "constant": CONSTANT, "memoryLimit": memory_limit(), "cpus": cpus(),
        "marker": read("/tmp/marker"), "memorySize": os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", ""),
        "interfaces": interfaces(), "event": event,
    }
    wishes = event if isinstance(event, dict) else {}
    if wishes.get("marker"):
        with open("/tmp/marker", "w") as f:
            f.write(wishes["marker"])
    if wishes.get("print"):
        print(wishes["print"])
    time.sleep(wishes.get("sleepMs", 0) / 1000)
    facts["endedAt"] = time.time()
    return facts

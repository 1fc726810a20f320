# misdeeds.py does to its container what the event asks for, one harm each, and tells what it is left with.
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time


def read(path):
    try:
        with open(path) as f:
            return f.read()
    except OSError:
        return ""


def throttled():
    """How often the processor limit held this container back, as its own cgroup counts."""
    text = read("/sys/fs/cgroup/cpu/cpu.stat") or read("/sys/fs/cgroup/cpu.stat")
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("nr_throttled")), -1)


def spin(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def disk():
    """The device that /tmp is on."""
    for line in read("/proc/self/mountinfo").splitlines():
        place, _, source = line.partition(" - ")
        if place.split()[4] == "/tmp":
            device = source.split()[1]
    return device


def stay(*_):
    """A child that outlives its parent and does not listen to TERM."""
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            while True:
                time.sleep(1)
        os._exit(0)


def hog():
    kept = []
    while True:
        kept.append(bytearray(os.urandom(1 << 16) * 64))


def bomb():
    while True:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)


def fill():
    with open("/tmp/fill", "wb", 0) as f:
        while True:
            f.write(b"x" * (1 << 20))


def hog_in_child():
    child = os.fork()
    if child == 0:
        hog()
    return os.waitpid(child, 0)[1]


def shout(mebibytes):
    line = b"0123456789abcdef" * 64 + b"\n"
    for _ in range(mebibytes << 10):
        os.write(1, line)


def close_all():
    os.closerange(3, 1024)
    time.sleep(60)


def stop():
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGSTOP)  # the first process of a namespace does not stop itself: the kernel refuses
    os.waitpid(child, 0)


def deep():
    ctypes.string_at(0)


INIT = os.environ.get("INIT", "")
before = throttled()
if INIT == "sleep":
    time.sleep(60)
if INIT == "exit":
    os._exit(7)
if INIT == "segfault":
    deep()
if INIT == "hog":
    hog()
if INIT == "raise":
    raise ValueError("not today")
if INIT == "spin":
    spin(1)
in_init = throttled() - before
executions = 0

deeds = {
    "sleep": lambda e: time.sleep(e["seconds"]),
    "exit": lambda e: os._exit(e["status"]),
    "segfault": lambda e: deep(),
    "abort": lambda e: os.abort(),
    "kill": lambda e: subprocess.Popen(["/bin/sh", "-c", "kill -9 1"]) and time.sleep(60),
    "hog": lambda e: hog(),
    "hog in a child": lambda e: hog_in_child(),
    "bomb": lambda e: bomb(),
    "bomb and exit": lambda e: run_into(bomb),
    "fill": lambda e: fill(),
    "fill and exit": lambda e: run_into(fill),
    "stay": stay,
    "stay and sleep": lambda e: (stay(), time.sleep(60)),
    "shout": lambda e: shout(e["mebibytes"]),
    "close": lambda e: close_all(),
    "stop": lambda e: stop(),
    "spin": lambda e: spin(e["seconds"]),
    "big": lambda e: "x" * e["bytes"],
}


def run_into(wall):
    try:
        wall()
    except OSError:
        os._exit(9)


def handler(event, context):
    global executions
    executions += 1
    found = os.path.exists("/tmp/fill")
    answer = deeds[event["do"]](event) if event.get("do") else None
    if event.get("do") == "big":
        return answer
    return {"hostname": socket.gethostname(), "machineId": read("/etc/machine-id").strip(), "count": executions, "disk": disk(), "filled": found,
            "inInit": in_init, "throttled": throttled(), "answer": answer, "python": sys.version,
            "processes": len([p for p in os.listdir("/proc") if p.isdigit()])}

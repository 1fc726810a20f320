# hostile.py plants a secret in every place its container offers, and looks for a secret in every place it can reach.
import ctypes
import errno
import os
import socket
import subprocess
import sys
import threading
import time

PORT = 23456
SHM_KEY = 0x4B494C4E
libc = ctypes.CDLL(None, use_errno=True)
kept = []


def plant(token):
    for path in ("/tmp/secret-" + token, "/dev/shm/secret-" + token, "/var/tmp/secret-" + token):
        try:
            with open(path, "w") as f:
                f.write(token)
        except OSError:
            pass  # a read-only or absent place holds no secret
    listen(socket.AF_INET, ("127.0.0.1", PORT), token)
    listen(socket.AF_UNIX, "\0secret-socket", token)
    segment = libc.shmget(SHM_KEY, 4096, 0o1000 | 0o666)
    if segment >= 0:
        libc.shmat.restype = ctypes.c_void_p
        libc.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
        at = libc.shmat(segment, None, 0)
        if at not in (None, ctypes.c_void_p(-1).value):
            ctypes.memmove(at, token.encode(), len(token))
    kept.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "secret-" + token]))


def listen(family, address, token):
    try:
        s = socket.socket(family, socket.SOCK_STREAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(address)
        s.listen(16)
    except OSError:
        return
    kept.append(s)

    def serve():
        while True:
            c, _ = s.accept()
            c.sendall(token.encode())
            c.close()

    threading.Thread(target=serve, daemon=True).start()


def files(token):
    found = []
    for top in ("/tmp", "/var", "/dev/shm", "/run", "/mnt", "/opt", "/home", "/root", "/srv"):
        for folder, _, names in os.walk(top):
            for name in names:
                path = os.path.join(folder, name)
                if token in name:
                    found.append(path)
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            for name in ("environ", "cmdline"):
                try:
                    with open(f"/proc/{pid}/{name}", "rb") as f:
                        if token.encode() in f.read():
                            found.append(f"/proc/{pid}/{name}")
                except OSError:
                    pass
            try:
                found += [f"/proc/{pid}/root/tmp/{n}" for n in os.listdir(f"/proc/{pid}/root/tmp") if token in n]
            except OSError:
                pass
    return found


def connected(family, address, token):
    try:
        with socket.socket(family, socket.SOCK_STREAM) as s:
            s.settimeout(0.5)
            s.connect(address)
            return token in s.recv(256).decode()
    except OSError:
        return False


def shared_memory(token):
    segment = libc.shmget(SHM_KEY, 0, 0)
    if segment < 0:
        return False
    libc.shmat.restype = ctypes.c_void_p
    libc.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
    at = libc.shmat(segment, None, 0o10000)
    return at not in (None, ctypes.c_void_p(-1).value) and ctypes.string_at(at, len(token)) == token.encode()


def reachable(pids):
    """The processes among pids that a signal would reach. Signal 0 asks and does nothing."""
    found = []
    for pid in pids:
        try:
            os.kill(pid, 0)
            found.append(pid)
        except OSError as e:
            if e.errno not in (errno.ESRCH, errno.EPERM):
                raise
    return found


def seek(token, pids):
    found = files(token)
    if connected(socket.AF_INET, ("127.0.0.1", PORT), token):
        found.append("tcp 127.0.0.1")
    if connected(socket.AF_UNIX, "\0secret-socket", token):
        found.append("abstract socket")
    try:
        with open("/proc/net/unix") as f:
            if "secret-socket" in f.read():
                found.append("/proc/net/unix")
    except OSError:
        pass
    if shared_memory(token):
        found.append("shared memory")
    return found + [f"signal to {pid}" for pid in reachable(pids)]


def handler(event, context):
    if event.get("plant"):
        plant(event["plant"])
    found = set()
    until = time.time() + event.get("forMs", 0) / 1000
    while True:
        found |= set(seek(event["seek"], event.get("pids", [])))
        if time.time() >= until:
            break
        time.sleep(0.1)
    time.sleep(event.get("stayMs", 0) / 1000)
    with open("/etc/machine-id") as f:
        machine = f.read().strip()
    return {"found": sorted(found), "hostname": socket.gethostname(), "machineId": machine,
            "processes": len([p for p in os.listdir("/proc") if p.isdigit()]), "environment": os.environ.get("SECRET", "")}

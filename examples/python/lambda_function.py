"""Greets, and tells what it can see of the place it runs in."""

import os
import socket

calls = 0  # kept as long as the container is


def memory_limit():
    """The limit the kernel holds this container to, in MiB, as its own cgroup shows it."""
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(name) as f:
                return int(f.read()) // (1024 * 1024)
        except (OSError, ValueError):
            continue
    return None


def lambda_handler(event, context):
    global calls
    calls += 1
    print("call", calls, "for", event.get("name", "nobody"))
    return {
        "greeting": f"hello {event.get('name', 'stranger')}, from Python",
        "calls": calls,
        "container": socket.gethostname(),
        "memoryMiB": memory_limit(),
        "region": os.environ["AWS_REGION"],
        "leftMs": context.get_remaining_time_in_millis(),
    }

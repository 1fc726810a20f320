# contract.py shows AWS's contract with Python functions: what a handler is given and what becomes of what it does.
import json
import logging
import os
import sys
import time


class Custom(Exception):
    pass


def inner():
    raise Custom("it broke")


def handler(event, context):
    do = event.get("do")
    if do == "raise":
        inner()
    if do == "unserialisable":
        return {"set": {1, 2}}
    if do == "exit":
        sys.exit(event.get("status", 0))
    if do == "die":
        os._exit(event.get("status", 1))
    if do == "sleep":
        time.sleep(event["seconds"])
    if do == "none":
        return None
    if do == "log":
        print("printed line")
        print("to stderr", file=sys.stderr)
        logging.getLogger().warning("logged line")
    if do == "unicode":
        return {"text": "grüße 世界 🔥", "echo": event.get("text")}
    if do == "context":
        return {
            "request": context.aws_request_id, "function": context.function_name, "version": context.function_version,
            "arn": context.invoked_function_arn, "memory": context.memory_limit_in_mb, "group": context.log_group_name,
            "stream": context.log_stream_name, "remaining": context.get_remaining_time_in_millis(),
            "custom": context.client_context.custom if context.client_context else None,
            "identity": context.identity is not None,
        }
    if do == "environment":
        return dict(os.environ)
    return {"ok": True, "python": sys.version_info[:2], "event": event}


def text(event, context):
    return "plain text"

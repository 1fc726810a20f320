"""Kiln's bootstrap for Python: what AWS's runtime client does, prepared before the code is known.

The interpreter starts, imports what every function needs and asks GET /kiln/binding. The answer names the environment
and the handler; from there on it is Lambda's Python: the handler's module is loaded and served one event after another.
Texts, error names and log lines are AWS's (awslambdaric). An answer and the request for the next event leave in one
write: the node holds the answer's 202 back until then, which saves both sides a turn.

A version that declares several executions at once (AWS_LAMBDA_MAX_CONCURRENCY) has a process for each, which loads the
module for itself and runs one event at a time: as with AWS, code need not mind the others.
"""
import sys

sys.dont_write_bytecode = True

import _socket
import json
import os
import time

VERSION = "/2018-06-01/runtime/"
NEXT = ("GET " + VERSION + "invocation/next HTTP/1.1\r\nHost: kiln\r\n\r\n").encode()


class Link:
    """One connection to the Runtime API."""

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self.address = (host.strip("[]"), int(port))
        self.connect()

    def connect(self):
        family = _socket.AF_INET6 if ":" in self.address[0] else _socket.AF_INET
        self.socket = _socket.socket(family, _socket.SOCK_STREAM)
        self.socket.connect(self.address)
        self.socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        os.set_inheritable(self.socket.fileno(), False)
        self.rest = b""

    def send(self, data):
        view = memoryview(data)
        while view:
            view = view[self.socket.send(view):]

    def post(self, path, headers, body, then=b""):
        head = "POST %s%s HTTP/1.1\r\nHost: kiln\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n" % (
            VERSION, path, headers, len(body))
        self.send(head.encode("latin-1", "replace") + body + then)

    def receive(self):
        """Reads one response: status, headers (names as sent), body."""
        data = self.rest
        end = data.find(b"\r\n\r\n")
        while end < 0:
            more = self.socket.recv(16384)
            if not more:
                raise EOFError("the Runtime API closed the connection")
            data += more
            end = data.find(b"\r\n\r\n")
        lines = data[:end].decode("utf-8", "replace").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        length = int(headers.get("Content-Length", 0))
        start = end + 4
        if len(data) - start >= length:
            self.rest = data[start + length:]
            return int(lines[0][9:12]), headers, data[start:start + length]
        body = bytearray(length)
        have = len(data) - start
        body[:have] = data[start:]
        view = memoryview(body)
        while have < length:
            n = self.socket.recv_into(view[have:])
            if not n:
                raise EOFError("the Runtime API closed the connection")
            have += n
        self.rest = b""
        return int(lines[0][9:12]), headers, bytes(body)


class Fault(Exception):
    """An error with one of the platform's own names."""

    def __init__(self, kind, message, trace=None):
        self.kind, self.message, self.trace = kind, message, trace


class CognitoIdentity(object):
    __slots__ = ["cognito_identity_id", "cognito_identity_pool_id"]

    def __repr__(self):
        return describe(self)


class Client(object):
    __slots__ = ["installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name"]

    def __repr__(self):
        return describe(self)


class ClientContext(object):
    __slots__ = ["custom", "env", "client"]

    def __repr__(self):
        return describe(self)


def describe(o):
    return "%s([%s])" % (type(o).__name__, ",".join("%s=%s" % (k, getattr(o, k)) for k in o.__slots__))


def fill(kind, members):
    if members is None:
        return None
    o = kind()
    for name in kind.__slots__:
        setattr(o, name, members.get(name))
    return o


class LambdaContext(object):
    def __init__(self, headers):
        env = os.environ.get
        self.aws_request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        self.log_group_name = env("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = env("AWS_LAMBDA_LOG_STREAM_NAME")
        self.function_name = env("AWS_LAMBDA_FUNCTION_NAME")
        self.memory_limit_in_mb = env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.function_version = env("AWS_LAMBDA_FUNCTION_VERSION")
        self.invoked_function_arn = headers.get("Lambda-Runtime-Invoked-Function-Arn")
        self.tenant_id = headers.get("Lambda-Runtime-Aws-Tenant-Id")
        context = headers.get("Lambda-Runtime-Client-Context")
        self.client_context = fill(ClientContext, json.loads(context)) if context else None
        if self.client_context is not None:
            self.client_context.client = fill(Client, self.client_context.client)
        identity = headers.get("Lambda-Runtime-Cognito-Identity")
        identity = json.loads(identity) if identity else {}
        self.identity = fill(CognitoIdentity, {
            "cognito_identity_id": identity.get("cognitoIdentityId"),
            "cognito_identity_pool_id": identity.get("cognitoIdentityPoolId")})
        self._epoch_deadline_time_in_ms = int(headers["Lambda-Runtime-Deadline-Ms"])

    def get_remaining_time_in_millis(self):
        return max(self._epoch_deadline_time_in_ms - int(time.time() * 1000), 0)

    def log(self, msg):
        sys.stdout.write(str(msg))

    def __repr__(self):
        return "LambdaContext([%s])" % ",".join("%s=%s" % (k, getattr(self, k)) for k in (
            "aws_request_id", "log_group_name", "log_stream_name", "function_name", "memory_limit_in_mb",
            "function_version", "invoked_function_arn", "client_context", "identity", "tenant_id"))


request_id = ""


def set_up_logging():
    """The root logger as AWS's client sets it: one handler, with the request's id."""
    import logging

    class LambdaLoggerHandler(logging.Handler):
        def emit(self, record):
            sys.stdout.write(self.format(record))

    class LambdaLoggerFilter(logging.Filter):
        def filter(self, record):
            record.aws_request_id = request_id
            return True

    class JsonFormatter(logging.Formatter):
        def format(self, record):
            line = {"timestamp": self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ"), "level": record.levelname,
                    "message": record.getMessage(), "logger": record.name, "requestId": request_id}
            if record.exc_info:
                line["errorType"] = record.exc_info[0].__name__
                line["errorMessage"] = str(record.exc_info[1])
                line["stackTrace"] = self.formatException(record.exc_info).split("\n")
            return json.dumps({k: v for k, v in line.items() if v}, default=str) + "\n"

    logging.Formatter.converter = time.gmtime
    handler = LambdaLoggerHandler()
    if os.environ.get("AWS_LAMBDA_LOG_FORMAT") == "JSON":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter(
            "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n", "%Y-%m-%dT%H:%M:%S"))
    handler.addFilter(LambdaLoggerFilter())
    root = logging.getLogger()
    root.addHandler(handler)
    level = os.environ.get("AWS_LAMBDA_LOG_LEVEL")
    if level in ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"):
        root.setLevel({"TRACE": "DEBUG", "WARN": "WARNING", "FATAL": "CRITICAL"}.get(level, level))


def error(message, kind, trace, invocation=""):
    return {"errorMessage": message or "", "errorType": kind or "", "requestId": invocation, "stackTrace": trace or []}


def log_error(e):
    line = "[ERROR]"
    if e["errorType"]:
        line += " " + e["errorType"]
    if e["errorMessage"]:
        line += (":" if e["errorType"] else "") + " " + e["errorMessage"]
    lines = [line, "Traceback (most recent call last):"]
    for frame in e["stackTrace"]:
        lines += [s.replace("  ", "\u00a0\u00a0", 1) if s.startswith("  ") else s for s in frame.splitlines()] or [""]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def fault_of(e, invocation=""):
    """What the caller is told of an exception: without our own frames."""
    if isinstance(e, Fault):
        return error(e.message, e.kind, e.trace, invocation)
    import traceback
    frames = traceback.extract_tb(e.__traceback__)
    own = (__file__, "<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>")
    while frames and (frames[0].filename in own or frames[0].filename.endswith("/importlib/__init__.py")):
        frames = frames[1:]
    return error(str(e), type(e).__name__, traceback.format_list(frames), invocation)


def load(handler):
    """Finds the handler, "module.function" with slashes or dots between folders."""
    import importlib
    try:
        module, function = handler.rsplit(".", 1)
    except ValueError as e:
        raise Fault("Runtime.MalformedHandlerName", "Bad handler '%s': %s" % (handler, e))
    if module.split(".")[0] in sys.builtin_module_names:
        raise Fault("Runtime.BuiltInModuleConflict", "Cannot use built-in module %s as a handler module" % module)
    try:
        m = importlib.import_module(module.replace("/", "."))
    except ImportError as e:
        raise Fault("Runtime.ImportModuleError", "Unable to import module '%s': %s" % (module, e))
    except SyntaxError as e:
        raise Fault("Runtime.UserCodeSyntaxError", "Syntax error in module '%s': %s" % (module, e),
                    ['  File "%s" Line %s\n    %s' % (e.filename, e.lineno, e.text)])
    try:
        return getattr(m, function)
    except AttributeError:
        raise Fault("Runtime.HandlerNotFound", "Handler '%s' missing on module '%s'" % (function, module))


def bind(link):
    """Waits to be told which version this is, and becomes it."""
    link.send(b"GET /kiln/binding HTTP/1.1\r\nHost: kiln\r\n\r\n")
    status, _, body = link.receive()
    if status != 200:
        sys.exit("kiln: no binding: status %d" % status)
    binding = json.loads(body)
    api = os.environ["AWS_LAMBDA_RUNTIME_API"]
    os.environ.clear()
    os.environ.update(binding["env"])
    os.environ["AWS_LAMBDA_RUNTIME_API"] = api
    time.tzset()
    root = os.environ.get("LAMBDA_TASK_ROOT", "/var/task")
    opt = ["/opt/python/lib/python%d.%d/site-packages" % sys.version_info[:2], "/opt/python"]
    asked = [p for p in os.environ.get("PYTHONPATH", "").split(":") if p and p not in opt]
    own = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [root] + opt + asked + [p for p in sys.path if p not in asked and os.path.abspath(p) != own]
    try:
        os.chdir(root)
    except OSError:
        pass  # a package that cannot be entered still runs from where we are
    return binding["handler"]


def serialize(ascii_only):
    def default(o):
        if type(o).__name__ == "Decimal":
            return float(o)
        raise TypeError("Object of type %s is not JSON serializable" % type(o).__name__)

    encoder = json.JSONEncoder(ensure_ascii=ascii_only, default=default)

    def dump(response):
        try:
            return encoder.encode(response).encode()
        except Exception as e:
            raise Fault("Runtime.MarshalError", "Unable to marshal response: %s" % e)
    return dump


def parse(body):
    try:
        return json.loads(body)
    except Exception as e:
        raise Fault("Runtime.UnmarshalError", "Unable to unmarshal input: %s" % e)


def exited(status):
    """What a process ended with, in the node's words."""
    if os.WIFSIGNALED(status):
        import signal
        return {9: "signal: killed", 11: "signal: segmentation fault", 6: "signal: aborted"}.get(
            os.WTERMSIG(status), "signal: " + signal.strsignal(os.WTERMSIG(status)).lower())
    return "exit status %d" % os.WEXITSTATUS(status)


def several(link, slots):
    """Becomes a process for each execution at once and returns in these only, with what notes the request at hand. The
    first process waits for them: the execution of one that ended fails, and another takes its place; one that ended
    between executions, or before it had any, ends all."""
    import mmap
    board, workers = mmap.mmap(-1, slots * 36), {}

    def start(slot):
        """Starts a worker: True in the worker."""
        pid = os.fork()
        if pid:
            workers[pid] = slot
        return not pid

    def note(slot):
        def write(request):
            board[slot * 36:slot * 36 + 36] = request.encode().ljust(36, b"\0")[:36]
        return write

    for slot in range(slots):
        if start(slot):
            return note(slot)
    while True:
        pid, status = os.wait()
        slot = workers.pop(pid, None)
        if slot is None:
            continue  # somebody's orphan
        request = board[slot * 36:slot * 36 + 36].rstrip(b"\0").decode("ascii", "replace")
        if not request:
            os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
        note(slot)("")
        text = "Runtime exited without providing a reason" if status == 0 else "Runtime exited with error: " + exited(status)
        link.post("invocation/%s/error" % request, "Lambda-Runtime-Function-Error-Type: Runtime.ExitError\r\n", json.dumps(
            {"errorType": "Runtime.ExitError", "errorMessage": "RequestId: %s Error: %s" % (request, text)}).encode())
        link.receive()
        if start(slot):
            return note(slot)


def mark_lines():
    """Gives standard output and error that begin each line with the request it is of, between two separators: the node
    takes that off. A line in one write is not torn by another process's."""
    import io

    class Marked(io.RawIOBase):
        rest = b""

        def writable(self):
            return True

        def write(self, data):
            lines = (self.rest + bytes(data)).split(b"\n")
            self.rest = lines.pop()
            self.put(lines)
            return len(data)

        def put(self, lines):
            mark = b"\x1e" + request_id.encode() + b"\x1e" if request_id else b""
            data = b"".join(mark + line + b"\n" for line in lines)
            while data:
                data = data[os.write(1, data):]

        def finish(self):
            if self.rest:
                self.rest, last = b"", self.rest
                self.put([last])

    marked = [Marked(), Marked()]
    sys.stdout, sys.stderr = (io.TextIOWrapper(
        io.BufferedWriter(m), encoding="utf-8", errors="backslashreplace", line_buffering=True) for m in marked)

    def finish():
        sys.stdout.flush()
        sys.stderr.flush()
        for m in marked:
            m.finish()
    return finish


def loop(link, handler, note=None, finish=None):
    """Serves events for ever. What ends the handler's process ends this one: SystemExit is not caught. One of several
    processes notes which request it has, and ends its last line with it."""
    global request_id
    asked = os.environ.get("AWS_EXECUTION_ENV", "")
    ascii_only = asked in ("AWS_Lambda_python3.%d" % n for n in range(6, 12))
    dump, out = serialize(ascii_only), sys.stdout
    link.send(NEXT)
    while True:
        status, headers, body = link.receive()
        if status != 200:
            continue  # the answer's 202, or why it was not taken
        request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        if note:
            note(request_id)
        trace = headers.get("Lambda-Runtime-Trace-Id")
        if trace:
            os.environ["_X_AMZN_TRACE_ID"] = trace
        elif "_X_AMZN_TRACE_ID" in os.environ:
            del os.environ["_X_AMZN_TRACE_ID"]
        try:
            answer = dump(handler(parse(body), LambdaContext(headers)))
            where, header = "response", ""
        except Exception as e:
            failure = fault_of(e, request_id)
            log_error(failure)
            where, header = "error", "Lambda-Runtime-Function-Error-Type: %s\r\n" % failure["errorType"]
            answer = json.dumps(failure).encode()
        else:
            out.flush()
        if note:
            finish()
            link.post("invocation/%s/%s" % (request_id, where), header, answer)
            note("")
            link.send(NEXT)
        else:
            link.post("invocation/%s/%s" % (request_id, where), header, answer, NEXT)


def runner(handler):
    """Gives a way to call the handler. A coroutine function, which AWS does not run, runs on one event loop, kept between
    events."""
    if not getattr(getattr(handler, "__code__", None), "co_flags", 0) & 0x80:  # inspect.CO_COROUTINE
        return handler
    import asyncio
    events = asyncio.new_event_loop()
    asyncio.set_event_loop(events)
    return lambda event, context: events.run_until_complete(handler(event, context))


def main():
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    import logging  # prepared, so that binding need not
    sys.modules["kiln_bootstrap"] = sys.modules.pop("__main__")
    sys.modules["__main__"] = type(sys)("__main__")
    link = Link(os.environ["AWS_LAMBDA_RUNTIME_API"])
    name = bind(link)
    slots = int(os.environ.get("AWS_LAMBDA_MAX_CONCURRENCY") or 1)
    note = finish = None
    if slots > 1:
        note = several(link, slots)
        link.connect()
        finish = mark_lines()
    set_up_logging()
    try:
        handler = runner(load(name))
    except Exception as e:
        failure = fault_of(e)
        log_error(failure)
        link.post("init/error", "Lambda-Runtime-Function-Error-Type: %s\r\n" % failure["errorType"],
                  json.dumps(failure).encode())
        link.receive()
        sys.exit(1)
    loop(link, handler, note, finish)


main()

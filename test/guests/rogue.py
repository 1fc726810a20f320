#!/usr/bin/python3 -u
# rogue.py is a runtime of its own that breaks AWS's Runtime API in the way the event asks for. It speaks it by bare
# sockets, so that it can be as wrong as it likes.
import json
import os
import socket
import sys
import time

HOST, PORT = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
BASE = "/2018-06-01/runtime/invocation/"
count = 0


class Link:
    """One connection to the Runtime API."""

    def __init__(self):
        self.socket = socket.create_connection((HOST, int(PORT)), timeout=30)
        self.buffer = b""

    def send(self, data):
        self.socket.sendall(data)

    def call(self, method, path, body=b""):
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        self.send(head.encode() + body)
        return self.answer()

    def answer(self):
        while b"\r\n\r\n" not in self.buffer:
            self.more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        while len(self.buffer) < int(headers.get("content-length", 0)):
            self.more()
        body = self.buffer[: int(headers.get("content-length", 0))]
        self.buffer = self.buffer[len(body) :]
        return int(lines[0].split()[1]), headers, body

    def more(self):
        data = self.socket.recv(1 << 16)
        if not data:
            raise EOFError
        self.buffer += data

    def close(self):
        self.socket.close()


def respond(link, request, body):
    return link.call("POST", BASE + request + "/response", body)[0]


def misbehave(link, request, event, mine):
    """Gives the connection to go on with."""
    do = event.get("do")
    if do == "twice":
        first, second = respond(link, request, mine), respond(link, request, b'"the second answer"')
        print("statuses", first, second)
    elif do == "other":
        wrong = [respond(link, other, b'"for another"') for other in (event["other"], "00000000-0000-4000-8000-000000000000", "..", "%00")]
        mine = json.dumps({"mine": json.loads(mine), "statuses": wrong}).encode()
        respond(link, request, mine)
    elif do == "reconnect":
        link.close()
        link = Link()
        respond(link, request, mine)
    elif do == "close":
        link.close()
        time.sleep(60)
    elif do == "never":
        time.sleep(60)
    elif do == "next":  # asks for another event instead of answering
        for _ in range(3):
            _, headers, _ = link.call("GET", BASE + "next")
            assert headers["lambda-runtime-aws-request-id"] == request
        respond(link, request, mine)
    elif do == "big":
        print("status", respond(link, request, b'"' + b"x" * event["bytes"] + b'"'))
    elif do == "half":
        link.send(f"POST {BASE}{request}/response HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf of it".encode())
        {"close": lambda: (link.close(), time.sleep(60)), "exit": lambda: os._exit(0), "stall": lambda: time.sleep(60)}[event["then"]]()
    elif do == "garbage":
        for junk in (b"\0" * 4096, b"POST / HTTP/9.9\r\n\r\n", b"GET " + b"a" * 300000, b"POST /x HTTP/1.1\r\nContent-Length: -1\r\n\r\n"):
            try:
                bad = Link()
                bad.send(junk)
                bad.socket.settimeout(1)
                bad.socket.recv(4096)
            except OSError:
                pass
            bad.close()
        respond(link, request, mine)
    elif do == "flood":
        links = []
        for _ in range(event["links"]):
            try:
                links.append(Link())
            except OSError:
                break
        respond(link, request, mine)
        for l in links:
            l.close()
    elif do == "init error":
        status = link.call("POST", "/2018-06-01/runtime/init/error", b'{"errorType":"Late"}')[0]
        respond(link, request, json.dumps({"mine": json.loads(mine), "statuses": [status]}).encode())
    else:
        respond(link, request, mine)
    return link


link = Link()
while True:
    _, headers, event = link.call("GET", BASE + "next")
    count += 1
    request = headers["lambda-runtime-aws-request-id"]
    mine = json.dumps({"id": request, "count": count}).encode()
    try:
        link = misbehave(link, request, json.loads(event), mine)
    except (EOFError, ConnectionError, BrokenPipeError) as e:
        print("the connection ended:", repr(e), file=sys.stderr)
        link.close()
        link = Link()

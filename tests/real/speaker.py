#!/usr/bin/env python3
"""A worker that speaks on its channel, line by line, as its arguments say; without a client.

Everything that it reads is printed as `got LINE` (with ` +N` for N fds), so that a test finds it in the log.
"""
import array
import json
import os
import signal
import socket
import sys
import time

sys.dont_write_bytecode = True
import foreign  # noqa: E402

ME = {"pool": os.environ["HANDOVER_POOL"], "slot": int(os.environ["HANDOVER_SLOT"]), "worker": int(os.environ["HANDOVER_WORKER"])}
HELLO = {"type": "hello", "version": 1, "capabilities": ["drain", "ping", "listen", "messages", "fds"], "client": "speaker"}
channel = socket.socket(fileno=int(os.environ["HANDOVER_CHANNEL"]))
buffer, fds, granted, heard = b"", [], [], []
hoards = "hoard" in sys.argv


def out(text):
    print(text, flush=True)


def say(line, attached=()):
    data = line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", attached))] if attached else []
    sent = channel.sendmsg([data], rights)
    if sent < len(data):
        channel.sendall(data[sent:])


def read():
    """The next line; None at the end."""
    global buffer
    while b"\n" not in buffer:
        try:
            data, control, flags, _ = channel.recvmsg(65536, socket.CMSG_SPACE(253 * 4))
        except ConnectionResetError:
            return None
        for level, kind, rights in control:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                came = array.array("i")
                came.frombytes(rights[: len(rights) - len(rights) % 4])
                fds.extend(came)
        if not data:
            return None
        buffer += data
    text, buffer = buffer.split(b"\n", 1)
    line = json.loads(text)
    came = [fds.pop(0) for _ in range(line.get("fds", 0))]
    out(f"got {text.decode()}" + (f" +{len(came)}" if came else ""))
    heard.append(line.get("data"))
    if came:
        granted[:] = came
        if hoards:
            for fd in came:
                os.close(fd)
            return line
        say({"type": "ack", "re": line["id"]})
    return line


def expect(kind):
    """Reads until such a line has come."""
    while True:
        line = read()
        if line is None:
            out("the channel has ended")
            return None
        if line["type"] == kind:
            return line


def inode(fd):
    return os.fstat(fd).st_ino


def run(step):
    word, _, rest = step.partition("=")
    if word == "hello":
        say(dict(HELLO, **(json.loads(rest) if rest else {})))
    elif word == "say":
        say(rest.encode() + b"\n")
    elif word == "attach":
        # attach=KIND LINE
        kind, _, rest = rest.partition(" ")
        fd = foreign.make(kind)
        say(rest.encode() + b"\n", [fd])
        if kind == "linger":
            foreign.close(fd)
    elif word == "expect":
        expect(rest)
    elif word == "meet":
        # Whoever comes first is refused, and says it again when it hears of the other. Each then knows that the other one is
        # ready: it says so before.
        mine = {"type": "message", "id": 100, "to": {"worker": int(rest)}, "data": f"{ME['worker']}: I am here"}
        say(mine)
        answer = None
        while f"{rest}: I am here" not in heard or answer != "sent":
            line = read()
            answer = line["type"] if line.get("re") == 100 else answer
            if f"{rest}: I am here" in heard and answer == "refused":
                say(mine)
                answer = None
    elif word == "answer":
        line = expect("message")
        while "I am here" in str(line["data"]):
            line = expect("message")
        say({"type": "reply", "re": line["id"], "data": {"from": ME["worker"], "to": line["data"]}})
    elif word == "hoard":
        # Never acknowledges.
        for number in range(1, 200):
            say({"type": "listen", "id": number, "name": "http"})
            while read().get("re") != number:
                pass
        out("that is all")
    elif word == "question":
        while "reply" not in expect("message"):
            pass
    elif word == "listen":
        say({"type": "listen", "id": 1, **json.loads(rest)})
        while True:
            line = read()
            if line is None or line.get("re") == 1:
                break
        if line and line["type"] == "grant":
            out(f"socket {line['name']} {line['address']} {[inode(fd) for fd in granted]}")
    elif word == "give":
        ours, theirs = socket.socketpair()
        say({"type": "message", "id": 9, "to": json.loads(rest), "data": "a socket", "fds": 1}, [theirs.fileno()])
        theirs.close()
        out("through it came " + ours.recv(100).decode())
    elif word == "use":
        while "fds" not in expect("message"):
            pass
        socket.socket(fileno=granted[0]).sendall(b"thanks")
    elif word == "print":
        out(rest)
    elif word == "ignore-term":
        signal.signal(signal.SIGTERM, lambda *_: out("SIGTERM came"))
    elif word == "log-many":
        for number in range(int(rest)):
            say({"type": "log", "level": "warn", "message": f"last {number}", "target": "a::b", "fields": {"n": number}})
    elif word == "wait":
        time.sleep(float(rest))
    elif word == "hang":
        signal.pause()
    elif word == "exit":
        os._exit(int(rest))
    elif word == "drain":
        if expect("drain") is not None:
            os._exit(0)
        signal.pause()
    elif word == "close":
        channel.close()
    else:
        sys.exit(f"no such step: {step}")


for step in sys.argv[1:]:
    condition, _, rest = step.rpartition("] ")
    if condition:
        key, _, value = condition.strip("[").partition("=")
        if str(ME[key]) != value:
            continue
    run(rest)

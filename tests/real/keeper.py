#!/usr/bin/env python3
"""A worker that puts fds away through its NOTIFY_SOCKET, as its arguments say, and prints what it was given."""
import array
import os
import signal
import socket
import sys

sys.dont_write_bytecode = True
import foreign  # noqa: E402

ME = {"slot": os.environ["HANDOVER_SLOT"], "worker": os.environ["HANDOVER_WORKER"], "generation": os.environ["HANDOVER_GENERATION"]}
count = int(os.environ.get("LISTEN_FDS", "0"))
names = os.environ["LISTEN_FDNAMES"].split(":") if count else []
given = list(zip(names, range(3, 3 + count)))
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
manager.connect(os.environ["NOTIFY_SOCKET"])


def out(text):
    print(text, flush=True)


def notify(text, fds=()):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    manager.sendmsg([text.encode()], rights)


def memory():
    return os.memfd_create("memory")


def run(step):
    word, _, rest = step.partition("=")
    if word == "notify":
        notify(rest.replace("\\n", "\n"))
    elif word == "store":
        # store=NAME,KIND[,COUNT]
        name, kind, *many = rest.split(",")
        make = {
            "memory": memory,
            "pipe": lambda: pipe_end(),
            "listener": lambda: socket.create_server(("127.0.0.1", 0)).detach(),
            "first": lambda: os.dup(3),
            "linger": foreign.lingering,
        }.get(kind, lambda: foreign.stopped(kind) if "+" in kind else os.open(kind, os.O_WRONLY))
        fds = [make() for _ in range(int(many[0]) if many else 1)]
        # One whose server is stopped cannot be asked, nor closed.
        hangs = "+" in kind
        out(f"stores {name}={0 if hangs else [os.fstat(fd).st_ino for fd in fds][0]}")
        notify(f"FDSTORE=1\nFDNAME={name}", fds)
        for fd in [] if hangs else fds:
            foreign.close(fd) if kind == "linger" else os.close(fd)
    elif word == "barrier":
        ours, theirs = os.pipe()
        notify("BARRIER=1", [theirs])
        os.close(theirs)
        assert os.read(ours, 1) == b""
        out("barrier passed")
    elif word == "stranger":
        # Lives, and is of another process group, until what it said is dealt with.
        ready, go = os.pipe()
        child = os.fork()
        if child == 0:
            os.setsid()
            run(rest)
            os.write(go, b"x")
            signal.pause()
        os.read(ready, 1)
        run("barrier")
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    elif word == "ready-fd":
        os.write(int(rest), b"\n")
    elif word == "flood":
        fds = [memory() for _ in range(200)]
        while True:
            for name in ("a", "http", "b:c"):
                try:
                    notify(f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0", fds)
                except OSError:
                    pass
            for fd in fds[:20]:
                os.close(fd)
            fds = fds[20:] + [memory() for _ in range(20)]
    elif word == "exit":
        os._exit(int(rest))
    else:
        sys.exit(f"no such step: {step}")


kept_open = []


def pipe_end():
    ours, theirs = os.pipe()
    kept_open.append(ours)
    return theirs


out("has " + " ".join(f"{name}={os.fstat(fd).st_ino}" for name, fd in given) + ".")
for step in sys.argv[1:]:
    condition, _, rest = step.rpartition("] ")
    if condition:
        key, _, value = condition.strip("[").partition("=")
        if ME[key] != value:
            continue
    run(rest)
while True:
    signal.pause()

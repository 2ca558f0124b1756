"""Fds that keep waiting whoever closes them, and a program that sends them: `foreign.py WHAT WHERE KIND [COUNT]`, as a user without
rights if it is root.

WHAT: `datagrams` to the socket at WHERE, `connections` to it. KIND: `linger`, or the path of a file that is opened first, and whose
server is then stopped: `PATH+PID`, flocked with `PATH!+PID`; `none`: no fd. COUNT 0: without end.
"""
import array
import fcntl
import os
import signal
import socket
import struct
import sys
import threading
import time

kept = []


def lingering():
    """A connection with bytes that nobody takes; closing it for the last time waits ten minutes for somebody."""
    server = socket.create_server(("127.0.0.1", 0))
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client = socket.create_connection(server.getsockname())
    client.setblocking(False)
    try:
        while True:
            client.send(b"x" * 65536)
    except BlockingIOError:
        pass
    client.setblocking(True)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 600))
    kept.append(server)
    return client.detach()


def stopped(kind):
    """A file of a file system whose server is stopped once it is open."""
    path, _, pid = kind.partition("+")
    os.kill(int(pid), signal.SIGCONT)
    fd = os.open(path.removesuffix("!"), os.O_RDWR)
    if path.endswith("!"):
        fcntl.flock(fd, fcntl.LOCK_EX)
    os.kill(int(pid), signal.SIGSTOP)
    return fd


def make(kind):
    return {"linger": lingering}.get(kind, lambda: stopped(kind))()


def close(fd):
    """In a thread: it may be the last copy already, and then it waits as it is meant to."""
    threading.Thread(target=os.close, args=(fd,), daemon=True).start()


def send(to, data, fds=()):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    to.sendmsg([data], rights)


def main():
    what, where, kind, *count = sys.argv[1:]
    count = int(count[0]) if count else 1
    first = None if kind in ("none", "linger") else make(kind)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    sent = refused = 0
    pause = 0.0
    while count == 0 or sent + refused < count:
        fd = lingering() if kind == "linger" and (count or sent % 50 == 0) else first
        fds = [] if fd is None else [fd]
        try:
            if what == "datagrams":
                to = kept_socket(where)
                send(to, b"READY=1\nFDSTORE=1", fds)
            else:
                to = socket.socket(socket.AF_UNIX)
                to.connect(where)
                kept.append(to)
                send(to, b"GET /v1/status HTTP/1.1\r\n", fds)
            sent += 1
        except OSError as error:
            refused += 1
            kept.append(fd)
            fd = first
            if count == 0 and refused % 1000 == 0:
                time.sleep(0.001)
            if count:
                print(f"refused {error.strerror}", flush=True)
        if fd is not None and fd != first:
            close(fd)
            del kept[:-200]
    print(f"sent {sent} refused {refused}", flush=True)
    while True:
        signal.pause()


sockets = {}


def kept_socket(where):
    if where not in sockets:
        sockets[where] = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sockets[where].connect(where)
        if len(sys.argv) > 4 and sys.argv[4] == "0":
            sockets[where].setblocking(False)
    return sockets[where]


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""A worker that does on its channel what no worker should: of all the ways below the one that its number falls on.

It prints `did WAY`, and then ends by itself or is replaced.
"""
import array
import errno
import os
import resource
import signal
import socket

NUMBER = int(os.environ["HANDOVER_WORKER"])
HELLO = b'{"type":"hello","version":1,"capabilities":["drain","ping","listen","messages","fds"],"client":"hostile"}\n'
READY = b'{"type":"ready"}\n'
RIGHTS = (socket.SOL_SOCKET, socket.SCM_RIGHTS)
channel = socket.socket(fileno=int(os.environ["HANDOVER_CHANNEL"]))


def send(data, fds=()):
    """Sends all of it, the fds with its first byte. What handover does not take any more is not our worry."""
    try:
        sent = channel.sendmsg([data], [(*RIGHTS, array.array("i", fds))] if fds else [])
        channel.sendall(data[sent:])
    except (BrokenPipeError, ConnectionResetError):
        pass


def greet():
    send(HELLO + READY)


def read_to_the_end():
    """And prints the last thing that it was told."""
    data = b""
    try:
        while came := channel.recv(65536):
            data = (data + came)[-2000:]
    except ConnectionResetError:
        pass
    print(data.rstrip(b"\n").split(b"\n")[-1].decode(), flush=True)


def says(line, fds=0):
    """Breaks the rules once, and waits until it is cut off."""

    def way():
        greet()
        send(line, [channel.fileno()] * fds)
        read_to_the_end()
        # As a worker that does not know that it is to end.
        signal.pause()

    return way


def begins_with(line):
    """Is cut off before it is known, and so is a plain worker that dies."""

    def way():
        send(line)
        read_to_the_end()

    return way


def goes_on(line, count, fds=0):
    """Says what is useless but no error, again and again, reads what it is told, and dies."""

    def way():
        greet()
        for _ in range(count):
            send(line, [channel.fileno()] * fds)
            try:
                channel.recv(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                pass
            except ConnectionResetError:
                return

    return way


def deaf():
    """Asks and asks, and takes no answer."""
    greet()
    channel.setblocking(False)
    try:
        for number in range(1, 1 << 20):
            channel.send(b'{"type":"message","id":%d,"to":"all","data":"%s"}\n' % (number, b"x" * 1000))
    except (BlockingIOError, BrokenPipeError, ConnectionResetError):
        pass


def poor():
    """Has no room for the socket that it asks for."""
    greet()
    resource.setrlimit(resource.RLIMIT_NOFILE, (channel.fileno() + 1, channel.fileno() + 1))
    os.dup2(0, channel.fileno() - 1)
    send(b'{"type":"listen","id":1,"name":"http"}\n')
    while not channel.recvmsg(65536, socket.CMSG_SPACE(253 * 4))[2] & socket.MSG_CTRUNC:
        pass


def crowded():
    """Has as many fds on the way as its user may, and goes on."""
    if os.getuid() == 0:
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    greet()
    ours, theirs = socket.socketpair()
    try:
        while True:
            ours.sendmsg([b"x"], [(*RIGHTS, array.array("i", [0] * 16))])
    except OSError as error:
        assert error.errno == errno.ETOOMANYREFS, error
    try:
        channel.sendmsg([b'{"type":"later","fds":1}\n'], [(*RIGHTS, array.array("i", [0]))])
    except OSError as error:
        assert error.errno == errno.ETOOMANYREFS, error


def closes():
    greet()
    channel.close()
    signal.pause()


def half():
    """Dies in the middle of a line that has brought fds."""
    greet()
    send(b'{"type":"message","id":1,"to":"all","fds":3,"da', [channel.fileno()] * 3)


def stands_still():
    greet()
    os.kill(os.getpid(), signal.SIGSTOP)


QUESTION = b'{"type":"message","to":{"worker":%d},"id":5,"reply":true,"data":0}\n' % NUMBER
WAYS = {
    "not JSON": says(b"nonsense\n"),
    "no object": says(b"[]\n"),
    "no type": says(b"{}\n"),
    "deep": says(b'{"type":"ready","x":' + b"[" * 70 + b"]" * 70 + b"}\n"),
    "no UTF-8": says(b'{"type":"status","text":"\xff"}\n'),
    "long": says(b'{"type":"status","text":"' + b"x" * 70000 + b'"}\n'),
    "never ending": says(b"x" * (2 << 20)),
    "no text": says(b'{"type":"status"}\n'),
    "two hellos": says(HELLO),
    "fds that are missing": says(b'{"type":"message","to":{"worker":1},"id":1,"fds":2,"data":0}\n'),
    "fds where none belong": says(b'{"type":"listen","id":1,"name":"http","fds":1}\n', 1),
    "an id twice": says(QUESTION * 2),
    "fds without end": says(b'{"type":"status","text":"here are sockets"}\n', 200),
    "lines without end": says(b'{"type":"heartbeat"}\n' * 1_000_000 + b"{}\n"),
    "no hello": begins_with(READY),
    "nothing that is a line": begins_with(os.urandom(4096).replace(b"\n", b"") + b"\n"),
    "from before": begins_with(HELLO.replace(b'"version":1', b'"version":0')),
    "from later": goes_on(b'{"type":"from-version-9","id":7,"x":{"y":[1]}}\n', 2000),
    "sockets nobody knows": goes_on(b'{"type":"from-version-9","id":7,"fds":64}\n', 500, 64),
    "answers to nothing": goes_on(b'{"type":"reply","re":77,"id":3,"fds":2,"data":0}\n', 1000, 2),
    "not its addresses": goes_on(b'{"type":"listen","id":7,"address":"tcp://0.0.0.0:22"}\n', 2000),
    "records": goes_on(b'{"type":"log","level":"info","message":"again"}\n', 500),
    "wishes": goes_on(b'{"type":"replace","reason":"I wish"}\n', 500),
    "deaf": deaf,
    "poor": poor,
    "crowded": crowded,
    "closes": closes,
    "half": half,
    "stands still": stands_still,
}

name = list(WAYS)[NUMBER % len(WAYS)]
print(f"did {name}", flush=True)
WAYS[name]()
os._exit(3)

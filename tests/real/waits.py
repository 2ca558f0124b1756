#!/usr/bin/env python3
"""A program that says nothing and waits for connections on the sockets that it was given, in the way that its argument names."""
import asyncio
import ctypes
import os
import select
import signal
import socket
import sys
import threading

SOCKETS = [socket.socket(fileno=fd) for fd in range(3, 3 + int(os.environ["LISTEN_FDS"]))]


def accept(listener):
    while True:
        listener.accept()[0].close()


def accept_in_threads():
    threads = [threading.Thread(target=accept, args=[listener]) for listener in SOCKETS for _ in range(3)]
    for thread in threads:
        thread.start()
    signal.pause()


def poll():
    poller = select.poll()
    for listener in SOCKETS:
        poller.register(listener, select.POLLIN)
    poller.poll()


def epoll():
    poller = select.epoll()
    for listener in SOCKETS:
        poller.register(listener, select.EPOLLIN)
    poller.poll()


def serve():
    async def forever():
        servers = [await asyncio.start_server(lambda reader, writer: writer.close(), sock=s) for s in SOCKETS]
        await asyncio.gather(*(server.serve_forever() for server in servers))

    asyncio.run(forever())


def accept_in_a_child():
    """As a master does that leaves waiting to others."""
    if os.fork() == 0:
        accept(SOCKETS[0])
    signal.pause()


def hold_a_connection():
    """Is never seen to wait, since it has to do with the connection that it has."""
    SOCKETS[0].setblocking(False)
    while True:
        try:
            connection = SOCKETS[0].accept()
            break
        except BlockingIOError:
            signal.sigtimedwait([], 0.001)
    signal.pause()
    connection.close()


def ring():
    """Whatever it does with an io_uring, nobody sees it."""
    io_uring_setup = 425
    if ctypes.CDLL(None, use_errno=True).syscall(io_uring_setup, 4, ctypes.create_string_buffer(120)) < 0:
        sys.exit("no io_uring here")
    signal.pause()


WAYS = {
    "accept": lambda: accept(SOCKETS[0]),
    "accept-threads": accept_in_threads,
    "accept-child": accept_in_a_child,
    "poll": poll,
    "select": lambda: select.select(SOCKETS, [], []),
    "epoll": epoll,
    "asyncio": serve,
    "receive": lambda: SOCKETS[0].recvfrom(100),
    "hold": hold_a_connection,
    "ring": ring,
    "never": signal.pause,
}
WAYS[sys.argv[1]]()
signal.pause()

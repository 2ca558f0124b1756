#!/usr/bin/env python3
"""Plays handover, drives a client through the whole protocol, and says what the client got wrong.

    conformance.py [--dialect node] [--only NAME]... [--deadline SECONDS] [--no-skips] -- COMMAND ARG...
    conformance.py --contract | --list

COMMAND is a conformance worker: a small program written with the client, which obeys orders. What it must do is CONTRACT below, which
``--contract`` prints; docs/protocol.md is what it is measured by. First every order is tried once; what the command does not understand is
said all at once. Then each case starts the command afresh, as handover would, and prints one line: ``ok NAME``,
``not ok NAME: what was sent, what was expected, what came`` (with the last lines of its standard error) or ``skipped NAME: why``.
Nothing here waits without a deadline, and no process is left.

Exit status: 0, no case failed; 1, one failed (or was skipped, with ``--no-skips``); 2, a wrong command line; 3, the command does not keep
the contract, and no case was tried.

It shares no code with any client: a mistake in both would be none.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import json
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

Line = Dict[str, Any]

MAX_LINE = 65_536
MAX_MESSAGE = 1_048_576
MAX_DATA = 1_000_000
CAPABILITIES = ["drain", "ping", "listen", "messages", "log", "fds"]

QUIET = 1.0
"""Seconds in which nothing may come, where silence is what is wanted. Only cases that can end in no other way wait so long."""

ME = {"pool": "web", "slot": 1, "worker": 2}
"""A worker that messages are said to come from."""

# Runs in the new process: puts fds where they belong, sets what only the process itself knows, and becomes the command.
SHIM = """
import fcntl, json, os, sys
plan = json.loads(sys.argv[1])
moved = [(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 300), to) for fd, to in plan["fds"]]
os.closerange(3, 300)
for fd, to in moved:
    os.dup2(fd, to, inheritable=True)
if plan["own_pid"]:
    os.environ["LISTEN_PID"] = str(os.getpid())
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit("%s: %s" % (sys.argv[2], error))
"""

# Lists what a child of the worker has: device and inode of its fds, and whether it sees the variable.
CHILD = """
import os
seen = []
for fd in range(256):
    try:
        found = os.fstat(fd)
        seen.append("%d:%d" % (found.st_dev, found.st_ino))
    except OSError:
        pass
print(" ".join(seen), "HANDOVER_CHANNEL" in os.environ)
"""


CONTRACT = r"""### The conformance worker

The command is a small program written with the client. It need not be pretty; it must do this, and nothing else on the channel and on standard output:

1. It connects, with every capability that the client has, and says `ready`.
2. It obeys messages from `"handover"` whose `data` is an object with `"do"` (below), in the order in which they come. A client with an event loop
   begins with the next while one waits for its answer; a blocking one need not.
3. It takes messages with fds (but for `hold`), from anybody: writes `taken\n` into each fd and closes it. If the message has `"reply":true` it
   replies `{"fds":n}`.
4. On `drain`, and when handover is gone (end of file), it exits with 0 as soon as no order is under way. Orders that come until then are obeyed.
5. When the channel ends because of an error (handover broke the rules, or says that the worker did), it says the status `lost`, which must be harmless
   (and with a `NOTIFY_SOCKET` goes there), writes the line `lost` to standard output, and goes on.
6. When there is no channel (no variable, no socket behind it, no common version), it says the status `without handover`, a heartbeat, `extend_timeout`
   with 20,000 ms, a record and `ready`, once each, in this order: they must be harmless, too. Then it writes the line `plain` to standard output, and goes on.
7. Without a channel it ends at `SIGTERM`, with 0. While it has one, `SIGTERM` may do anything.
8. What its client does not let it send (data that is too long) it drops, and goes on.

What it reports is a `message` to `"handover"`, without `id`, whose data is `{"outcome":…}`; if the order has a `"tag"`, it is `{"outcome":…,"tag":TAG}`.
An order that the client cannot carry out is reported as `{"outcome":{"unsupported":"why"}}`, and the case is skipped.

| order | what it does | the outcome that it reports |
|---|---|---|
| `{"do":"about"}` | | `{"about":{"loop":B}}`: whether it begins with other orders while one waits (an event loop) |
| `{"do":"echo","data":X}`, always with `"reply":true` | replies X | |
| `{"do":"from"}`, always with `"reply":true`, from anybody | replies the `from` of the message | |
| `{"do":"refuse","error":E}`, always with `"reply":true` | refuses with the error E, and a reason of its own | |
| `{"do":"reply_fd"}`, always with `"reply":true` | makes a Unix stream socket pair, writes `fd\n` to one end and closes it, and replies `"fd"` with the other, of which it then has no copy but the client's | |
| `{"do":"send","to":T,"data":X,"id":B,"reply":B,"timeout_ms":N}` | sends that message; `id`, `reply`, `timeout_ms` may be missing (false, false, none). Into fds that come with the reply it writes `taken\n`, and closes them | with `id` or `reply`: `{"sent":{"receivers":n,"refused":[…]}}`, `{"reply":X,"from":F}` (with fds `{"reply":X,"from":F,"fds":n}`), or `{"refused":{"error":E}}`; what stands in them as it came |
| `{"do":"send_fd","to":T}` | makes a Unix stream socket pair, and sends one end with the data `"fd"`. When the outcome is there: if it is a refusal, sees whether what it writes to the end that it sent comes out of the other; then writes `fd\n` to the other, and closes both | as `send` with `id`; `{"refused":{"error":E},"kept":B}` says whether it did |
| `{"do":"flood","count":N,"size":M}` | sends N messages to `"handover"`, without `id`, data `{"n":0,"pad":"xx…"}`, n from 0 to N-1, `pad` M letters | |
| `{"do":"log","level":L,"message":S,"target":S,"fields":{…}}` | logs that; `target` and `fields` may be missing | |
| `{"do":"status","text":S}` `{"do":"heartbeat"}` `{"do":"extend_timeout","ms":N}` `{"do":"replace","reason":S}` `{"do":"stopping"}` | says that; `reason` may be missing | |
| `{"do":"listen","name":S}`, `{"do":"listen","address":S}` | asks for it on the channel, keeps what it gets | `{"granted":{"name":S,"address":S,"fds":n}}`, or refused as above |
| `{"do":"inherited","name":S}` | takes the listener of this name from `LISTEN_FDS` | `{"granted":{"name":S,"fds":n}}`, or `{"refused":{"error":"missing"}}` |
| `{"do":"accept"}` | accepts one connection on what it got last, writes `hello\n` to it, closes it | |
| `{"do":"hold"}`, with fds, with `"reply":true`, or both | keeps the fds open and does not write; keeps the question and does not answer | |
| `{"do":"release"}` | writes `taken\n` to the held fds, closes them; replies `true` to the held questions | |
| `{"do":"run","command":[…]}` | runs the command with every fd that is not close-on-exec (where the language can), standard output read to the end | `{"output":"…"}` |
| `{"do":"fork"}` | forks; the child says the status `from a child`, asks the client to read what there is, and ends at once, without closing anything in order | `{"forked":true}`, when the child has ended |
| `{"do":"hang"}` | never turns its loop again | |

`listener_removed` is reported as a message with the data `{"removed":NAME}`. Everything else that it is sent is ignored.

With `--dialect node` the command has `NODE_CHANNEL_FD` in place of `HANDOVER_CHANNEL`. All lines of the table then travel as `{"handover":LINE}` in Node's
channel, from the worker's `hello` on, one fd a line; Node's own acknowledgement counts as `ack`. Cases about the bytes themselves are left out: they
belong to Node.
"""
"""What a conformance worker must do; README.md has the same."""


class Wrong(Exception):
    """The client did not do what the protocol says."""


class Skip(Exception):
    """The client cannot do what the case is about."""


class Options(NamedTuple):
    """The command line."""

    command: List[str]
    dialect: str
    deadline: float


def short(value: Any, limit: int = 200) -> str:
    """A value as people read it in one line."""
    text = value if isinstance(value, str) else value.decode("utf-8", "replace") if isinstance(value, bytes) else dump(value)
    text = text.replace("\n", "\\n")
    return text if len(text) <= limit else f"{text[:limit // 2]} … {text[-limit // 3:]} ({len(text)} characters)"


def dump(value: Any) -> str:
    """JSON as handover writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def close_all(fds: Sequence[int]) -> None:
    """Closes fds that may be closed already."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def fingerprint(fd: int) -> str:
    """What tells one open file from another across processes."""
    found = os.fstat(fd)
    return f"{found.st_dev}:{found.st_ino}"


def depth(value: Any) -> int:
    """How deep a value nests, by levels and not by recursion."""
    deepest, level = 0, [value]
    while level:
        level = [one for outer in level if isinstance(outer, (dict, list))
                 for one in (outer.values() if isinstance(outer, dict) else outer)]
        deepest += 1
    return deepest - 1


# --- One worker, and handover's end of its channel ---------------------------------------------------------------------


class Play:
    """A worker that was started for one case. Everything that it writes is checked here for what holds in every case."""

    def __init__(self, options: Options, *, hello: Optional[Line] = None, say_hello: bool = True, channel: str = "pair",
                 listeners: Sequence[Tuple[str, socket.socket]] = (), environment: Optional[Dict[str, str]] = None,
                 own_pid: bool = True, notify: bool = False) -> None:
        self.options = options
        self.node = options.dialect == "node"
        self.hello = hello or {}
        self.last = "nothing"
        self.ended = False              # the case has seen the end of the worker or of its channel
        self.auto_ack = True
        self.is_lenient = False         # answers to ids that no client has to take are no errors
        self.read_size = 65_536
        self.client: Line = {}
        self._next_id = 0
        self._inbox: Deque[Tuple[Line, List[int]]] = deque()
        self._buffer = bytearray()
        self._offset = 0                # in the stream: of the buffer's first byte
        self._fds: Deque[Tuple[int, int]] = deque()     # offset of the byte that they came with, fd
        self._asked: Set[int] = set()   # our questions without an answer
        self._unacked: List[int] = []   # our lines with fds
        self._open: Set[int] = set()    # its questions without an answer
        self._eof = False
        self._stdout = bytearray()
        self._to_close: List[int] = []
        self.notify_socket: Optional[socket.socket] = None
        self._scratch = tempfile.mkdtemp(prefix="conformance-")
        self._errors = open(os.path.join(self._scratch, "stderr"), "w+b")
        try:
            self._start(channel, listeners, environment or {}, own_pid, notify)
            if say_hello and channel == "pair" and not self.node:
                self.write_hello()
        except BaseException:
            self.close()
            raise

    # Starting and ending.

    def _start(self, channel: str, listeners: Sequence[Tuple[str, socket.socket]], environment: Dict[str, str], own_pid: bool,
               notify: bool) -> None:
        ours, theirs = socket.socketpair()
        self.channel = ours
        ours.setblocking(False)
        self.known = {fingerprint(theirs.fileno())}
        fds = [(one.fileno(), 3 + index) for index, (_, one) in enumerate(listeners)]
        number = 3 + len(fds)
        variables = {name: value for name, value in os.environ.items()
                     if not name.startswith(("HANDOVER_", "LISTEN_", "NODE_CHANNEL")) and name not in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")}
        variables.update(HANDOVER_NAME="conformance", HANDOVER_POOL="web", HANDOVER_SLOT="0", HANDOVER_GENERATION="1", HANDOVER_WORKER="1")
        if listeners:
            variables.update(LISTEN_FDS=str(len(listeners)), LISTEN_FDNAMES=":".join(name for name, _ in listeners))
            if not own_pid:
                variables["LISTEN_PID"] = "1"
        with contextlib.ExitStack() as stack:
            stack.enter_context(theirs)
            place = self._channel_fd(channel, theirs, stack)
            if place is not None:
                fds.append((place, number))
            if channel != "none":
                variables["NODE_CHANNEL_FD" if self.node else "HANDOVER_CHANNEL"] = "abc" if channel == "garbage" else str(number)
            if self.node:
                variables["NODE_CHANNEL_SERIALIZATION_MODE"] = "json"
            if notify:
                self.notify_socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                variables["NOTIFY_SOCKET"] = os.path.join(self._scratch, "notify")
                self.notify_socket.bind(variables["NOTIFY_SOCKET"])
            variables.update(environment)
            plan = json.dumps({"fds": fds, "own_pid": bool(listeners) and own_pid})
            self.process = subprocess.Popen(
                [sys.executable, "-S", "-E", "-c", SHIM, plan, *self.options.command], env=variables, pass_fds=[fd for fd, _ in fds],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._errors, start_new_session=True)
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)

    @staticmethod
    def _channel_fd(channel: str, theirs: socket.socket, stack: contextlib.ExitStack) -> Optional[int]:
        if channel == "pair":
            return theirs.fileno()
        if channel == "pipe":
            reader, writer = os.pipe()
            stack.callback(os.close, reader)
            stack.callback(os.close, writer)
            return writer
        if channel == "datagram":
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            stack.enter_context(one)
            stack.enter_context(other)
            return one.fileno()
        return None                     # none, closed, garbage

    def close(self) -> None:
        """Ends the worker and whatever it started."""
        self.channel.close()
        process = getattr(self, "process", None)
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        if self.notify_socket is not None:
            self.notify_socket.close()
        self._errors.close()
        close_all([fd for _, fd in self._fds])
        for _, fds in self._inbox:
            close_all(fds)
        close_all(self._to_close)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def wrong(self, expected: str, came: str) -> Wrong:
        """What to say of the client, with the last lines of its standard error, each behind a ``#``."""
        self._errors.flush()
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        said = "".join(f"\n#   {line}" for line in lines[-10:])
        return Wrong(f"after {self.last}: expected {expected}, came {came}{said}")

    def keep(self, fd: int) -> int:
        """An fd to be closed at the end of the case."""
        self._to_close.append(fd)
        return fd

    # Writing.

    def write_hello(self) -> None:
        """handover's first line."""
        self.send({"type": "hello", "version": 1, "versions": [1, 1], "capabilities": CAPABILITIES, "name": "conformance",
                   "pool": "web", "slot": 0, "generation": 1, "worker": 1, **self.hello})

    def id(self) -> int:
        """A fresh id of ours."""
        self._next_id += 1
        return self._next_id

    def send(self, line: Line, fds: Sequence[int] = ()) -> None:
        """Writes a line as handover does. Answers and questions are counted."""
        if fds:
            self.need("fds")
        if fds and "id" not in line:
            line = {**line, "id": self.id()}
        if fds:
            line = {**line, "fds": len(fds)}
        self._count(line, bool(fds))
        if not self.node:
            self.write(dump(line).encode() + b"\n", fds)
        elif not fds:
            self.write(dump({"handover": line}).encode() + b"\n")
        else:
            self._send_node(line, fds)
        self.last = short(line)

    def _count(self, line: Line, fds: bool) -> None:
        if "re" in line and line["type"] != "ack":
            self._open.discard(line["re"])
        if fds:
            self._unacked.append(line["id"])
        if line["type"] == "ping" or line.get("reply"):
            self._asked.add(line["id"])

    def _send_node(self, line: Line, fds: Sequence[int]) -> None:
        """One fd a line, and the next when Node has acknowledged it."""
        if len(fds) > 1 and line["type"] != "grant":
            raise Skip("Node's channel carries one fd a line")
        for part, fd in enumerate(fds):
            parts = {"part": part, "parts": len(fds)} if len(fds) > 1 else {}
            with socket.socket(fileno=os.dup(fd)) as one:
                listens = one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            kind = "net.Server" if listens else "net.Socket"
            self.write(dump({"cmd": "NODE_HANDLE", "type": kind, "msg": {"handover": {**line, "fds": 1, **parts}}}).encode() + b"\n", [fd])
            if part + 1 < len(fds):
                self._unacked.append(line["id"])
                waiting = len(self._unacked)
                self._until(lambda: len(self._unacked) < waiting, "Node's acknowledgement")

    def write(self, raw: bytes, fds: Sequence[int] = (), piece: int = 0) -> None:
        """Writes bytes, the fds with the first, without reading; in pieces of ``piece`` bytes."""
        self.last = short(raw)
        until = time.monotonic() + self.options.deadline
        view, waiting = memoryview(raw), list(fds)
        while view:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", waiting))] if waiting else []
            try:
                count = self.channel.sendmsg([view[:piece] if piece else view], ancillary)
            except BlockingIOError:
                if not select.select([], [self.channel], [], max(0.0, until - time.monotonic()))[1]:
                    raise self.wrong("that it reads", f"nothing for {self.options.deadline:g} s: {len(view)} bytes are not taken") from None
                continue
            except OSError as error:
                raise self.wrong("an open channel", str(error)) from None
            view, waiting = view[count:], []

    def order(self, do: str, **members: Any) -> None:
        """A message from handover that tells the worker what to do."""
        self.send({"type": "message", "from": "handover", "data": {"do": do, **members}})

    def ask(self, data: Any, fds: Sequence[int] = (), sender: Any = "handover") -> int:
        """A message that wants a reply. Gives its id."""
        id_ = self.id()
        self.send({"type": "message", "id": id_, "from": sender, "data": data, "reply": True}, fds)
        return id_

    def answer(self, re: int, type_: str, **members: Any) -> None:
        """The answer to a question of the worker's."""
        self.send({"type": type_, "re": re, **members})

    # Reading.

    def _read(self, timeout: float) -> bool:
        """Waits for something from the worker, and takes it in. False: nothing came."""
        assert self.process.stdout is not None
        sources: List[Any] = [] if self._eof else [self.channel]
        out = self.process.stdout
        if not out.closed:
            sources.append(out)
        ready = select.select(sources, [], [], max(0.0, timeout))[0] if sources else []
        if out in ready:
            text = out.read()
            if text == b"":
                out.close()
            self._stdout += text or b""
        if self.channel in ready:
            self._receive()
        return bool(ready)

    def _receive(self) -> None:
        try:
            data, ancillary, flags, _ = self.channel.recvmsg(self.read_size, 4096, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
        except ConnectionResetError:
            data, ancillary, flags = b"", [], 0
        if not data:
            self._eof = True
            return
        numbers = array.array("i")
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                numbers.frombytes(content)
        at = self._offset + len(self._buffer)
        self._fds.extend((at, fd) for fd in numbers)
        if flags & socket.MSG_CTRUNC:
            raise self.wrong("fds that can be taken", "more than there is room for")
        self._buffer += data
        self._take_lines()

    def _take_lines(self) -> None:
        while True:
            end = self._buffer.find(b"\n")
            if end < 0:
                if len(self._buffer) > MAX_MESSAGE:
                    raise self.wrong(f"a line of at most {MAX_MESSAGE} bytes", f"{len(self._buffer)} bytes and no end")
                return
            raw, at = bytes(self._buffer[:end]), self._offset
            del self._buffer[:end + 1]
            self._offset += end + 1
            self._take(raw, at)

    def _take(self, raw: bytes, at: int) -> None:
        """A line: what holds for every line is checked here."""
        try:
            line = json.loads(raw.decode("utf-8"), parse_constant=lambda text: float("NaN") / 0)
        except (ValueError, ZeroDivisionError) as error:
            raise self.wrong("a line of JSON in UTF-8", f"{short(raw)} ({error})") from None
        if not isinstance(line, dict):
            raise self.wrong("an object", short(raw))
        if self.node:
            unwrapped = self._unwrap(line)
            if unwrapped is None:
                return
            line = unwrapped
        fds = self._fds_of(line, at)
        self._check(line, raw)
        self._inbox.append((line, fds))

    def _unwrap(self, line: Line) -> Optional[Line]:
        if line.get("cmd") == "NODE_HANDLE_ACK":
            if not self._unacked:
                raise self.wrong("no acknowledgement", short(line))
            self._unacked.pop(0)
            return None
        if line.get("cmd") == "NODE_HANDLE":
            inner = line.get("msg", {}).get("handover")
            if inner is None:
                raise self.wrong('a line in "handover"', short(line))
            self.write(b'{"cmd":"NODE_HANDLE_ACK"}\n')
            return {**inner, "fds": 1}
        if str(line.get("cmd", "")).startswith("NODE_"):
            return None
        inner = line.get("handover")
        if len(line) != 1 or not isinstance(inner, dict):
            raise self.wrong('a line in "handover"', short(line))
        return inner

    def _fds_of(self, line: Line, at: int) -> List[int]:
        count = line.get("fds", 0)
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= 64:
            raise self.wrong('"fds" from 0 to 64', short(line))
        if len(self._fds) < count:
            raise self.wrong(f"{count} fds", f"{len(self._fds)} with {short(line)}")
        if count and self.read_size == 1 and self._fds[0][0] != at:
            raise self.wrong("fds at the first byte of the line", f"them at byte {self._fds[0][0] - at} of {short(line)}")
        fds = [self._fds.popleft()[1] for _ in range(count)]
        if self._fds and not self._buffer:
            raise self.wrong("fds only where a line says so", f"{len(self._fds)} more with {short(line)}")
        return fds

    def _check(self, line: Line, raw: bytes) -> None:
        kind = line.get("type")
        if not isinstance(kind, str):
            raise self.wrong('a "type"', short(raw))
        if kind not in MEMBERS:
            raise self.wrong("a type that handover knows", short(raw))
        limit = MAX_MESSAGE if kind in ("message", "reply") else MAX_LINE
        if len(raw) + 1 > limit + (64 if self.node else 0):
            raise self.wrong(f"a {kind} of at most {limit} bytes", f"{len(raw) + 1} bytes")
        if depth(line) > 64:
            raise self.wrong("nesting of at most 64", f"{depth(line)}")
        if kind in ("message", "reply") and len(raw) > MAX_DATA and len(dump(line.get("data")).encode("utf-8", "surrogatepass")) > MAX_DATA:
            raise self.wrong(f"data of at most {MAX_DATA} bytes", f"a line of {len(raw)} bytes")
        for member, is_right in MEMBERS[kind].items():
            optional, name = member.endswith("?"), member.rstrip("?")
            if not (optional if name not in line else is_right(line[name])):
                raise self.wrong(f'a {kind} with a right "{name}"', short(raw))
        if line.get("fds") and "id" not in line:
            raise self.wrong('an "id" with "fds"', short(raw))
        self._check_ids(line)

    def _check_ids(self, line: Line) -> None:
        kind = line["type"]
        if "id" in line:
            if line["id"] in self._open:
                raise self.wrong("an id that is not in use", short(line))
            if kind in ("listen", "message"):
                self._open.add(line["id"])
        if kind == "ack":
            if line["re"] in self._unacked:
                self._unacked.remove(line["re"])
            elif not self.node:         # Node has acknowledged by itself
                raise self.wrong("one ack for each line with fds", f"one that is not due: {short(line)}")
        elif "re" in line:
            if line["re"] not in self._asked and not self.is_lenient:
                raise self.wrong("one answer for each question", f"one that is not due: {short(line)}")
            self._asked.discard(line["re"])

    def _until(self, is_done: Callable[[], bool], what: str, limit: Optional[float] = None) -> None:
        """Reads until something holds."""
        until = time.monotonic() + (limit or self.options.deadline)
        while not is_done():
            left = until - time.monotonic()
            if left <= 0:
                raise self.wrong(what, f"nothing of the kind in {limit or self.options.deadline:g} s")
            if self._eof and self.process.stdout is not None and self.process.stdout.closed and not is_done():
                raise self.wrong(what, "the end of the worker: " + self._status())
            self._read(min(left, 0.5))

    def _status(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(self.options.deadline)
        return f"exit status {self.process.returncode}"

    def next(self, what: str) -> Tuple[Line, List[int]]:
        """The next line, whatever it is; its fds are the caller's, and acknowledged."""
        self._until(lambda: bool(self._inbox) or self._eof, what)
        if not self._inbox:
            self._until(lambda: self.process.stdout is None or self.process.stdout.closed or bool(self._stdout), what)
            raise self.wrong(what, "the end of the channel")
        line, fds = self._inbox.popleft()
        for fd in fds:
            self.keep(fd)
        if fds and self.auto_ack and not self.node:
            self.write(dump({"type": "ack", "re": line["id"]}).encode() + b"\n")
        return line, fds

    def expect(self, kind: str, **members: Any) -> Line:
        """The next line must be of this type and have these members."""
        what = short({"type": kind, **members})
        line, fds = self.next(what)
        if fds and kind != "message":
            raise self.wrong(what, f"{len(fds)} fds with {short(line)}")
        if line["type"] != kind or any(name not in line or not same(line[name], value) for name, value in members.items()):
            raise self.wrong(what, short(line))
        return line

    def expect_any_order(self, *wanted: Line) -> List[Line]:
        """Lines with these members, in any order; given in the order that was asked for."""
        found: Dict[int, Line] = {}
        while len(found) < len(wanted):
            missing = [index for index in range(len(wanted)) if index not in found]
            line, _ = self.next(" and ".join(short(wanted[index]) for index in missing))
            for index in missing:
                if all(name in line and same(line[name], value) for name, value in wanted[index].items()):
                    found[index] = line
                    break
            else:
                raise self.wrong(" or ".join(short(wanted[index]) for index in missing), short(line))
        return [found[index] for index in range(len(wanted))]

    def outcome(self, tag: Any = None, like: str = "…") -> Dict[str, Any]:
        """What the worker reports of an order."""
        shape = f'{{"outcome":{like}' + ("}" if tag is None else f',"tag":{tag}}}')
        line = self.next(f'a message to "handover" with the data {shape}')[0]
        data = line.get("data")
        is_outcome = isinstance(data, dict) and isinstance(data.get("outcome"), dict) and data.get("tag") == tag
        if line["type"] != "message" or line["to"] != "handover" or not is_outcome:
            raise self.wrong(f'a message to "handover" with the data {shape}', short(line))
        outcome: Dict[str, Any] = data["outcome"]
        if "unsupported" in outcome:
            raise Skip(f"the client says: {outcome['unsupported']}")
        return outcome

    def expect_outcome(self, wanted: Dict[str, Any], tag: Any = None) -> None:
        """The report must be this."""
        came = self.outcome(tag, dump(wanted))
        if not same(came, wanted):
            raise self.wrong(f"the outcome {short(wanted)}", short(came))

    def sync(self, text: str = "are you there?") -> None:
        """Asks for an echo: it must be the next line, so nothing else came, and all before was taken."""
        id_ = self.ask({"do": "echo", "data": text})
        self.expect("reply", re=id_, data=text)

    def quiet(self, seconds: float = QUIET) -> None:
        """Nothing may come."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._inbox and not self._eof:
            self._read(until - time.monotonic())
        if self._inbox:
            raise self.wrong("nothing", short(self._inbox[0][0]))

    # Beginnings and endings.

    def begin(self) -> "Play":
        """hello and ready. Gives itself."""
        if self.node:
            self.client = self.expect("hello")
            self.write_hello()
        else:
            self.client = self.expect("hello")
        self.expect("ready")
        return self

    def need(self, capability: str) -> None:
        """The case is about this."""
        if capability not in self.client.get("capabilities", ()):
            raise Skip(f"the client has not the capability {capability}")

    def need_loop(self) -> None:
        """The case is about clients that go on while something waits."""
        self.order("about")
        about = self.outcome(like='{"about":{"loop":true or false}}').get("about")
        if not isinstance(about, dict) or not isinstance(about.get("loop"), bool):
            raise self.wrong('the outcome {"about":{"loop":true or false}}', short(about))
        if not about["loop"]:
            raise Skip("the client has no event loop")

    def need_fds(self) -> "Play":
        """The case sends fds to the client; one that does not name the capability is never sent any. Gives itself."""
        self.need("messages")
        self.need("fds")
        return self

    def drain(self) -> None:
        """The usual end of a case: nothing is left to say, and the worker exits with 0 when it is asked to."""
        if self._unacked:
            self._until(lambda: not self._unacked, f"an ack for {self._unacked}")
        if self._asked:
            self._until(lambda: not self._asked, f"an answer to {self._asked}")
        if "drain" in self.client.get("capabilities", ()):
            self.send({"type": "drain", "reason": "the case is over", "deadline_ms": 30_000})
        else:
            self.channel.shutdown(socket.SHUT_WR)
        self.expect_exit()

    def expect_exit(self) -> None:
        """The channel ends without another line, and the exit status is 0."""
        self._until(lambda: bool(self._inbox) or self._eof, "its end")
        if self._inbox:
            raise self.wrong("its end", short(self._inbox[0][0]))
        try:
            status = self.process.wait(self.options.deadline)
        except subprocess.TimeoutExpired:
            raise self.wrong("its end", "the end of the channel only") from None
        if status != 0:
            raise self.wrong("exit status 0", f"{status}")
        self.ended = True

    def expect_stdout(self, *texts: str) -> str:
        """One of these lines on standard output."""
        self._until(lambda: b"\n" in self._stdout, f"the line {' or '.join(texts)} on its standard output")
        said = bytes(self._stdout).split(b"\n", 1)[0].decode("utf-8", "replace").strip()
        if said not in texts:
            raise self.wrong(f"the line {' or '.join(texts)} on its standard output", short(said))
        return said

    def expect_plain(self, *texts: str) -> None:
        """It goes on without the channel, and ends at SIGTERM."""
        self.expect_stdout(*(texts or ("plain",)))
        until = time.monotonic() + 0.3
        while self.process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        if self.process.poll() is not None:
            raise self.wrong("that it goes on", f"exit status {self.process.returncode}")
        self.process.terminate()
        try:
            status = self.process.wait(self.options.deadline)
        except subprocess.TimeoutExpired:
            raise self.wrong("its end at SIGTERM", "nothing") from None
        if status != 0:
            raise self.wrong("exit status 0 at SIGTERM", f"{status}")
        self.ended = True

    def expect_end(self) -> None:
        """The client closes the channel (it may say why first)."""
        until = time.monotonic() + self.options.deadline
        while not self._eof:
            if time.monotonic() > until:
                raise self.wrong("that it closes the channel", "nothing")
            self._read(0.5)
        for line, _ in self._inbox:
            if line["type"] != "refused" or line.get("error") != "protocol" or "re" in line:
                raise self.wrong("refused with the error protocol, or nothing", short(line))

    def expect_closed(self, *texts: str) -> None:
        """As ``expect_end``; it tells its program, and goes on."""
        self.expect_end()
        self.expect_plain(*(texts or ("lost",)))

    def expect_closed_or_taken(self) -> str:
        """After a line that a client may be lenient about: it ends the channel, or goes on as if nothing were."""
        id_ = self.id()
        with contextlib.suppress(OSError):
            question = {"type": "message", "id": id_, "from": "handover", "data": {"do": "echo", "data": "on"}, "reply": True}
            self.channel.sendmsg([dump(question).encode() + b"\n"])
        self._asked.add(id_)
        self._until(lambda: self._eof or id_ not in self._asked, "that it closes the channel, or goes on")
        if id_ in self._asked:
            self.expect_closed()
            return "the channel's end"
        self._asked.clear()
        self._inbox.clear()
        return "it goes on"

    def notified(self) -> List[str]:
        """What it has said to NOTIFY_SOCKET until now."""
        assert self.notify_socket is not None
        self.notify_socket.setblocking(False)
        said: List[str] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                said += self.notify_socket.recv(4096).decode("utf-8", "replace").splitlines()
        return said

    # About its process.

    def open_files(self) -> Optional[int]:
        """How many fds the worker has; None where that cannot be seen."""
        with contextlib.suppress(OSError):
            return len(os.listdir(f"/proc/{self.process.pid}/fd"))
        return None

    def has_open(self, mark: str) -> Optional[bool]:
        """Whether the worker has this file open; None where that cannot be seen."""
        try:
            names = os.listdir(f"/proc/{self.process.pid}/fd")
        except OSError:
            return None
        for name in names:
            with contextlib.suppress(OSError):
                found = os.stat(f"/proc/{self.process.pid}/fd/{name}")
                if f"{found.st_dev}:{found.st_ino}" == mark:
                    return True
        return False

    def expect_not_open(self, mark: str, what: str) -> None:
        """It closes this within the deadline."""
        until = time.monotonic() + self.options.deadline
        while self.has_open(mark):
            if time.monotonic() > until:
                raise self.wrong(f"that it closes {what}", "it still open")
            time.sleep(0.01)


def same(left: Any, right: Any) -> bool:
    """Equal as JSON: 1 is 1.0 (one number type), True is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, (int, float)) and isinstance(right, (int, float)) and float in (type(left), type(right)):
        with contextlib.suppress(OverflowError):
            return float(left) == float(right)      # 1e300 may be written with all its digits
        return False
    return bool(left == right)


def is_number(value: Any) -> bool:
    """A whole number as the protocol has it."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def text_of(limit: int) -> Callable[[Any], bool]:
    """A string of at most so many bytes."""
    return lambda value: isinstance(value, str) and len(value.encode("utf-8", "surrogatepass")) <= limit


def is_receiver(value: Any) -> bool:
    """What may stand in "to"."""
    if isinstance(value, dict):
        return set(value) in ({"worker"}, {"pool"}, {"pool", "slot"})
    return value in ("handover", "all")


def are_fields(value: Any) -> bool:
    """What may stand in "fields"."""
    return isinstance(value, dict) and len(value) <= 64


def any_value(_: Any) -> bool:
    """Any JSON value."""
    return True


MEMBERS: Dict[str, Dict[str, Callable[[Any], bool]]] = {
    "hello": {"version": is_number, "client?": text_of(128),
              "capabilities": lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value)},
    "ready": {},
    "status": {"text": text_of(1024)},
    "heartbeat": {},
    "extend_timeout": {"ms": is_number},
    "stopping": {},
    "replace": {"reason?": text_of(1024)},
    "pong": {"re": is_number},
    "listen": {"id": is_number, "name?": text_of(1024), "address?": text_of(1024)},
    "message": {"to": is_receiver, "data": any_value, "id?": is_number, "reply?": lambda value: isinstance(value, bool),
                "timeout_ms?": is_number, "fds?": is_number},
    "reply": {"re": is_number, "data": any_value, "fds?": is_number, "id?": is_number},
    "log": {"level": lambda value: value in ("error", "warn", "info", "debug", "trace"), "message": text_of(MAX_LINE),
            "target?": text_of(256), "fields?": are_fields},
    "ack": {"re": is_number},
    "refused": {"re?": is_number, "error": text_of(1024), "reason?": text_of(MAX_LINE)},
}
"""What a worker may say."""


# --- Cases -------------------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """One case: ``plain_only`` ones are about bytes, which in Node's dialect belong to Node."""

    name: str
    run: Callable[[Options], Optional[str]]
    plain_only: bool


CASES: List[Case] = []


def case(plain_only: bool = False) -> Callable[[Callable[[Options], Optional[str]]], Callable[[Options], Optional[str]]]:
    """Lists a case under its function's name. What it gives is a note behind its ``ok``."""
    def listed(run: Callable[[Options], Optional[str]]) -> Callable[[Options], Optional[str]]:
        CASES.append(Case(run.__name__, run, plain_only))
        return run
    return listed


@contextlib.contextmanager
def started(options: Options, *needs: str, **how: Any) -> Iterator[Play]:
    """A worker that has said hello and ready; at the end it is asked to drain."""
    play = Play(options, **how)
    try:
        play.begin()
        for capability in needs:
            play.need(capability)
        yield play
        if not play.ended:
            play.drain()
    finally:
        play.close()


@contextlib.contextmanager
def raw(options: Options, **how: Any) -> Iterator[Play]:
    """A worker of which nothing is known yet."""
    play = Play(options, **how)
    try:
        yield play
    finally:
        play.close()


def pair(play: Play) -> Tuple[socket.socket, int]:
    """A Unix socket pair: our end, and the number of the end that is to be sent."""
    ours, theirs = socket.socketpair()
    ours.settimeout(play.options.deadline)
    return ours, theirs.detach()


def read_all(play: Play, ours: socket.socket, wanted: bytes) -> None:
    """What the worker writes into a socket, to the end: it must be this, and it must close it."""
    came = b""
    with ours:
        while True:
            try:
                some = ours.recv(4096)
            except ConnectionResetError:
                some = b""
            except socket.timeout:
                raise play.wrong(f"{short(wanted)} and the end in the fd", f"{short(came)} and no end") from None
            if not some:
                break
            came += some
    if came != wanted:
        raise play.wrong(f"{short(wanted)} in the fd", short(came))


def listening() -> socket.socket:
    """A socket to be granted."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    bound.listen(16)
    return bound


def say_hello_to(play: Play, bound: socket.socket) -> None:
    """Connects, and reads what the worker writes after ``accept``."""
    with socket.create_connection(bound.getsockname(), play.options.deadline) as connection:
        connection.settimeout(play.options.deadline)
        came = b""
        try:
            while not came.endswith(b"\n"):
                some = connection.recv(64)
                if not some:
                    break
                came += some
        except OSError as error:
            raise play.wrong("hello\\n from the socket that it accepts on", str(error)) from None
    if came != b"hello\n":
        raise play.wrong("hello\\n from the socket that it accepts on", short(came))


def grant(play: Play, bound: Sequence[socket.socket], member: str, wanted: str) -> None:
    """Orders a ``listen`` and grants it."""
    play.need("fds")
    play.order("listen", **{member: wanted})
    asked = play.expect("listen", **{member: wanted})
    if ("name" in asked) == ("address" in asked):
        raise play.wrong("one of name and address", short(asked))
    address = "tcp://%s:%d" % bound[0].getsockname()[:2]
    play.send({"type": "grant", "re": asked["id"], "name": wanted, "address": address}, [one.fileno() for one in bound])
    outcome = {"outcome": {"granted": {"name": wanted, "address": address, "fds": len(bound)}}}
    if play.node:
        play.expect_any_order({"type": "message", "to": "handover", "data": outcome})
    else:
        play.expect("ack")
        play.expect("message", to="handover", data=outcome)


@case()
def hello(options: Options) -> Optional[str]:
    """The first line."""
    with started(options) as play:
        if play.client["version"] != 1:
            raise play.wrong("version 1", short(play.client))
        if not play.client.get("client"):
            raise play.wrong('a "client" for people', short(play.client))
        return f"{play.client['client']}: {' '.join(play.client['capabilities'])}"


@case(plain_only=True)
def hello_in_pieces(options: Options) -> None:
    """handover's first line comes late and byte by byte."""
    with raw(options, say_hello=False) as play:
        play.write(dump({"type": "hello", "version": 1, "versions": [1, 1], "capabilities": CAPABILITIES, "name": "n", "pool": "web",
                         "slot": 0, "generation": 1, "worker": 1}).encode() + b"\n", piece=1)
        play.begin()
        play.drain()


@case()
def base_lines(options: Options) -> None:
    """Each line of the base, and their order."""
    with started(options, "messages") as play:
        for text in ("42 clients", "grün, 緑, 🟢 and \"quoted\" \\ \n over two lines"):
            play.order("status", text=text)
            play.expect("status", text=text)
        play.order("heartbeat")
        play.order("extend_timeout", ms=20_000)
        play.order("replace", reason="cache is fragmented")
        play.order("replace")
        play.order("stopping")
        play.expect("heartbeat")
        play.expect("extend_timeout", ms=20_000)
        play.expect("replace", reason="cache is fragmented")
        play.expect("replace")
        play.expect("stopping")


@case()
def long_texts_are_cut(options: Options) -> None:
    """A status and a reason longer than 1,024 bytes cost nobody the channel."""
    with started(options, "messages") as play:
        play.order("status", text="ü" * 3000)
        play.order("replace", reason="ü" * 3000)
        play.expect("status")
        play.expect("replace")


@case()
def logs(options: Options) -> None:
    """Records keep level, target and fields."""
    with started(options, "messages") as play:
        fields = {"ms": 1200, "table": "users", "ratio": 0.5, "cached": False, "plan": None, "text": "a\nb \"c\" ü"}
        for level in ("error", "warn", "info", "debug", "trace"):
            play.order("log", level=level, message=f"slow {level}", target="app::db", fields=fields)
            play.expect("log", level=level, message=f"slow {level}", target="app::db", fields=fields)
        play.order("log", level="info", message="alone")
        play.expect("log", level="info", message="alone")


@case()
def a_long_log_is_cut(options: Options) -> None:
    """A record longer than a line may be arrives shortened, and the channel lives."""
    with started(options, "messages") as play:
        play.order("log", level="warn", message="ü" * 200_000, target="t" * 1000, fields={f"field{n}": "x" * 5000 for n in range(100)})
        play.expect("log", level="warn")


@case()
def echoes(options: Options) -> None:
    """Questions are answered with what they were asked with."""
    with started(options, "messages") as play:
        values: List[Any] = [None, True, False, 0, -1, 1.5, -2.5e-7, "", "text", [], {}, [[]], {"": {"": []}}, "\u0000\u001f\u007f\u2028\ufeff\U0001f600",
                      {"nested": [1, [2, [3, {"four": [None, "5"]}]]], "b": {"c": {"d": {}}}}, 2**53 - 1, -(2**53 - 1), 0.1, 1e300, 5e-324]
        for value in values:
            id_ = play.ask({"do": "echo", "data": value})
            play.expect("reply", re=id_, data=value)


@case()
def big_integers(options: Options) -> Optional[str]:
    """Data is any JSON: integers beyond 2^53, as far as the language can."""
    with started(options, "messages") as play:
        kept = True
        for value in (2**53 + 1, 2**64 - 1, 2**200 + 1):
            id_ = play.ask({"do": "echo", "data": value})
            kept = play.expect("reply", re=id_)["data"] == value and kept
        return "integers beyond 2^53 are kept exactly" if kept else "note: integers beyond 2^53 are rounded, as the language does"


@case(plain_only=True)
def a_number_of_many_digits(options: Options) -> None:
    """A number that no machine has is no reason to end the channel."""
    with started(options, "messages") as play:
        id_ = play.id()
        play._asked.add(id_)
        play.write(b'{"type":"message","id":%d,"from":"handover","reply":true,"data":{"do":"echo","data":"it lives","n":%s}}\n' % (id_, b"7" * 6000))
        play.expect("reply", re=id_, data="it lives")


@case()
def large_line(options: Options) -> None:
    """Data of exactly 1,000,000 bytes with text of several bytes and escapes, both ways."""
    with started(options, "messages") as play:
        room = MAX_DATA - len(dump({"do": "echo", "data": ""}))
        unit = "ü緑🟢\"\\\n"
        count = room // len(dump(unit)[1:-1].encode())
        text = unit * count
        text += "x" * (room - len(dump(text).encode()) + 2)
        id_ = play.ask({"do": "echo", "data": text})
        reply = play.expect("reply", re=id_)
        if reply["data"] != text:
            raise play.wrong("the same data", short(reply))
        play.sync()


@case()
def deep_data(options: Options) -> None:
    """Data that nests 60 deep passes."""
    with started(options, "messages") as play:
        value: Any = "x"
        for level in range(60):
            value = [value] if level % 2 else {"a": value}
        id_ = play.ask({"do": "echo", "data": value})
        play.expect("reply", re=id_, data=value)


@case()
def many_lines_in_one_write(options: Options) -> None:
    """500 questions in one write are answered, each once."""
    with started(options, "messages") as play:
        ids, text = [], b""
        for number in range(500):
            ids.append(play.id())
            line = {"type": "message", "id": ids[-1], "from": "handover", "data": {"do": "echo", "data": number}, "reply": True}
            text += dump({"handover": line} if play.node else line).encode() + b"\n"
        play._asked.update(ids)
        play.write(text)
        for number, id_ in enumerate(ids):
            play.expect("reply", re=id_, data=number)


@case(plain_only=True)
def one_line_in_pieces_of_one_byte(options: Options) -> None:
    """A line comes in pieces, cut within a character of several bytes, too."""
    with started(options, "messages") as play:
        id_ = play.id()
        play._asked.add(id_)
        play.write(dump({"type": "message", "id": id_, "from": "handover", "data": {"do": "echo", "data": "ü🟢"}, "reply": True}).encode() + b"\n", piece=1)
        play.expect("reply", re=id_, data="ü🟢")


@case(plain_only=True)
def a_line_with_fds_in_pieces_of_one_byte(options: Options) -> None:
    """The same with an fd, which comes with the first byte."""
    with started(options, "messages") as play:
        play.need_fds()
        ours, theirs = pair(play)
        id_ = play.id()
        play._asked.add(id_)
        play._unacked.append(id_)
        line = {"type": "message", "id": id_, "from": "handover", "data": "pieces", "reply": True, "fds": 1}
        play.write(dump(line).encode() + b"\n", [theirs], piece=1)
        os.close(theirs)
        play.expect("ack", re=id_)
        play.expect("reply", re=id_, data={"fds": 1})
        read_all(play, ours, b"taken\n")


@case(plain_only=True)
def white_space_and_escapes(options: Options) -> None:
    """JSON may be written in other ways than handover's: spaces, escapes, members twice, any order."""
    with started(options, "messages") as play:
        id_ = play.id()
        play._asked.add(id_)
        play.write(b' {\t"data" : { "\\u0064o" : "echo", "data": "\\ud83d\\ude00\\u00fc" } , "reply":false, "from":"handover", "id":%d, "type":"ping",'
                   b' "type" : "m\\u0065ssage", "reply" : true }\r\n' % id_)
        play.expect("reply", re=id_, data="\U0001f600ü")


@case()
def unknown_lines_and_members(options: Options) -> None:
    """What the client does not know is ignored; a line with an id is refused, because somebody waits."""
    with started(options, "messages", hello={"capabilities": [*CAPABILITIES, "teleport"], "surprise": {"a": [1]}}) as play:
        play.send({"type": "teleport", "where": {"to": "moon"}})
        play.send({"type": "credit", "n": -1.5, "re": 77})
        play.send({"type": "message", "from": ME, "data": {"nothing": "to do"}, "priority": 7, "via": None})
        asked = play.id()
        play._asked.add(asked)
        play.send({"type": "teleport", "id": asked, "data": None})
        play.expect("refused", re=asked, error="unsupported")
        for id_ in ("seven", None, -1, [1]):                    # no ids
            play.send({"type": "teleport", "id": id_, "fds": 0})
        play.send({"type": "ready"})                            # of the other direction only
        asked = play.id()
        play._asked.add(asked)
        play.send({"type": "status", "id": asked, "text": 7})
        play.expect("refused", re=asked, error="unsupported")
        if "ping" in play.client["capabilities"]:
            play.send({"type": "ping", "id": play.id(), "fds": 0})
            play.expect("pong", re=play._next_id)
        id_ = play.id()
        play.send({"type": "message", "id": id_, "from": "handover", "data": {"do": "echo", "data": 1, "more": 2}, "reply": True, "hops": [3]})
        play.expect("reply", re=id_, data=1)


@case()
def senders_are_told(options: Options) -> None:
    """The program hears who sent a message; members that are not known are ignored in "from", too."""
    with started(options, "messages") as play:
        for sender in ("handover", ME, {"pool": "grün", "slot": 0, "worker": 2**53 - 1}):
            id_ = play.ask({"do": "from"}, sender=sender)
            play.expect("reply", re=id_, data=sender)
        id_ = play.ask({"do": "from"}, sender={**ME, "host": {"name": "b"}})
        line = play.expect("reply", re=id_)
        if not isinstance(line["data"], dict) or {name: line["data"].get(name) for name in ME} != ME:
            raise play.wrong(f"the sender {short(ME)}", short(line["data"]))


@case()
def an_id_alone_wants_nothing(options: Options) -> None:
    """A message with an id, without reply and fds: it is taken, and nothing is owed."""
    with started(options, "messages") as play:
        play.send({"type": "message", "id": play.id(), "from": "handover", "data": {"do": "status", "text": "taken"}})
        play.expect("status", text="taken")
        play.sync()


@case()
def senders(options: Options) -> None:
    """A message from a worker is a message, and no order."""
    with started(options, "messages") as play:
        play.send({"type": "message", "from": ME, "data": "just a text"})
        play.send({"type": "message", "from": ME, "data": [1, 2, 3]})
        play.send({"type": "message", "from": "handover", "data": None})
        play.sync()


@case()
def data_as_it_is_sent(options: Options) -> None:
    """Every receiver, and data as it was given."""
    with started(options, "messages") as play:
        for to in ("handover", "all", {"worker": 17}, {"pool": "web"}, {"pool": "web", "slot": 2}):
            for data in ({"room": "lobby", "text": "hello ü"}, "are you well?", 7, None, [1.5, []]):
                play.order("send", to=to, data=data)
                line = play.expect("message", to=to, data=data)
                if "id" in line or line.get("reply"):
                    raise play.wrong("no id and no reply", short(line))


@case()
def outcomes(options: Options) -> None:
    """sent and refused, for a message with an id."""
    with started(options, "messages") as play:
        play.order("send", to={"pool": "web"}, data=1, id=True)
        asked = play.expect("message", to={"pool": "web"}, data=1)
        refused = [{"worker": 19, "error": "queue_full"}]
        play.answer(asked["id"], "sent", receivers=2, refused=refused)
        play.expect_outcome({"sent": {"receivers": 2, "refused": refused}})
        for error in ("gone", "queue_full", "unsupported", "bad_request", "not_allowed", "failed", "timeout", "a word of its own"):
            play.order("send", to={"worker": 9}, data=1, id=True)
            asked = play.expect("message", to={"worker": 9})
            play.answer(asked["id"], "refused", error=error, reason="for people")
            play.expect_outcome({"refused": {"error": error}})


@case()
def refused_without_a_reason(options: Options) -> None:
    """The reason is for people; a client does without."""
    with started(options, "messages") as play:
        play.order("send", to={"worker": 9}, data=1, id=True)
        asked = play.expect("message", to={"worker": 9})
        play.answer(asked["id"], "refused", error="gone")
        play.expect_outcome({"refused": {"error": "gone"}})


@case()
def questions(options: Options) -> None:
    """A reply, and every way in which there is none."""
    with started(options, "messages") as play:
        play.order("send", to={"worker": 18}, data="are you well?", reply=True, timeout_ms=2000)
        asked = play.expect("message", to={"worker": 18}, data="are you well?", reply=True, timeout_ms=2000)
        other = {"pool": "web", "slot": 1, "worker": 18}
        play.answer(asked["id"], "reply", **{"from": other}, data={"very": ["well", None]})
        play.expect_outcome({"reply": {"very": ["well", None]}, "from": other})
        play.order("send", to={"worker": 18}, data=None, reply=True)
        asked = play.expect("message", to={"worker": 18}, data=None, reply=True)
        play.answer(asked["id"], "reply", **{"from": ME}, data=None)
        play.expect_outcome({"reply": None, "from": ME})
        # What ends a channel without "re" is an answer like any other with it.
        for error in ("timeout", "gone", "no such room", "protocol", "version"):
            play.order("send", to={"pool": "web", "slot": 2}, data=1, reply=True)
            asked = play.expect("message", reply=True)
            play.answer(asked["id"], "refused", error=error, reason="so it is")
            play.expect_outcome({"refused": {"error": error}})


@case()
def ids_differ(options: Options) -> None:
    """Questions that are open at once have ids of their own, and their answers find them in any order."""
    with started(options, "messages") as play:
        play.need_loop()
        for tag in range(20):
            play.order("send", to={"worker": 18}, data=tag, reply=True, tag=tag)
        asked = {play_line["data"]: play_line["id"] for play_line in (play.expect("message", to={"worker": 18}) for _ in range(20))}
        if len(set(asked.values())) != 20:
            raise play.wrong("20 different ids", short(sorted(asked.values())))
        for tag in reversed(range(20)):
            play.answer(asked[tag], "reply", **{"from": ME}, data=-tag)
            play.expect_outcome({"reply": -tag, "from": ME}, tag)


@case()
def answers_to_nothing(options: Options) -> None:
    """Answers that nobody waits for, or that come twice, are ignored."""
    with started(options, "messages") as play:
        play.answer(9000, "sent", receivers=1, refused=[])
        play.answer(9001, "reply", **{"from": ME}, data=1)
        play.answer(9002, "refused", error="gone")
        play.answer(9003, "ack")
        play.order("send", to={"worker": 18}, data=1, reply=True)
        asked = play.expect("message", reply=True)
        play.answer(asked["id"], "reply", **{"from": ME}, data="first")
        play.answer(asked["id"], "reply", **{"from": ME}, data="second")
        play.answer(asked["id"], "refused", error="gone")
        play.expect_outcome({"reply": "first", "from": ME})
        play.order("send", to={"worker": 18}, data=2, reply=True)
        asked = play.expect("message", reply=True, data=2)
        play.answer(asked["id"], "reply", **{"from": ME}, data="third")
        play.expect_outcome({"reply": "third", "from": ME})


@case()
def answers_of_the_wrong_kind(options: Options) -> None:
    """sent to a question, a reply to a message, either to a listen: as refused, with the error failed."""
    with started(options, "messages") as play:
        failed = {"refused": {"error": "failed"}}
        play.order("send", to={"worker": 18}, data=1, reply=True)
        play.answer(play.expect("message", reply=True)["id"], "sent", receivers=1, refused=[])
        play.expect_outcome(failed)
        play.order("send", to={"worker": 18}, data=2, id=True)
        play.answer(play.expect("message", data=2)["id"], "reply", **{"from": ME}, data="no")
        play.expect_outcome(failed)
        if {"listen", "fds"} <= set(play.client["capabilities"]):
            play.order("listen", name="admin")
            play.answer(play.expect("listen")["id"], "sent", receivers=1, refused=[])
            play.expect_outcome(failed)
        play.sync()


@case(plain_only=True)
def fds_of_answers_of_the_wrong_kind(options: Options) -> None:
    """Sockets that answer a message, or fds in a reply to a listen: acknowledged, closed, and the error failed."""
    with started(options, "messages", "listen") as play:
        play.need_fds()
        for order, kind, more in (("send", "grant", {"name": "x", "address": "tcp://127.0.0.1:1"}), ("listen", "reply", {"from": ME, "data": 1})):
            play.order(order, **({"name": "x"} if order == "listen" else {"to": {"worker": 18}, "data": 1, "id": True}))
            asked = play.expect("message" if order == "send" else "listen")
            ours, theirs = pair(play)
            play.send({"type": kind, "re": asked["id"], **more}, [theirs])
            os.close(theirs)
            play.expect("ack")
            play.expect_outcome({"refused": {"error": "failed"}})
            read_all(play, ours, b"")


@case()
def an_ack_is_no_answer(options: Options) -> None:
    """ack and then sent, with the same re; and refused after the ack, when the fds are the program's as before."""
    with started(options, "messages") as play:
        play.auto_ack = False
        sent: Line = {"receivers": 1, "refused": []}
        answers: List[Tuple[str, Line, Line]] = [("sent", sent, {"sent": sent}),
                                                 ("refused", {"error": "gone"}, {"refused": {"error": "gone"}, "kept": True})]
        for kind, more, wanted in answers:
            play.order("send_fd", to={"worker": 18})
            asked = expect_fd(play)[0]
            play.answer(asked["id"], "ack")
            play.answer(asked["id"], kind, **more)
            play.expect_outcome(wanted)


@case()
def refused_fds_are_the_programs(options: Options) -> None:
    """refused without an ack before it: the program has its fds as before."""
    with started(options, "messages") as play:
        play.auto_ack = False
        for error in ("unsupported", "a word of its own"):
            play.order("send_fd", to={"worker": 18})
            asked, fd = expect_fd(play)
            mark = fingerprint(fd)
            play.answer(asked["id"], "refused", error=error)
            play.expect_outcome({"refused": {"error": error}, "kept": True})
            read_all(play, socket_of(play, fd), b"fd\n")
            play.expect_not_open(mark, "its copy after refused")


def expect_fd(play: Play) -> Tuple[Line, int]:
    """The message of ``send_fd``."""
    line, fds = play.next('a message with the data "fd" and one fd')
    data = line.get("data")
    if isinstance(data, dict) and "unsupported" in data.get("outcome", {}):
        raise Skip(f"the client says: {data['outcome']['unsupported']}")
    if line["type"] != "message" or len(fds) != 1 or data != "fd":
        raise play.wrong('a message with the data "fd" and one fd', f"{short(line)} with {len(fds)} fds")
    return line, fds[0]


def reply_fd(play: Play, asked: int) -> Tuple[Line, List[int]]:
    """The reply of ``reply_fd``."""
    line, fds = play.next(f'a reply to {asked} with the data "fd" and one fd')
    data = line.get("data")
    if isinstance(data, dict) and "unsupported" in data.get("outcome", {}):
        raise Skip(f"the client says: {data['outcome']['unsupported']}")
    if line["type"] != "reply" or line["re"] != asked or data != "fd" or len(fds) != 1:
        raise play.wrong(f'a reply to {asked} with the data "fd" and one fd', f"{short(line)} with {len(fds)} fds")
    return line, fds


@case()
def replies_with_fds(options: Options) -> None:
    """A reply to the worker's question brings fds: acknowledged, given to the program, closed by it."""
    with started(options, "messages") as play:
        play.need_fds()
        for count in (1,) if play.node else (1, 3):
            play.order("send", to={"worker": 18}, data="lend me some", reply=True)
            asked = play.expect("message", reply=True)
            pairs = [pair(play) for _ in range(count)]
            play.send({"type": "reply", "re": asked["id"], "from": ME, "data": "here"}, [theirs for _, theirs in pairs])
            close_all([theirs for _, theirs in pairs])
            if not play.node:
                play.expect("ack")
            play.expect_outcome({"reply": "here", "from": ME, "fds": count})
            for ours, _ in pairs:
                read_all(play, ours, b"taken\n")
            play.sync()


@case()
def replying_with_fds(options: Options) -> None:
    """The worker's reply has fds: with its first byte, open until the ack (refused counts as one), closed after it."""
    with started(options, "messages") as play:
        play.need_fds()
        play.auto_ack = False
        play.read_size = 65_536 if play.node else 1
        for answer in ("ack", "refused", "ack"):
            asked = play.ask({"do": "reply_fd"})
            line, fds = reply_fd(play, asked)
            mark = fingerprint(fds[0])
            if not play.node:
                play.sync()
                time.sleep(0.1)         # for one that closes it a moment later
                if play.has_open(mark) is False:
                    raise play.wrong("that it keeps its copy until the ack", "it closed")
                play.answer(line["id"], answer, **({"error": "unsupported"} if answer == "refused" else {}))
            read_all(play, socket_of(play, fds[0]), b"fd\n")
            play.expect_not_open(mark, f"its copy after {answer}")
            play.sync()


@case()
def refusing(options: Options) -> None:
    """A question may be refused, with an error of the worker's own."""
    with started(options, "messages") as play:
        id_ = play.ask({"do": "refuse", "error": "no such room"}, sender="handover")
        play.expect("refused", re=id_, error="no such room")


@case()
def fds_are_taken(options: Options) -> None:
    """1, 2 and 64 fds: acknowledged at once and exactly once, given to the program, closed by it."""
    with started(options, "messages") as play:
        play.need_fds()
        for count in (1,) if play.node else (1, 2, 64):
            pairs = [pair(play) for _ in range(count)]
            id_ = play.ask({"these": count}, [theirs for _, theirs in pairs])
            close_all([theirs for _, theirs in pairs])
            if not play.node:
                play.expect("ack", re=id_)
            play.expect("reply", re=id_, data={"fds": count})
            for ours, _ in pairs:
                read_all(play, ours, b"taken\n")
            play.sync()


@case()
def fds_without_a_question(options: Options) -> None:
    """A message with fds that wants no reply: ack, and nothing else."""
    with started(options, "messages") as play:
        play.need_fds()
        ours, theirs = pair(play)
        play.send({"type": "message", "from": ME, "data": {"client": "198.51.100.7"}}, [theirs])
        os.close(theirs)
        if not play.node:
            play.expect("ack")
        read_all(play, ours, b"taken\n")
        play.sync()


@case(plain_only=True)
def fds_back_to_back(options: Options) -> None:
    """Lines with different numbers of fds, and lines without between them, all there before the client reads."""
    with started(options, "messages") as play:
        play.need_fds()
        pairs: List[List[Tuple[socket.socket, int]]] = []
        wanted: List[Line] = []
        play.process.send_signal(signal.SIGSTOP)
        for count in (1, 3, 0, 2, 1, 0, 5):
            pairs.append([pair(play) for _ in range(count)])
            data: Any = {"n": count} if count else {"do": "echo", "data": "between"}
            id_ = play.ask(data, [theirs for _, theirs in pairs[-1]])
            close_all([theirs for _, theirs in pairs[-1]])
            if count:
                wanted.append({"type": "ack", "re": id_})
            wanted.append({"type": "reply", "re": id_, "data": {"fds": count} if count else "between"})
        play.process.send_signal(signal.SIGCONT)
        play.expect_any_order(*wanted)
        for ours, _ in (one for group in pairs for one in group):
            read_all(play, ours, b"taken\n")


@case(plain_only=True)
def fds_come_before_their_line_is_whole(options: Options) -> None:
    """The fds are there with the first byte; the line ends later, behind the first bytes of nothing else."""
    with started(options, "messages") as play:
        play.need_fds()
        first, second = play.id(), play.id()
        ours, theirs = pair(play)
        plain = dump({"type": "message", "id": first, "from": "handover", "data": {"do": "echo", "data": "whole"}, "reply": True}).encode() + b"\n"
        line = dump({"type": "message", "id": second, "from": ME, "data": "late", "reply": True, "fds": 1}).encode() + b"\n"
        play._asked.update((first, second))
        play._unacked.append(second)
        play.write(plain[:20])
        play.write(plain[20:])
        play.write(line[:10], [theirs])
        os.close(theirs)
        play.expect("reply", re=first, data="whole")
        play.write(line[10:])
        play.expect("ack", re=second)
        play.expect("reply", re=second, data={"fds": 1})
        read_all(play, ours, b"taken\n")


@case(plain_only=True)
def fds_of_unknown_lines_are_closed(options: Options) -> None:
    """Fds of a line that the client does not know (with an id: refused; without: ignored), and of an answer that nobody waits for (acknowledged)."""
    with started(options, "messages") as play:
        play.need_fds()
        lines: List[Line] = [{"type": "teleport", "id": play.id()}, {"type": "reply", "re": 9999, "from": ME, "data": 1, "id": play.id()},
                             {"type": "grant", "re": 9998, "name": "x", "address": "tcp://127.0.0.1:1", "id": play.id()}]
        for line in lines:
            ours, theirs = pair(play)
            play.write(dump({**line, "fds": 1}).encode() + b"\n", [theirs])
            os.close(theirs)
            if line["type"] == "teleport":
                play._asked.add(line["id"])
                play.expect("refused", re=line["id"], error="unsupported")
            else:
                play._unacked.append(line["id"])
                play.expect("ack", re=line["id"])
            play.sync()
            read_all(play, ours, b"")
        ours, theirs = pair(play)
        play.write(b'{"type":"teleport","fds":1}\n', [theirs])
        os.close(theirs)
        play.sync()
        read_all(play, ours, b"")


@case()
def fds_do_not_pile_up(options: Options) -> None:
    """After 100 messages with fds the worker has as many open files as before."""
    with started(options, "messages") as play:
        play.need_fds()
        def rounds(count: int) -> None:
            for _ in range(count):
                ours, theirs = pair(play)
                id_ = play.ask("x", [theirs])
                os.close(theirs)
                if not play.node:
                    play.expect("ack", re=id_)
                play.expect("reply", re=id_, data={"fds": 1})
                read_all(play, ours, b"taken\n")

        rounds(3)
        play.sync()
        before = play.open_files()
        if before is None:
            raise Skip("open files of another process cannot be seen here")
        rounds(100)
        until = time.monotonic() + options.deadline
        while (play.open_files() or 0) > before + 3:
            if time.monotonic() > until:
                raise play.wrong(f"{before} open files", f"{play.open_files()}")
            time.sleep(0.05)


@case()
def children_get_no_channel(options: Options) -> None:
    """The channel is not open in a program that the worker starts, nor is the variable set."""
    with started(options, "messages") as play:
        play.order("run", command=[sys.executable, "-S", "-E", "-c", CHILD])
        output = str(play.outcome().get("output")).split()
        if play.known & set(output):
            raise play.wrong("a child without the channel", "it open there: no close-on-exec")
        if "True" in output or "False" not in output:
            raise play.wrong("a child without HANDOVER_CHANNEL in its environment", short(" ".join(output)))


@case(plain_only=True)
def a_forked_child_is_silent(options: Options) -> None:
    """The channel is its parent's: a child neither writes nor reads it."""
    with started(options, "messages") as play:
        play.order("fork")
        play.expect_outcome({"forked": True})
        play.sync()


@case()
def too_much_data_is_not_sent(options: Options) -> None:
    """Data of more than 1,000,000 bytes costs nobody the channel: the client does not send it."""
    with started(options, "messages") as play:
        play.order("flood", count=1, size=MAX_DATA)
        play.sync()


@case()
def children_get_no_fds_that_came(options: Options) -> None:
    """What came over the channel is not open in a program that the worker starts."""
    with started(options, "messages") as play:
        play.need_fds()
        ours, theirs = pair(play)
        mark = fingerprint(theirs)
        play.send({"type": "message", "from": "handover", "data": {"do": "hold"}}, [theirs])
        os.close(theirs)
        if not play.node:
            play.expect("ack")
        play.order("run", command=[sys.executable, "-S", "-E", "-c", CHILD])
        if mark in str(play.outcome().get("output")).split():
            raise play.wrong("a child without the fd that came", "it open there: no close-on-exec")
        play.order("release")
        read_all(play, ours, b"taken\n")


@case()
def sending_fds(options: Options) -> None:
    """An fd is attached to the first byte, held until the ack, and closed by the client after it."""
    with started(options, "messages") as play:
        play.auto_ack = False
        play.read_size = 65_536 if play.node else 1
        for _ in range(3):
            play.order("send_fd", to={"pool": "web", "slot": 2})
            asked, fd = expect_fd(play)
            mark = fingerprint(fd)
            if play.has_open(mark) is False and not play.node:
                raise play.wrong("that it keeps its copy until the ack", "it closed")
            play.answer(asked["id"], "ack")
            play.answer(asked["id"], "sent", receivers=1, refused=[])
            play.expect_outcome({"sent": {"receivers": 1, "refused": []}})
            read_all(play, socket_of(play, fd), b"fd\n")
            play.expect_not_open(mark, "its copy after the ack")


def socket_of(play: Play, fd: int) -> socket.socket:
    """An fd that came, as a socket with a deadline."""
    one = socket.socket(fileno=os.dup(fd))
    os.close(fd)
    play._to_close.remove(fd)
    one.settimeout(play.options.deadline)
    return one


@case()
def listen_by_name(options: Options) -> None:
    """A socket by name: asked for, acknowledged, accepted on."""
    with started(options, "listen", "messages") as play, listening() as bound:
        grant(play, [bound], "name", "admin")
        play.order("accept")
        say_hello_to(play, bound)


@case()
def listen_by_address(options: Options) -> None:
    """A socket by address; several sockets in one grant."""
    with started(options, "listen", "messages") as play, listening() as bound, listening() as second:
        grant(play, [bound], "address", "tcp://127.0.0.1:0")
        play.order("accept")
        say_hello_to(play, bound)
        grant(play, [second, bound], "name", "both")


@case()
def listen_refused(options: Options) -> None:
    """No such socket."""
    with started(options, "listen", "messages") as play:
        for error in ("not_allowed", "failed", "a word of its own"):
            play.order("listen", address="tcp://0.0.0.0:22")
            asked = play.expect("listen", address="tcp://0.0.0.0:22")
            play.answer(asked["id"], "refused", error=error, reason="tcp://0.0.0.0:22 is not in allow_listen of pool web")
            play.expect_outcome({"refused": {"error": error}})


@case()
def listener_removed(options: Options) -> None:
    """The program hears that a listener is gone."""
    with started(options, "listen", "messages") as play:
        play.send({"type": "listener_removed", "name": "admin"})
        play.expect("message", to="handover", data={"removed": "admin"})


@case()
def inherited_listener(options: Options) -> None:
    """A listener from LISTEN_FDS, by its name."""
    with listening() as bound, listening() as other, started(options, "messages", listeners=[("http", other), ("admin", bound)]) as play:
        play.order("inherited", name="admin")
        play.expect_outcome({"granted": {"name": "admin", "fds": 1}})
        play.order("accept")
        say_hello_to(play, bound)
        play.order("inherited", name="none of this name")
        play.expect_outcome({"refused": {"error": "missing"}})


@case()
def listeners_of_somebody_else(options: Options) -> None:
    """LISTEN_FDS with another process's LISTEN_PID is not for this one."""
    with listening() as bound, started(options, "messages", listeners=[("http", bound)], own_pid=False) as play:
        play.order("inherited", name="http")
        play.expect_outcome({"refused": {"error": "missing"}})


@case()
def ping(options: Options) -> None:
    """A ping is answered: when idle, again, several at once, and while a question is open."""
    with started(options, "ping") as play:
        for _ in range(3):
            play.send({"type": "ping", "id": play.id()})
            play.expect("pong", re=play._next_id)
        ids = [play.id() for _ in range(10)]
        for id_ in ids:
            play.send({"type": "ping", "id": id_})
        for id_ in ids:
            play.expect("pong", re=id_)
        play.need("messages")
        play.order("send", to={"worker": 18}, data=1, reply=True)
        asked = play.expect("message", reply=True)
        play.send({"type": "ping", "id": play.id()})
        play.expect("pong", re=play._next_id)
        play.answer(asked["id"], "reply", **{"from": ME}, data=1)
        play.expect_outcome({"reply": 1, "from": ME})


@case()
def a_hanging_program_is_found_out(options: Options) -> None:
    """Pings are answered from where the program works: one that hangs does not answer."""
    with started(options, "ping", "messages") as play:
        play.order("hang")
        for is_first in (True, False):
            play.send({"type": "ping", "id": play.id()})
            try:
                play.quiet()
            except Wrong:
                if not is_first:        # the first may have been read together with the order
                    raise
                play.expect("pong")
        if play._eof:
            raise play.wrong("a worker that hangs", "its end")
        play.ended = True


@case()
def drain(options: Options) -> None:
    """Asked to finish with nothing open, it exits with 0."""
    with started(options, "drain") as play:
        play.send({"type": "drain", "reason": "its successor took over", "deadline_ms": 30_000})
        play.expect_exit()


@case()
def drain_without_a_deadline(options: Options) -> None:
    """deadline_ms may be missing."""
    with started(options, "drain") as play:
        play.send({"type": "drain", "reason": "its successor took over"})
        play.expect_exit()


@case()
def drain_finishes_what_is_open(options: Options) -> None:
    """With a question open it stays, takes messages and answers pings; then it exits with 0."""
    with started(options, "drain", "messages") as play:
        play.order("send", to={"worker": 18}, data=1, reply=True)
        asked = play.expect("message", reply=True)
        play.send({"type": "drain", "reason": "its successor took over", "deadline_ms": 30_000})
        if "ping" in play.client["capabilities"]:
            play.send({"type": "ping", "id": play.id()})
            play.expect("pong", re=play._next_id)
        play.answer(asked["id"], "reply", **{"from": ME}, data="late")
        play.expect_outcome({"reply": "late", "from": ME})
        play.expect_exit()


@case()
def drain_twice(options: Options) -> None:
    """A second drain is ignored."""
    with started(options, "drain", "messages") as play:
        play.order("send", to={"worker": 18}, data=1, reply=True)
        asked = play.expect("message", reply=True)
        play.send({"type": "drain", "reason": "its successor took over", "deadline_ms": 30_000})
        play.send({"type": "drain", "reason": "once more"})
        play.answer(asked["id"], "reply", **{"from": ME}, data="late")
        play.expect_outcome({"reply": "late", "from": ME})
        play.expect_exit()


@case()
def drain_with_messages(options: Options) -> None:
    """A worker that drains takes no new clients; messages still come, and are answered."""
    with started(options, "drain", "messages") as play:
        play.order("send", to={"worker": 18}, data=1, id=True)
        asked = play.expect("message", to={"worker": 18})
        play.send({"type": "drain", "reason": "its successor took over", "deadline_ms": 30_000})
        late = play.ask({"do": "echo", "data": "while it drains"})
        play.answer(asked["id"], "sent", receivers=1, refused=[])
        play.expect_any_order({"type": "reply", "re": late, "data": "while it drains"},
                              {"type": "message", "to": "handover", "data": {"outcome": {"sent": {"receivers": 1, "refused": []}}}})
        play.expect_exit()


@case(plain_only=True)
def drain_waits_for_acks(options: Options) -> None:
    """Before it exits, a worker waits until the fds that it sent are acknowledged (for a moment, so only that is looked at)."""
    with started(options, "drain", "messages") as play:
        play.need_fds()
        play.auto_ack = False
        asked = play.ask({"do": "reply_fd"})
        reply, fds = reply_fd(play, asked)
        play.send({"type": "drain", "reason": "its successor took over", "deadline_ms": 30_000})
        time.sleep(0.3)
        if play.process.poll() is not None:
            raise play.wrong("that it waits for the ack of its fds", "its end")
        play.answer(reply["id"], "ack")
        read_all(play, socket_of(play, fds[0]), b"fd\n")
        play.expect_exit()


@case()
def drain_behind_orders(options: Options) -> None:
    """What came before the drain is done before the end."""
    with started(options, "drain", "messages") as play:
        ids = [play.ask({"do": "echo", "data": number}) for number in range(50)]
        play.send({"type": "drain", "reason": "its successor took over", "deadline_ms": 30_000})
        for number, id_ in enumerate(ids):
            play.expect("reply", re=id_, data=number)
        play.expect_exit()


@case()
def handover_is_gone(options: Options) -> None:
    """The end of the channel: the worker finishes as with drain."""
    with started(options) as play:
        play.channel.close()
        play.last = "the end of the channel"
        play._eof = True
        play.expect_exit()


@case(plain_only=True)
def handover_is_gone_in_a_line(options: Options) -> None:
    """The end of the channel in the middle of a line is the same."""
    with started(options) as play:
        play.write(b'{"type":"dra')
        play.channel.close()
        play.last = "half a line and the end of the channel"
        play._eof = True
        play.expect_exit()


@case(plain_only=True)
def handover_is_gone_with_unread_lines(options: Options) -> None:
    """handover ends without having read all: the kernel says ECONNRESET, which is its end all the same."""
    with started(options, "messages") as play:
        play.order("status", text="nobody reads this")
        if not select.select([play.channel], [], [], options.deadline)[0]:
            raise play.wrong("a status", "nothing")
        play.channel.close()
        play.last = "the end of the channel, with a line unread"
        play._eof = True
        play.expect_exit()


@case(plain_only=True)
def handover_is_gone_when_it_writes(options: Options) -> None:
    """A write fails because handover is gone: what is there is read, and then it is as at the end of the channel."""
    with started(options, "messages") as play:
        play.process.send_signal(signal.SIGSTOP)
        play.ask({"do": "echo", "data": "nobody reads this"})
        play.channel.close()
        play.process.send_signal(signal.SIGCONT)
        play.last = "a question, and the end of the channel"
        play._eof = True
        play._asked.clear()
        play.expect_exit()


@case(plain_only=True)
def what_is_there_is_read_when_a_write_fails(options: Options) -> None:
    """A write fails, and behind what the client has read stands ``refused``: the channel is lost, and handover lives."""
    with started(options, "messages") as play:
        play.process.send_signal(signal.SIGSTOP)
        for _ in range(2):              # more than a client reads at once, so that it writes before it has all
            play.ask({"do": "echo", "data": "x" * 60_000})
        play.send({"type": "refused", "error": "protocol", "reason": "a line is no JSON"})
        play.channel.close()
        play.process.send_signal(signal.SIGCONT)
        play._eof = True
        play._asked.clear()
        play.expect_plain("lost")


def _bad(name: str, text: str, raw_line: Callable[[Play], bytes], needs: Sequence[str] = (), lenient: bool = False) -> None:
    """A case in which handover breaks a rule with a line; ``lenient``: one that a client may take all the same."""
    def run(options: Options) -> Optional[str]:
        with started(options, *(one for one in needs if one != "fds")) as play:
            if "fds" in needs:
                play.need_fds()
            play.is_lenient = lenient
            play.write(raw_line(play))
            if lenient:
                play.need("messages")
                return play.expect_closed_or_taken()
            play.expect_closed()
            return None

    run.__name__, run.__doc__ = name, text
    case(plain_only=True)(run)


def _filled(line: Line, size: int) -> bytes:
    """The line with a member that makes it so many bytes, the newline included."""
    room = size - 1 - len(dump({**line, "fill": ""}))
    return dump({**line, "fill": "x" * room}).encode() + b"\n"


_bad("bad_json", "A line that is no JSON ends the channel.", lambda play: b'{"type":"drain"\n')
_bad("bad_empty_line", "Empty lines do not exist.", lambda play: b"\n")
_bad("bad_constant", "NaN is no JSON.", lambda play: b'{"type":"teleport","n":NaN}\n', lenient=True)
_bad("bad_utf8", "A line that is no UTF-8 ends the channel.", lambda play: b'{"type":"drain","reason":"\xff\xfe"}\n')
_bad("bad_array", "A line that is no object ends the channel.", lambda play: b'["drain"]\n')
_bad("bad_no_type", "A line without a type ends the channel.", lambda play: b'{"reason":"x"}\n')
_bad("bad_type_of_type", "A type that is no string ends the channel.", lambda play: b'{"type":1}\n')
_bad("bad_missing_member", "A required member that is missing ends the channel.", lambda play: b'{"type":"ack"}\n')
_bad("bad_member", "A member of the wrong type ends the channel.", lambda play: b'{"type":"ack","re":"12"}\n')
_bad("bad_boolean", "true is no number.", lambda play: b'{"type":"ack","re":true}\n')
_bad("bad_negative", "Numbers are from 0.", lambda play: b'{"type":"ack","re":-1}\n')
_bad("bad_fraction", "Numbers are whole.", lambda play: b'{"type":"ack","re":1.5}\n')
_bad("bad_point_zero", "1.0 is no whole number as the protocol writes them.", lambda play: b'{"type":"ping","id":1.0}\n', lenient=True)
_bad("bad_exponent", "1e3 is none either.", lambda play: b'{"type":"sent","re":1e3,"receivers":1,"refused":[]}\n', lenient=True)
_bad("bad_null", "null is a value, and no missing member.", lambda play: b'{"type":"drain","reason":"x","deadline_ms":null}\n')
_bad("bad_large_number", "Numbers end at 2^53-1.", lambda play: b'{"type":"ack","re":9007199254740992}\n', lenient=True)
_bad("bad_minus_zero", "-0 is no number either.", lambda play: b'{"type":"ping","id":-0}\n', lenient=True)
_bad("bad_long_line", "A line of 65,537 bytes ends the channel.", lambda play: _filled({"type": "ping", "id": 1}, MAX_LINE + 1), lenient=True)
_bad("bad_long_message", "A message of 1,048,577 bytes ends the channel.",
     lambda play: _filled({"type": "message", "from": "handover", "data": 1}, MAX_MESSAGE + 1), ["messages"])
_bad("bad_long_data", "Data of 1,000,001 bytes.",
     lambda play: b'{"type":"message","from":"handover","data":"' + b"x" * (MAX_DATA - 1) + b'"}\n', ["messages"], lenient=True)
_bad("bad_half_surrogates", "Half a surrogate pair, which handover never sends, crashes nobody.",
     lambda play: b'{"type":"message","from":"handover","data":{"do":"status","text":"\\ud83d","\\udc00":["\\udc00\\ud800"]}}\n', ["messages"], lenient=True)
_bad("bad_comment", "A comment is no JSON.", lambda play: b'{"type":"teleport"/* far */}\n', lenient=True)
_bad("bad_from", "A message needs a sender.", lambda play: b'{"type":"message","from":7,"data":1}\n', ["messages"])
_bad("bad_from_member", "A sender has its pool, slot and worker.",
     lambda play: b'{"type":"message","from":{"pool":"web","slot":"1","worker":2},"data":1}\n', ["messages"])
_bad("bad_reply_without_id", "A message that wants a reply has an id.",
     lambda play: b'{"type":"message","from":"handover","reply":true,"data":{"do":"echo","data":1}}\n', ["messages"])
_bad("bad_sent_refused", "What stands in refused are objects with worker and error.",
     lambda play: b'{"type":"sent","re":1,"receivers":1,"refused":[{"worker":19,"error":"gone"},{"worker":20}]}\n', ["messages"])
_bad("bad_error", "An error is a word.", lambda play: b'{"type":"refused","re":1,"error":7}\n')
_bad("bad_grant_without_fds", "A grant always has fds.",
     lambda play: b'{"type":"grant","re":1,"id":1,"name":"x","address":"tcp://127.0.0.1:1","fds":0}\n', ["fds"])
_bad("bad_endless_line", "A line that does not end is no reason to keep all of it.", lambda play: b'{"type":"message","data":"' + b"x" * MAX_MESSAGE)
_bad("bad_depth", "A line that nests too deep ends the channel.", lambda play: b'{"type":"teleport","x":' + b"[" * 200 + b"]" * 200 + b"}\n", lenient=True)
_bad("bad_great_depth", "30,000 brackets crash nobody.", lambda play: b'{"type":"teleport","x":' + b"[" * 30_000 + b"]" * 30_000 + b"}\n", lenient=True)
_bad("bad_second_hello", "A second hello ends the channel.", lambda play: dump({"type": "hello", "version": 1, "versions": [1, 1], "capabilities": []}).encode() + b"\n")
_bad("bad_fds_missing", "A line that says fds, and none came.", lambda play: dump({"type": "message", "id": 1, "from": ME, "data": 1, "fds": 1}).encode() + b"\n", ["fds"])
_bad("bad_fds_count", "A line that says more fds than can be.", lambda play: dump({"type": "teleport", "id": 1, "fds": 65}).encode() + b"\n")


@case(plain_only=True)
def longest_lines_pass(options: Options) -> None:
    """A line of exactly 65,536 bytes and a message of exactly 1,048,576 are within the rules."""
    with started(options, "ping", "messages") as play:
        play._asked.update((1, 2))
        play.write(_filled({"type": "ping", "id": 1}, MAX_LINE))
        play.expect("pong", re=1)
        play.write(_filled({"type": "message", "id": 2, "from": "handover", "reply": True, "data": {"do": "echo", "data": 1}}, MAX_MESSAGE))
        play.expect("reply", re=2, data=1)


@case(plain_only=True)
def bad_fds_too_many(options: Options) -> None:
    """Fds where none belong end the channel, and are closed."""
    with started(options) as play:
        play.need_fds()
        ours, theirs = pair(play)
        play.write(b'{"type":"teleport"}\n', [theirs])
        os.close(theirs)
        play.expect_end()
        read_all(play, ours, b"")
        play.expect_plain("lost")


@case(plain_only=True)
def bad_fds_without_id(options: Options) -> None:
    """A message with fds and without an id: the channel's end, and they are closed."""
    with started(options, "messages") as play:
        play.need_fds()
        ours, theirs = pair(play)
        play.write(dump({"type": "message", "from": ME, "data": 1, "fds": 1}).encode() + b"\n", [theirs])
        os.close(theirs)
        play.expect_end()
        read_all(play, ours, b"")
        play.expect_plain("lost")


@case(plain_only=True)
def bad_fds_one_more(options: Options) -> None:
    """A line that says one fd, with two: the channel's end, and both are closed."""
    with started(options, "messages") as play:
        play.need_fds()
        one, other = pair(play), pair(play)
        play.write(b'{"type":"teleport","fds":1}\n', [one[1], other[1]])
        close_all([one[1], other[1]])
        play.expect_end()
        read_all(play, one[0], b"")
        read_all(play, other[0], b"")
        play.expect_plain("lost")


def _bad_fds_of(kind: str, line: Line) -> None:
    """A case in which handover sends an fd with a line that may have none."""
    def run(options: Options) -> None:
        with started(options, kind) as play:
            play.need_fds()
            ours, theirs = pair(play)
            play.write(dump({**line, "fds": 1}).encode() + b"\n", [theirs])
            os.close(theirs)
            play.expect_end()
            read_all(play, ours, b"")
            play.expect_plain("lost")

    run.__name__, run.__doc__ = f"bad_fds_of_{kind}", f"A {kind} with an fd: the channel's end, and it is closed."
    case(plain_only=True)(run)


_bad_fds_of("ping", {"type": "ping", "id": 1})
_bad_fds_of("drain", {"type": "drain", "reason": "x", "id": 1})


@case(plain_only=True)
def bad_line_before_fds(options: Options) -> None:
    """Fds that are queued behind a fault are closed at the channel's end."""
    with started(options, "messages") as play:
        play.need_fds()
        whole, half = pair(play), pair(play)
        line = dump({"type": "message", "id": 1, "from": ME, "data": 1, "reply": True, "fds": 1}).encode() + b"\n"
        play.process.send_signal(signal.SIGSTOP)
        play.write(b'{"type":\n')
        play.write(line, [whole[1]])
        play.write(line[:20], [half[1]])
        close_all([whole[1], half[1]])
        play.process.send_signal(signal.SIGCONT)
        play.expect_end()
        read_all(play, whole[0], b"")
        read_all(play, half[0], b"")
        play.expect_plain("lost")


@case(plain_only=True)
def bad_id_in_use(options: Options) -> None:
    """A question with the id of one that is not answered yet: the channel's end. An id whose question was answered is free."""
    with started(options, "messages") as play:
        line = {"type": "message", "id": 7, "from": "handover", "data": {"do": "echo", "data": 1}, "reply": True}
        for _ in range(2):
            play.send(line)
            play.expect("reply", re=7)
        play.send({**line, "data": {"do": "hold"}})
        play.sync()
        play.write(dump(line).encode() + b"\n")
        play.expect_closed()


@case(plain_only=True)
def held_questions(options: Options) -> None:
    """A question may be answered late, and others before it."""
    with started(options, "messages") as play:
        first = play.ask({"do": "hold"})
        play.sync()
        play.order("release")
        play.expect("reply", re=first, data=True)


@case(plain_only=True)
def bad_line_before_hello(options: Options) -> None:
    """A line before handover's hello ends the channel."""
    with raw(options, say_hello=False) as play:
        play.write(b'{"type":"ping","id":1}\n')
        play._until(lambda: play._eof, "that it closes the channel")
        play.expect_plain("lost", "plain")


@case(plain_only=True)
def fds_cut_off(options: Options) -> None:
    """At the limit of open files the kernel drops fds (MSG_CTRUNC): the channel's end, and no crash."""
    with started(options, "messages") as play:
        play.need_fds()
        prlimit = getattr(resource, "prlimit", None)
        if prlimit is None or not os.path.isdir("/proc/self/fd"):
            raise Skip("the limits of another process cannot be set here")
        used = {int(name) for name in os.listdir(f"/proc/{play.process.pid}/fd")}
        free = next(number for number in range(1024) if number not in used)
        prlimit(play.process.pid, resource.RLIMIT_NOFILE, (free, free))
        ours, theirs = pair(play)
        play.write(dump({"type": "message", "id": 1, "from": ME, "data": 1, "fds": 1}).encode() + b"\n", [theirs])
        os.close(theirs)
        play.expect_closed()
        read_all(play, ours, b"")


@case()
def refused_by_handover(options: Options) -> None:
    """handover says that the client broke the rules, and closes the channel: the program is told, and goes on."""
    with started(options) as play:
        play.send({"type": "refused", "error": "protocol", "reason": "a line is no JSON"})
        play.channel.shutdown(socket.SHUT_WR)
        play._until(lambda: play._eof, "that it closes the channel")
        play.expect_plain("lost")


@case()
def slow_handover(options: Options) -> None:
    """handover does not read for a while: nothing is lost, and the order stays."""
    with started(options, "messages") as play:
        play.order("flood", count=3000, size=1000)
        time.sleep(0.5)
        for number in range(3000):
            line = play.expect("message", to="handover")
            if not isinstance(line["data"], dict) or line["data"].get("n") != number or len(line["data"].get("pad", "")) != 1000:
                raise play.wrong(f'the data {{"n":{number},"pad":"xx…"}} with a pad of 1000 letters', short(line))


@case()
def slow_handover_does_not_stop_the_loop(options: Options) -> None:
    """While handover does not read, a client with an event loop does its other work."""
    with started(options, "listen", "messages") as play, listening() as bound:
        play.need_loop()
        grant(play, [bound], "name", "admin")
        play.order("flood", count=3000, size=1000)
        for _ in range(3):
            play.order("accept")
            say_hello_to(play, bound)
        for number in range(3000):
            line = play.expect("message", to="handover")
            if not isinstance(line["data"], dict) or line["data"].get("n") != number:
                raise play.wrong(f'the data {{"n":{number},"pad":"xx…"}} with a pad of 1000 letters', short(line))


@case()
def both_directions_full(options: Options) -> None:
    """A client whose writes wait goes on reading: handover may be waiting for it to take its answers."""
    with started(options, "messages") as play:
        ids = [play.ask({"do": "echo", "data": f"{number} " + "x" * 60_000}) for number in range(80)]
        for number, id_ in enumerate(ids):
            line = play.expect("reply", re=id_)
            if not str(line["data"]).startswith(f"{number} ") or len(line["data"]) < 60_000:
                raise play.wrong(f"echo {number}", short(line))


@case()
def newer_version(options: Options) -> None:
    """handover speaks newer versions, too: version 1 is spoken."""
    with started(options, "messages", hello={"version": 7, "versions": [1, 7]}) as play:
        play.sync()


@case(plain_only=True)
def version_too_new(options: Options) -> None:
    """handover does not speak so old a version: the worker goes on as a plain one."""
    with raw(options, hello={"version": 3, "versions": [2, 3]}) as play:
        play._until(lambda: bool(play._inbox) or play._eof, "hello, or the end of the channel")
        if play._inbox:
            play.expect("hello")
            with contextlib.suppress(Wrong):
                play.send({"type": "refused", "error": "version", "reason": "this handover speaks versions 2 to 3"})
                play.channel.shutdown(socket.SHUT_WR)
        play.expect_plain()


@case(plain_only=True)
def version_of_another_shape(options: Options) -> None:
    """In a version that is not spoken, all members but version and versions may be anything: no error, but no common version."""
    shape: Line = {"version": 3, "versions": [2, 3], "capabilities": {"drain": 2}, "pool": None, "slot": "left"}
    with raw(options, hello=shape) as play:
        play._until(lambda: bool(play._inbox) or play._eof, "hello, or the end of the channel")
        if play._inbox:
            play.expect("hello")
            with contextlib.suppress(Wrong):
                play.send({"type": "refused", "error": "version", "reason": "this handover speaks versions 2 to 3"})
                play.channel.shutdown(socket.SHUT_WR)
        play.expect_plain()


@case(plain_only=True)
def version_too_old(options: Options) -> None:
    """handover is older than the client can speak: the client closes the channel and does without."""
    with raw(options, hello={"version": 0, "versions": [0, 0]}) as play:
        until = time.monotonic() + options.deadline
        while not play._eof:
            if time.monotonic() > until:
                raise play.wrong("that it closes the channel", "nothing")
            play._read(0.5)
        play.expect_plain()


@case()
def fewer_capabilities(options: Options) -> None:
    """A handover that can only pass messages is sent nothing else."""
    with started(options, "messages", hello={"capabilities": ["messages", "drain", "ping"]}) as play:
        play.order("log", level="info", message="nobody takes this", target="t", fields={})
        play.order("status", text="this, yes")
        play.expect("status", text="this, yes")
        if "fds" in play.client["capabilities"]:
            play.order("send_fd", to={"worker": 18})
            play.expect_outcome({"refused": {"error": "unsupported"}, "kept": True})
        if "listen" in play.client["capabilities"]:
            play.order("listen", name="admin")
            line = play.next("an outcome")[0]
            if line["type"] == "listen":
                raise play.wrong("no listen without the capability", short(line))


@case(plain_only=True)
def no_channel(options: Options) -> None:
    """Without HANDOVER_CHANNEL the worker does without."""
    with raw(options, channel="none") as play:
        play.expect_plain()


@case(plain_only=True)
def no_channel_but_a_notify_socket(options: Options) -> Optional[str]:
    """Without a channel, what systemd's protocol has goes to NOTIFY_SOCKET."""
    with raw(options, channel="none", notify=True) as play:
        play.expect_stdout("plain")
        said = play.notified()
        play.expect_plain()
        if "READY=1" not in said:
            raise play.wrong("READY=1 in NOTIFY_SOCKET", short(said))
        all_ = {"STATUS=without handover", "WATCHDOG=1", "EXTEND_TIMEOUT_USEC=20000000"}
        return None if all_ <= set(said) else f"note: without {', '.join(sorted(all_ - set(said)))}"


@case(plain_only=True)
def a_lost_channel_and_a_notify_socket(options: Options) -> None:
    """The same when the channel was lost."""
    with started(options, notify=True) as play:
        play.send({"type": "refused", "error": "protocol", "reason": "a line is no JSON"})
        play.channel.shutdown(socket.SHUT_WR)
        play._until(lambda: play._eof, "that it closes the channel")
        play.expect_stdout("lost")
        said = play.notified()
        if "STATUS=lost" not in said:
            raise play.wrong("STATUS=lost in NOTIFY_SOCKET", short(said))
        play.expect_plain("lost")


@case(plain_only=True)
def channel_is_a_pipe(options: Options) -> None:
    """HANDOVER_CHANNEL names something that is no socket: as without."""
    with raw(options, channel="pipe") as play:
        play.expect_plain()


@case(plain_only=True)
def channel_is_a_datagram_socket(options: Options) -> None:
    """HANDOVER_CHANNEL names a socket of another kind: as without."""
    with raw(options, channel="datagram") as play:
        play.expect_plain()


@case(plain_only=True)
def channel_is_closed(options: Options) -> None:
    """HANDOVER_CHANNEL names nothing: as without."""
    with raw(options, channel="closed") as play:
        play.expect_plain()


@case(plain_only=True)
def channel_is_no_number(options: Options) -> None:
    """HANDOVER_CHANNEL is no number: as without."""
    with raw(options, channel="garbage") as play:
        play.expect_plain()


# --- The contract ----------------------------------------------------------------------------------------------------------


class Probe(NamedTuple):
    """An order that is tried: what it must lead to, for people, and what tells that it did."""

    expected: str
    is_right: Callable[[Line], bool]


class Contract:
    """Every order once, to one worker. It answers what that asks, and keeps what has not come yet."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.missing: Dict[str, Probe] = {}
        self.came: Dict[str, str] = {}          # what came in place of it
        self.by_id: Dict[int, str] = {}         # our questions
        self.can_fds = {"messages", "fds"} <= set(play.client["capabilities"])
        self.sockets: List[socket.socket] = []
        self.end = ""                           # why nothing more came

    def line(self, name: str, expected: Line, /, **members: Any) -> None:
        """An order that leads to a line."""
        self.missing[name] = Probe(short(expected), lambda line: all(same(line.get(key), value) for key, value in expected.items()))
        self.play.order(name, **members)

    def outcome(self, name: str, wanted: Line, do: str = "", /, **members: Any) -> None:
        """An order that leads to a report."""
        expected = f'a message to "handover" with the data {dump({"outcome": wanted, "tag": name})}'
        self.missing[name] = Probe(expected, lambda line: same(line.get("data"), {"outcome": wanted, "tag": name}))
        self.play.order(do or name, tag=name, **members)

    def question(self, name: str, expected: Line, fds: Sequence[int] = (), do: str = "", **members: Any) -> None:
        """An order that is a question itself."""
        id_ = self.play.ask({"do": do or name, **members}, fds)
        self.by_id[id_] = name
        wanted = {**expected, "re": id_}
        self.missing[name] = Probe(short(wanted), lambda line: all(same(line.get(key), value) for key, value in wanted.items()))

    def fd(self) -> int:
        """One end of a pair; the other is kept until the end."""
        ours, theirs = socket.socketpair()
        self.sockets.append(ours)
        return self.play.keep(theirs.detach())

    def begin(self) -> None:
        """Gives all orders, without waiting."""
        self.missing["about"] = Probe('a message to "handover" with the data {"outcome":{"about":{"loop":true or false}},"tag":"about"}',
                                      lambda line: line["data"]["outcome"]["about"]["loop"] in (True, False))
        self.play.order("about", tag="about")
        self.question("echo", {"type": "reply", "data": ["x"]}, data=["x"])
        self.question("from", {"type": "reply", "data": "handover"})
        self.question("refuse", {"type": "refused", "error": "no such room"}, error="no such room")
        self.line("status", {"type": "status", "text": "tried"}, text="tried")
        self.line("heartbeat", {"type": "heartbeat"})
        self.line("extend_timeout", {"type": "extend_timeout", "ms": 5}, ms=5)
        self.line("replace", {"type": "replace"})
        self.line("stopping", {"type": "stopping"})
        self.line("log", {"type": "log", "level": "info", "message": "tried"}, level="info", message="tried")
        self.line("flood", {"type": "message", "to": "handover", "data": {"n": 0, "pad": "xxx"}}, count=1, size=3)
        self.line("send", {"type": "message", "to": {"worker": 18}, "data": "plain"}, to={"worker": 18}, data="plain")
        self.outcome("send with id", {"sent": {"receivers": 1, "refused": []}}, "send", to={"worker": 18}, data="id", id=True)
        self.outcome("send with reply", {"reply": 1, "from": ME}, "send", to={"worker": 18}, data="reply", reply=True)
        self.outcome("inherited", {"refused": {"error": "missing"}}, name="none of this name")
        self.outcome("run", {"output": "here\n"}, command=[sys.executable, "-S", "-E", "-c", "print('here')"])
        self.question("hold", {"type": "reply", "data": True})
        if self.can_fds:
            self.question("fds", {"type": "reply", "data": {"fds": 1}}, [self.fd()], do="nothing")
            self.play.send({"type": "message", "from": "handover", "data": {"do": "hold"}}, [self.fd()])
            self.outcome("send_fd", {"sent": {"receivers": 1, "refused": []}}, to={"worker": 18})
            self.question("reply_fd", {"type": "reply", "data": "fd"})
        self.play.order("release")
        if not self.play.node:
            self.outcome("fork", {"forked": True})
        if self.can_fds and "listen" in self.play.client["capabilities"]:
            self._sockets_on_request()

    def _sockets_on_request(self) -> None:
        bound = listening()
        self.sockets.append(bound)
        granted = {"name": "admin", "address": "tcp://127.0.0.1:1", "fds": 1}
        self.outcome("listen", {"granted": granted}, name="admin")
        self.missing["listener_removed"] = Probe('a message to "handover" with the data {"removed":"other"}', lambda line: same(line["data"], {"removed": "other"}))
        self.play.send({"type": "listener_removed", "name": "other"})
        self.missing["accept"] = Probe("hello\\n in a connection to what was granted", lambda line: False)

    def _accept(self) -> None:
        self.play.order("accept")
        bound = next(one for one in self.sockets if one.fileno() == self.listening())
        connection = socket.create_connection(bound.getsockname(), self.play.options.deadline)
        connection.setblocking(False)
        self.sockets.append(connection)

    def take(self, line: Line, fds: List[int]) -> None:
        """A line that came: an answer to what it asks, and off the list what it fulfils."""
        play, kind = self.play, line["type"]
        if kind == "listen":
            play.send({"type": "grant", "re": line["id"], "name": "admin", "address": "tcp://127.0.0.1:1"}, [self.listening()])
        if kind == "message" and "id" in line:
            if line.get("reply"):
                play.answer(line["id"], "reply", **{"from": ME}, data=1)
            else:
                play.answer(line["id"], "sent", receivers=1, refused=[])
        name = self._name(line)
        probe = self.missing.get(name)
        if probe is None:
            return
        with contextlib.suppress(KeyError, TypeError):
            if probe.is_right(line) or "unsupported" in line["data"]["outcome"]:
                del self.missing[name]
                if name == "listen":
                    self._accept()
                return
        self.came[name] = short(line)

    def listening(self) -> int:
        """What is granted."""
        return next(one.fileno() for one in self.sockets if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))

    def _name(self, line: Line) -> str:
        data = line.get("data")
        if "re" in line and line["type"] != "ack":
            return self.by_id.get(line["re"], "")
        if line["type"] != "message":
            return str(line["type"])
        if isinstance(data, dict) and "tag" in data:
            return str(data["tag"])
        if isinstance(data, dict) and "removed" in data:
            return "listener_removed"
        return "flood" if isinstance(data, dict) and "n" in data else "send" if data == "plain" else ""

    def turn(self) -> bool:
        """Takes the next line; False when nothing comes any more."""
        try:
            self.take(*self.play.next("what the orders lead to"))
        except Wrong as wrong:
            self.end = str(wrong).partition("\n")[0]
            return False
        return True

    def look_at_accept(self) -> None:
        """What ``accept`` leads to is no line."""
        if "accept" in self.missing and select.select([self.sockets[-1]], [], [], self.play.options.deadline)[0]:
            with contextlib.suppress(OSError):
                if self.sockets[-1].recv(16) == b"hello\n":
                    del self.missing["accept"]


def contract(options: Options) -> List[str]:
    """What the command does not understand, or does in another way; empty: it keeps the contract."""
    with raw(options) as play:
        try:
            play.begin()
            if "messages" not in play.client["capabilities"]:
                return []               # nobody can give it orders
            probes = Contract(play)
            probes.begin()
        except Wrong as wrong:
            return [f"the beginning: {wrong}"]
        try:
            while set(probes.missing) - {"accept"} and probes.turn():
                pass
            probes.look_at_accept()
            hint = str(play.wrong("", "")).partition("\n")[2]
        finally:
            for one in probes.sockets:
                one.close()
        faults = [f"{name}: expected {probe.expected}, came {probes.came.get(name, 'nothing')}" for name, probe in probes.missing.items()]
        if faults and probes.end:
            faults.append(f"the end: {probes.end}")
        return faults + ([f"its standard error ends with\n{hint}"] if faults and hint else [])


# --- The command line ----------------------------------------------------------------------------------------------------


class Arguments(NamedTuple):
    """What to do."""

    options: Options
    only: List[str]
    is_list: bool
    no_skips: bool


def arguments() -> Arguments:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description="Plays handover, and says what a client gets wrong.", usage="%(prog)s [options] -- COMMAND ARG...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="COMMAND is a small program written with the client; --contract says what it must do.\n\n"
               "exit status: 0 no case failed; 1 a case failed; 2 the command line is wrong;\n"
               "             3 the command does not keep the contract, and no case was tried")
    parser.add_argument("--dialect", choices=["handover", "node"], default="handover", help="what the worker's channel speaks")
    parser.add_argument("--only", metavar="NAME", action="append", default=[],
                        help="cases whose name contains this, without trying the contract first; more than once: any of them")
    parser.add_argument("--list", action="store_true", help="names the cases")
    parser.add_argument("--contract", action="store_true", help="says what COMMAND must do")
    parser.add_argument("--no-skips", action="store_true", help="a case that is skipped is one that failed")
    parser.add_argument("--deadline", metavar="SECONDS", type=float, default=10.0, help="for whatever is waited for (default: 10)")
    words: List[str] = sys.argv[1:]
    command: List[str] = []
    if "--" in words:
        at = words.index("--")
        words, command = words[:at], words[at + 1:]
    given = parser.parse_args(words)
    if given.contract:
        print(CONTRACT, end="")
        sys.exit(0)
    if not command and not given.list:
        parser.error("no command: conformance.py [options] -- COMMAND ARG...; --contract says what it must do")
    unknown = [name for name in given.only if not any(name in one.name for one in CASES)]
    if unknown:
        parser.error(f"no case has {unknown[0]!r} in its name; --list names them")
    return Arguments(Options(command, given.dialect, given.deadline), given.only, given.list, given.no_skips)


def run(one: Case, options: Options) -> Tuple[str, str]:
    """A case: its line, and the first word of it."""
    if one.plain_only and options.dialect == "node":
        return f"skipped {one.name}: in Node's dialect this belongs to Node", "skipped"
    try:
        note = one.run(options)
    except Wrong as wrong:
        return f"not ok {one.name}: {wrong}", "failed"
    except Skip as skip:
        return f"skipped {one.name}: {skip}", "skipped"
    except OSError as error:
        return f"not ok {one.name}: {error}", "failed"
    return f"ok {one.name}" + (f" ({note})" if note else ""), "ok"


def main() -> int:
    """Runs the cases; see the top for what it gives."""
    given = arguments()
    chosen = [one for one in CASES if not given.only or any(name in one.name for name in given.only)]
    if given.is_list:
        for one in chosen:
            print(f"{one.name}: {(one.run.__doc__ or '').strip()}")
        return 0
    faults = [] if given.only else contract(given.options)
    if faults:
        print("\n".join(["not ok contract:", *(f"  {fault}" for fault in faults)]), flush=True)
        print(f"{len(chosen)} cases, none tried; --contract says what the command must do", file=sys.stderr)
        return 3
    counts = {"ok": 0, "skipped": 0, "failed": 0}
    for one in chosen:
        text, word = run(one, given.options)
        counts[word] += 1
        print(text, flush=True)
    print(f"{len(chosen)} cases: {counts['ok']} ok, {counts['skipped']} skipped, {counts['failed']} failed", file=sys.stderr)
    return 1 if counts["failed"] or (given.no_skips and counts["skipped"]) else 0


if __name__ == "__main__":
    sys.exit(main())

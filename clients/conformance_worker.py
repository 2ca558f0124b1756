#!/usr/bin/env python3
"""The worker that conformance.py drives to try handover.py: asyncio, or ``--blocking``, or ``--thread``.

What it must do is in README.md, "The conformance worker".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any, Dict, List, Optional, Union

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import handover  # noqa: E402


class Kept:
    """What the worker has in its hands."""

    def __init__(self) -> None:
        self.listener: Optional[socket.socket] = None
        self.held: List[int] = []
        self.questions: List[handover.Message] = []


def print_line(text: str) -> None:
    print(text, flush=True)


def write_and_close(fds: List[int]) -> None:
    for fd in fds:
        os.write(fd, b"taken\n")
        os.close(fd)


def log(worker: Union[handover.Worker, handover.AsyncWorker], order: Dict[str, Any]) -> None:
    """Through logging where that can say the same, else directly."""
    levels = {"error": logging.ERROR, "warn": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG, "trace": 5}
    logger = logging.getLogger(order.get("target", ""))
    if "target" in order and not logger.handlers:
        logger.propagate = False
        logger.setLevel(1)
        logger.addHandler(handover.LogHandler(worker))
    if "target" in order:
        logger.log(levels[order["level"]], "%s", order["message"], extra=order.get("fields"))
    else:
        worker.log(order["level"], order["message"], fields=order.get("fields"))


def say(worker: Union[handover.Worker, handover.AsyncWorker], order: Dict[str, Any]) -> bool:
    """Orders that are one line without an answer."""
    do = order["do"]
    if do == "log":
        log(worker, order)
    elif do == "status":
        worker.status(order["text"])
    elif do == "heartbeat":
        worker.heartbeat()
    elif do == "extend_timeout":
        worker.extend_timeout(order["ms"])
    elif do == "replace":
        worker.replace(order.get("reason", ""))
    elif do == "stopping":
        worker.stopping()
    else:
        return False
    return True


def keep(worker: Union[handover.Worker, handover.AsyncWorker], kept: Kept, message: handover.Message) -> bool:
    """Orders about fds that came with them, or are held."""
    order = message.data if isinstance(message.data, dict) else {}
    fds = message.take_fds()
    if order.get("do") == "hold":
        kept.held += fds
        kept.questions.append(message)
    elif fds:
        write_and_close(fds)
        message.reply({"fds": len(fds)})
    elif order.get("do") == "release":
        write_and_close(kept.held)
        for question in kept.questions:
            question.reply(True)
        kept.held, kept.questions = [], []
    elif order.get("do") == "echo":
        message.reply(order["data"])
    elif order.get("do") == "from":
        message.reply(message.sender)
    elif order.get("do") == "reply_fd":
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.sendall(b"fd\n")
            message.reply("fd", [theirs])
    elif order.get("do") == "refuse":
        message.refuse(order["error"], "as ordered")
    elif order.get("do") == "hang":
        while True:
            time.sleep(1)
    else:
        return False
    return True


def granted(kept: Kept, name: str, address: Optional[str], sockets: List[socket.socket]) -> Dict[str, Any]:
    if kept.listener is not None:
        kept.listener.close()
    kept.listener = sockets[0]
    for one in sockets[1:]:
        one.close()
    result: Dict[str, Any] = {"name": name, "fds": len(sockets)}
    if address is not None:
        result["address"] = address
    return {"granted": result}


def replied(reply: handover.Reply) -> Dict[str, Any]:
    write_and_close(reply.fds)
    return {"reply": reply.data, "from": reply.sender, **({"fds": len(reply.fds)} if reply.fds else {})}


def refused(error: str, ours: socket.socket, theirs: socket.socket) -> Dict[str, Any]:
    """After a refusal the end that was sent is this program's as before."""
    theirs.sendall(b"?")
    kept = ours.recv(1) == b"?"
    return {"refused": {"error": error}, "kept": kept}


def fork(worker: Union[handover.Worker, handover.AsyncWorker]) -> Dict[str, Any]:
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            worker.status("from a child")
            if isinstance(worker, handover.Worker):
                worker.poll(0)
        os._exit(0)
    os.waitpid(child, 0)
    return {"forked": True}


def sent(outcome: handover.Sent) -> Dict[str, Any]:
    return {"sent": {"receivers": outcome.receivers, "refused": outcome.refused}}


def go_on_without(worker: Union[handover.Worker, handover.AsyncWorker]) -> None:
    worker.status("without handover")
    worker.heartbeat()
    worker.extend_timeout(20_000)
    worker.log("info", "without handover")
    worker.ready()
    print_line("plain")


def go_on_lost(worker: Union[handover.Worker, handover.AsyncWorker]) -> None:
    worker.status("lost")
    print_line("lost")


# --- asyncio


class Async:
    def __init__(self, worker: handover.AsyncWorker) -> None:
        self.worker = worker
        self.kept = Kept()
        self.under_way = 0
        self.idle = asyncio.Event()

    async def obey(self, message: handover.Message) -> None:
        self.under_way += 1
        try:
            if keep(self.worker, self.kept, message) or not isinstance(message.data, dict):
                return
            if "do" in message.data and not say(self.worker, message.data):
                await self.report(message.data)
        finally:
            self.under_way -= 1
            self.idle.set()

    async def report(self, order: Dict[str, Any]) -> None:
        try:
            outcome = await self.carry_out(order)
        except handover.Refused as refused:
            outcome = {"refused": {"error": refused.error}}
        if outcome is not None:
            tag = {"tag": order["tag"]} if "tag" in order else {}
            await self.worker.send("handover", {"outcome": outcome, **tag})

    async def carry_out(self, order: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        do, worker = order["do"], self.worker
        if do == "about":
            return {"about": {"loop": True}}
        if do == "send":
            if order.get("reply"):
                return replied(await worker.ask_fully(order["to"], order["data"], order.get("timeout_ms")))
            if order.get("id"):
                return sent(await worker.deliver(order["to"], order["data"]))
            await worker.send(order["to"], order["data"])
        elif do == "send_fd":
            ours, theirs = socket.socketpair()
            with ours, theirs:
                try:
                    outcome = sent(await worker.deliver(order["to"], "fd", [theirs]))
                except handover.Refused as error:
                    outcome = refused(error.error, ours, theirs)
                ours.sendall(b"fd\n")
                return outcome
        elif do == "flood":
            for number in range(order["count"]):
                await worker.send("handover", {"n": number, "pad": "x" * order["size"]})
        elif do == "listen":
            grant = await worker.listen(order.get("name") or order["address"])
            return granted(self.kept, grant.name, grant.address, grant.sockets)
        elif do == "inherited":
            return inherited(self.kept, order["name"], worker.inherited(order["name"]))
        elif do == "accept" and self.kept.listener is not None:
            self.kept.listener.setblocking(False)
            connection, _ = await asyncio.get_running_loop().sock_accept(self.kept.listener)
            with connection:
                await asyncio.get_running_loop().sock_sendall(connection, b"hello\n")
        elif do == "fork":
            return fork(worker)
        elif do == "run":
            child = await asyncio.create_subprocess_exec(*order["command"], stdout=subprocess.PIPE, close_fds=False)
            output, _ = await child.communicate()
            return {"output": output.decode()}
        return None


def inherited(kept: Kept, name: str, sockets: List[socket.socket]) -> Dict[str, Any]:
    return granted(kept, name, None, sockets) if sockets else {"refused": {"error": "missing"}}


async def run_async() -> None:
    worker = await handover.connect_async()
    state = Async(worker)
    worker.on_message(state.obey)
    worker.on_lost(lambda why: go_on_lost(worker))
    worker.on_listener_removed(lambda name: asyncio.ensure_future(worker.send("handover", {"removed": name})))
    worker.drain_on(signal.SIGTERM)
    if worker.connected:
        worker.ready()
    else:
        go_on_without(worker)
    await worker.wait_for_drain()
    while state.under_way:
        state.idle.clear()
        await state.idle.wait()
    await worker.close()


# --- Blocking, and with a thread


class Blocking:
    def __init__(self, worker: handover.Worker) -> None:
        self.worker = worker
        self.kept = Kept()

    def obey(self, message: handover.Message) -> None:
        if keep(self.worker, self.kept, message) or not isinstance(message.data, dict):
            return
        if "do" in message.data and not say(self.worker, message.data):
            self.report(message.data)

    def report(self, order: Dict[str, Any]) -> None:
        try:
            outcome = self.carry_out(order)
        except handover.Refused as refused:
            outcome = {"refused": {"error": refused.error}}
        if outcome is not None:
            tag = {"tag": order["tag"]} if "tag" in order else {}
            self.worker.send("handover", {"outcome": outcome, **tag})

    def carry_out(self, order: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        do, worker = order["do"], self.worker
        if do == "about":
            return {"about": {"loop": False}}
        if do == "send":
            if order.get("reply"):
                return replied(worker.ask_fully(order["to"], order["data"], order.get("timeout_ms")))
            if order.get("id"):
                return sent(worker.deliver(order["to"], order["data"]))
            worker.send(order["to"], order["data"])
        elif do == "send_fd":
            ours, theirs = socket.socketpair()
            with ours, theirs:
                try:
                    outcome = sent(worker.deliver(order["to"], "fd", [theirs]))
                except handover.Refused as error:
                    outcome = refused(error.error, ours, theirs)
                ours.sendall(b"fd\n")
                return outcome
        elif do == "flood":
            for number in range(order["count"]):
                worker.send("handover", {"n": number, "pad": "x" * order["size"]})
        elif do == "listen":
            grant = worker.listen(order.get("name") or order["address"])
            return granted(self.kept, grant.name, grant.address, grant.sockets)
        elif do == "inherited":
            return inherited(self.kept, order["name"], worker.inherited(order["name"]))
        elif do == "accept" and self.kept.listener is not None:
            self.kept.listener.setblocking(True)
            connection, _ = self.kept.listener.accept()
            with connection:
                connection.sendall(b"hello\n")
        elif do == "fork":
            return fork(worker)
        elif do == "run":
            return {"output": subprocess.run(order["command"], stdout=subprocess.PIPE, close_fds=False, check=False).stdout.decode()}
        return None


def run_blocking(thread: bool) -> None:
    worker = handover.connect(thread=thread)
    state = Blocking(worker)
    worker.on_message(state.obey)
    worker.on_lost(lambda why: go_on_lost(worker))
    worker.on_listener_removed(lambda name: worker.send("handover", {"removed": name}))
    worker.drain_on(signal.SIGTERM)
    if worker.connected:
        worker.ready()
    else:
        go_on_without(worker)
    worker.wait_for_drain()
    while worker.poll(0):
        pass
    worker.close()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        if "--blocking" in sys.argv or "--thread" in sys.argv:
            run_blocking("--thread" in sys.argv)
        else:
            asyncio.run(run_async())

// Types of handover.js. In a package with "type": "module", save the two as handover.cjs and handover.d.cts.

import { EventEmitter } from 'node:events';
import * as dgram from 'node:dgram';
import * as net from 'node:net';

declare namespace handover {
  /** What can be sent along with a message: with `channel = "node"` only. */
  type Handle = net.Socket | net.Server | dgram.Socket;

  type Level = 'error' | 'warn' | 'info' | 'debug' | 'trace';

  /** Another worker; or handover itself, or the program in which it is embedded. */
  type Peer = 'handover' | { pool: string; slot: number; worker: number };

  type Receiver = 'handover' | 'all' | { worker: number } | { pool: string; slot?: number };

  /** What became of a message. */
  interface Sent {
    receivers: number;
    refused: Array<{ worker: number; error: string }>;
  }

  interface Reply<T = any> {
    data: T;
    from: Peer;
    handle?: Handle;
  }

  interface Drain {
    /** For people. */
    reason: string;
    /** When the stop signal comes, as Date.now() counts; undefined if it is not known. */
    deadline?: number;
  }

  interface Listening {
    /** What handover calls it from now on, in `listenerRemoved` too. */
    name: string;
    /** As handover says it (`tcp://127.0.0.1:9000`), or as server.address() does. */
    address: string | ReturnType<net.Server['address']>;
    sockets: number;
    origin: 'inherited' | 'channel' | 'bound';
  }

  interface Message<T = any> {
    readonly from: Peer;
    readonly data: T;
    /** Yours: close it, or give it to a server with server.emit('connection', handle). */
    readonly handle?: Handle;
    readonly wantsReply: boolean;
    /** Answers. False if nobody waits. */
    reply(data: unknown, options?: { handle?: Handle }): boolean;
    /** Refuses, with a word for programs and a reason for people. False if nobody waits. */
    refuse(error: string, reason?: string): boolean;
  }

  interface GracefulOptions {
    /** Milliseconds until what is open is cut. Default: 95 % of what handover's deadline leaves, else 25,000. */
    timeout?: number;
    /**
     * Milliseconds in which an idle keep-alive connection may still bring a request (it is answered with `Connection: close`), before it
     * is closed. Default: keepAliveTimeout of the server, at most 5,000 and at most half of the timeout.
     */
    idle?: number;
    /** Signals that are a drain, too; a second one cuts. Default: SIGTERM and SIGINT. */
    signals?: NodeJS.Signals[];
  }

  /** `code` is a word of the protocol: `not_allowed`, `gone`, `timeout`, …; treat unknown ones like `failed`. */
  interface HandoverError extends Error {
    readonly code: string;
    readonly reason: string;
  }

  interface HandoverErrorConstructor {
    new (code: string, reason?: string): HandoverError;
    readonly prototype: HandoverError;
  }

  interface Events {
    /** Finish what you have, take nothing new, and exit with 0. Once; also when handover is gone. */
    drain: [drain: Drain];
    /** A listener for messages keeps the process alive until the drain. Up to 256 that come before the first listener wait for it. */
    message: [message: Message];
    /** No longer wanted. Servers that listen() set on it have stopped accepting. */
    listenerRemoved: [name: string];
    /** The channel is gone: `gone`, `version` or `protocol`. */
    gone: [cause: HandoverError];
  }

  interface Handover extends EventEmitter {
    /** Whether there is a channel. */
    readonly active: boolean;
    /** What handover can do beyond the base; empty before its first line was read. */
    readonly capabilities: readonly string[];
    /** Who this worker is, from its environment; undefined without handover. */
    readonly name?: string;
    readonly pool?: string;
    readonly slot?: number;
    readonly generation?: number;
    readonly worker?: number;
    /** Sockets of LISTEN_FDS that listen() has not taken. */
    readonly inherited: Array<{ fd: number; name: string }>;

    readonly draining: boolean;
    readonly deadline?: number;
    /** Resolves at the drain. */
    readonly drain: Promise<Drain>;
    /** Aborted at the drain. */
    readonly signal: AbortSignal;

    /** The worker can serve (`ready = "notify"`). Without a channel, this and some others use systemd-notify where NOTIFY_SOCKET is set. */
    ready(): void;
    /** What `handover status` shows; cut after 1,024 bytes. */
    status(text: string): void;
    /** Feeds the `watchdog` of the pool. */
    heartbeat(): void;
    /** Sends heartbeats twice in each watchdog interval, from the event loop, if the pool has a watchdog. Returns what ends that. */
    watchdog(): () => void;
    /** So many milliseconds more, counted from now, for the start or the end. */
    extendTimeout(ms: number): void;
    /** The worker is ending by itself, and wishes to be followed. */
    stopping(): void;
    /** It wishes to be replaced, and serves until the drain. */
    replace(reason?: string): void;
    /** A record; fields beyond 64 are left out, what is too long is cut. Without a channel it goes to standard error. */
    log(level: Level, message: string, fields?: Record<string, unknown>, target?: string): void;

    /**
     * Listens on the socket that has this name, or on an address as in the configuration (`tcp://127.0.0.1:0`): one that was passed at
     * the start, else one from the channel (`channel = "node"`); without handover, on the address or on `fallback`.
     * @throws {HandoverError} `not_allowed`, `failed`, `unsupported`; or what listen(2) says
     */
    listen(server: net.Server | dgram.Socket, name: string, fallback?: number | net.ListenOptions): Promise<Listening>;

    /**
     * Makes a server end without losing anything, at the drain or a signal: it stops accepting, answers what it has with
     * `Connection: close`, closes idle connections, and cuts what is open at the end. Resolves when its last connection is closed.
     */
    graceful(server: net.Server, options?: GracefulOptions): Promise<void>;

    /**
     * Sends. Rejects with `gone`, `queue_full`, `unsupported` …; a rejection that nobody awaits does no harm. With `confirm: false` nobody
     * says what became of it. A net.Socket that is sent is closed here when the receiver has it, and goes on here if it was refused.
     * `data` has at most 1,000,000 bytes as JSON.
     */
    send(to: Receiver, data: unknown, options: { confirm: false; handle?: undefined }): Promise<undefined>;
    send(to: Receiver, data: unknown, options?: { handle?: Handle; confirm?: true }): Promise<Sent>;

    /** Asks one worker, or handover. Default timeout: 30,000 ms. Rejects with `timeout`, `gone`, or what the other refused with. */
    ask<T = any>(to: Receiver, data: unknown, options?: { timeout?: number; handle?: Handle }): Promise<Reply<T>>;

    /** Whether questions under way and listeners for messages keep the process alive; they do by default. */
    ref(): this;
    unref(): this;
    /** Closes the channel; handover replaces a worker that does so unless it drains or said stopping(). */
    close(): void;

    on<E extends keyof Events>(event: E, listener: (...args: Events[E]) => void): this;
    once<E extends keyof Events>(event: E, listener: (...args: Events[E]) => void): this;
    off<E extends keyof Events>(event: E, listener: (...args: Events[E]) => void): this;

    readonly HandoverError: HandoverErrorConstructor;
  }
}

declare const handover: handover.Handover & { default: handover.Handover };
export = handover;

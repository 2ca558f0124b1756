<?php

declare(strict_types=1);

/*
 * The client for PHP: what docs/protocol.md calls the channel, for a worker on the command line with PHP 8.1 or later and ext-sockets.
 *
 * One file without dependencies: copy it beside your program.
 *
 *     require 'handover.php';
 *     $handover = Handover::connect();
 *     $http = $handover->listener('http', 'tcp://127.0.0.1:8080');   // handover's socket "http"; that address where there is no handover
 *     $handover->ready();
 *     while (!$handover->isDraining()) {
 *         $read = array_filter([$http, $handover->stream()]);
 *         $write = $except = null;
 *         if (@stream_select($read, $write, $except, 5) && in_array($http, $read, true) && $client = @stream_socket_accept($http, 0)) {
 *             serve($client);
 *         }
 *         $handover->poll();                                         // answers handover, calls what onDrain(), onMessage() … were given
 *     }
 *
 * Nothing happens behind the program's back: what handover says is taken by poll(), run(), and while a call waits for its answer.
 * Callbacks are called by poll() and run() only. Without handover every call is harmless.
 *
 * PHP cannot mark an fd as close-on-exec. What comes over the channel is marked by the kernel; the channel itself and what LISTEN_FDS
 * passes are marked with ext-ffi. Without it, programs that the worker starts inherit these.
 */

/** handover or another worker said no, or the channel is gone. */
final class HandoverException extends RuntimeException
{
    /** @param string $error one of the protocol's words: `not_allowed`, `gone`, `timeout`, …; unknown ones are like `failed` */
    public function __construct(public readonly string $error, public readonly string $reason = '')
    {
        parent::__construct($reason === '' ? $error : "$error: $reason");
    }
}

/** A message of another worker, or of handover. */
final class HandoverMessage
{
    /**
     * @param string|object $from "handover", or an object with `pool`, `slot` and `worker`
     * @param mixed $data as json_decode gives it, objects as stdClass, so that {} and [] stay what they are
     * @param list<resource> $fds streams; closed when nobody holds them any more
     */
    public function __construct(
        private Handover $handover,
        public readonly string|object $from,
        public readonly mixed $data,
        public readonly array $fds,
        private ?int $id,
    ) {
    }

    /** Whether the sender waits for an answer, and has none yet. */
    public function wantsReply(): bool
    {
        return $this->id !== null;
    }

    /**
     * Answers. False if nobody waits for an answer.
     *
     * @param list<resource|Socket> $fds at most 64
     * @throws HandoverException if the data is too long (1,000,000 bytes of JSON) or nested too deep
     * @throws JsonException if the data cannot be written as JSON
     */
    public function reply(mixed $data, array $fds = []): bool
    {
        return $this->answer(['type' => 'reply'], $data, $fds);
    }

    /** Refuses: the sender gets the error (a word for programs) and the reason (for people). False if nobody waits. */
    public function refuse(string $error, string $reason = ''): bool
    {
        return $this->answer(['type' => 'refused', 'error' => $error, 'reason' => $reason], null, []);
    }

    private function answer(array $line, mixed $data, array $fds): bool
    {
        if ($this->id === null) {
            return false;
        }
        $this->handover->answer($line + ['re' => $this->id], $data, $fds);
        $this->id = null;

        return true;
    }
}

final class Handover
{
    private const VERSION = 1;
    private const CLIENT = 'handover-php 0.1.0';
    private const CAPABILITIES = ['drain', 'ping', 'listen', 'messages', 'fds'];
    private const LINE_BYTES_MAX = 65536;
    private const MESSAGE_BYTES_MAX = 1048576;
    private const DATA_BYTES_MAX = 1000000;
    private const NESTING_MAX = 64;
    private const NUMBER_MAX = 9007199254740991;
    private const TEXT_BYTES_MAX = 1024;
    private const TARGET_BYTES_MAX = 256;
    private const FIELDS_MAX = 64;
    private const FDS_MAX = 64;
    private const SCM_MAX_FD = 253;
    private const MSG_CMSG_CLOEXEC = 0x40000000; // Linux; PHP 8.1 has no name for it
    private const SO_DOMAIN = 39; // Linux
    private const HELLO_SECONDS = 10.0;
    private const ANSWER_SECONDS = 30.0;
    private const ANSWER_MARGIN_SECONDS = 5.0; // handover's own `timeout` should come before ours
    private const JSON = JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE | JSON_PRESERVE_ZERO_FRACTION;
    private const LEVELS = [
        'emergency' => 'error', 'alert' => 'error', 'critical' => 'error', 'error' => 'error', 'warning' => 'warn', 'warn' => 'warn',
        'notice' => 'info', 'info' => 'info', 'debug' => 'debug', 'trace' => 'trace',
    ];

    /** Members of what handover says: a name that ends with ? may be missing. */
    private const LINES = [
        'hello' => [
            'version' => 'number', 'versions' => 'range', 'capabilities' => 'words', 'name' => 'string', 'pool' => 'string',
            'slot' => 'number', 'generation' => 'number', 'worker' => 'number',
        ],
        'drain' => ['reason' => 'string', 'deadline_ms?' => 'number'],
        'ping' => ['id' => 'number'],
        'grant' => ['re' => 'number', 'name' => 'string', 'address' => 'string', 'fds' => 'some fds', 'id' => 'number'],
        'listener_removed' => ['name' => 'string'],
        'message' => ['from' => 'peer', 'data' => 'any', 'id?' => 'number', 'reply?' => 'boolean', 'fds?' => 'fds'],
        'reply' => ['re' => 'number', 'from' => 'peer', 'data' => 'any', 'id?' => 'number', 'fds?' => 'fds'],
        'sent' => ['re' => 'number', 'receivers' => 'number', 'refused' => 'not reached'],
        'ack' => ['re' => 'number'],
        'refused' => ['re?' => 'number', 'error' => 'string', 'reason?' => 'string'],
    ];

    /** Who this worker is, from its environment; null without handover. */
    public readonly ?string $name;
    public readonly ?string $pool;
    public readonly ?int $slot;
    public readonly ?int $generation;
    public readonly ?int $worker;

    private ?Socket $socket = null;
    /** @var resource|null */
    private $stream = null;
    /** @var list<array{int, string}> fds that nobody has taken yet, with their names */
    private array $inherited = [];
    private ?object $hello = null;
    private ?HandoverException $farewell = null;
    private string $buffer = '';
    private int $scanned = 0;
    /** @var list<resource> */
    private array $fds = [];
    private string $out = '';
    private int $nextId = 1;
    /** @var array<int, array{callable, float, string}> what is called with the answer, when it is too late, and its type */
    private array $questions = [];
    /** @var array<int, true> questions of handover's that have no answer yet */
    private array $owed = [];
    /** The process that the channel belongs to: a child that it forks is as without handover. */
    private int $pid;
    /** @var array<int, array> fds under way: kept open until the other side has them */
    private array $unacknowledged = [];
    /** @var list<callable> what poll() calls */
    private array $events = [];
    /** Whether a call of the program waits for handover */
    private bool $inCall = false;
    private bool $draining = false;
    private ?float $deadline = null;
    private ?Closure $onDrain = null;
    private ?Closure $onMessage = null;
    private ?Closure $onListenerRemoved = null;
    private ?Closure $onGone = null;

    /**
     * Takes the channel that the worker was started with, says hello, and reads handover's. Without a channel all else does nothing.
     *
     * @param list<string> $capabilities what this program does: `drain` (it looks at isDraining() or onDrain()), `ping` (it calls poll()
     *     more often than the pool's `ping_timeout`), `listen`, `messages`; `fds`, which is always added: this client takes them
     */
    public static function connect(array $capabilities = self::CAPABILITIES): self
    {
        return new self($capabilities);
    }

    private function __construct(array $capabilities)
    {
        $number = static fn (string $name): ?int => getenv($name) === false ? null : (int) getenv($name);
        $this->name = getenv('HANDOVER_NAME') ?: null;
        $this->pool = getenv('HANDOVER_POOL') ?: null;
        $this->slot = $number('HANDOVER_SLOT');
        $this->generation = $number('HANDOVER_GENERATION');
        $this->worker = $number('HANDOVER_WORKER');
        $this->inherited = self::inheritedFds();
        $this->pid = getmypid();
        $channel = (string) getenv('HANDOVER_CHANNEL');
        putenv('HANDOVER_CHANNEL');
        unset($_ENV['HANDOVER_CHANNEL'], $_SERVER['HANDOVER_CHANNEL']);
        if (preg_match('/^\d{1,9}$/D', $channel) && $this->open((int) $channel)) {
            $this->say(['type' => 'hello', 'version' => self::VERSION, 'capabilities' => array_values(array_unique([...$capabilities, 'fds'])), 'client' => self::CLIENT]);
            $this->waitFor(fn (): bool => $this->hello !== null, microtime(true) + self::HELLO_SECONDS);
        }
    }

    // ---- what the program reads

    /** Whether there is a channel. */
    public function isOpen(): bool
    {
        return $this->socket !== null;
    }

    /** Whether the worker was asked to finish what it has and to take nothing new. */
    public function isDraining(): bool
    {
        return $this->draining;
    }

    /** Seconds until the stop signal comes, after a drain with a deadline; null if there is none. */
    public function remaining(): ?float
    {
        return $this->deadline === null ? null : max(0.0, $this->deadline - microtime(true));
    }

    /** What handover can do beyond the base. @return list<string> */
    public function capabilities(): array
    {
        return $this->hello->capabilities ?? [];
    }

    /**
     * For stream_select: when it is readable, call poll(). Nothing else may be done with it. Null without a channel.
     *
     * @return resource|null
     */
    public function stream()
    {
        return $this->stream;
    }

    // ---- the loop

    /**
     * Takes what handover has said, waiting up to so many seconds for the first of it, and calls the callbacks.
     * Returns whether there was anything. Without a channel it waits, too, so that a loop needs no other code; a signal ends the wait.
     */
    public function poll(float $timeout = 0.0): bool
    {
        $until = microtime(true) + $timeout;
        if ($this->socket !== null) {
            $this->receive();
        }
        if ($this->events === [] && $timeout > 0) {
            $this->pause($until);
        }
        $this->expire();
        $called = $this->events !== [];
        while ($event = array_shift($this->events)) {
            $event();
        }

        return $called;
    }

    /** Calls poll() until the worker is to drain; $tick after each, at least once a second. */
    public function run(?callable $tick = null): void
    {
        while (!$this->draining) {
            $this->poll(1.0);
            if ($tick !== null) {
                $tick($this);
            }
        }
    }

    /** With ext-pcntl: SIGTERM and SIGINT are a drain, too, also without handover. */
    public function drainOnSignals(): void
    {
        if (function_exists('pcntl_async_signals')) {
            pcntl_async_signals(true);
            foreach ([SIGTERM => 'SIGTERM', SIGINT => 'SIGINT'] as $signal => $name) {
                pcntl_signal($signal, fn () => $this->drain($name, null), false);
            }
        }
    }

    /** @param callable(string $reason, ?float $seconds): void $callback called once; also when handover is gone */
    public function onDrain(callable $callback): void
    {
        $this->onDrain = $callback(...);
    }

    /** @param callable(HandoverMessage): void $callback */
    public function onMessage(callable $callback): void
    {
        $this->onMessage = $callback(...);
    }

    /** @param callable(string $name): void $callback a listener that this worker has is no longer wanted: close it */
    public function onListenerRemoved(callable $callback): void
    {
        $this->onListenerRemoved = $callback(...);
    }

    /** @param callable(HandoverException): void $callback the channel is gone: `gone`, `version` (no common one), `protocol` */
    public function onGone(callable $callback): void
    {
        $this->onGone = $callback(...);
    }

    // ---- what the worker says

    /** The worker can serve (with `ready = "notify"`). Without a channel this and the next three go to NOTIFY_SOCKET, if there is one. */
    public function ready(): void
    {
        $this->sayOrNotify(['type' => 'ready'], 'READY=1');
    }

    /** What `handover status` shows; cut after 1,024 bytes. */
    public function status(string $text): void
    {
        $text = self::cut($text, self::TEXT_BYTES_MAX);
        $this->sayOrNotify(['type' => 'status', 'text' => $text], 'STATUS=' . strtr($text, "\n", ' '));
    }

    /** Feeds the `watchdog` of the pool. */
    public function heartbeat(): void
    {
        $this->sayOrNotify(['type' => 'heartbeat'], 'WATCHDOG=1');
    }

    /** The worker needs so much more time for its start or its end, counted from now. */
    public function extendTimeout(int $ms): void
    {
        $ms = max(0, min($ms, self::NUMBER_MAX));
        $this->sayOrNotify(['type' => 'extend_timeout', 'ms' => $ms], 'EXTEND_TIMEOUT_USEC=' . $ms * 1000);
    }

    /** The worker is ending by itself, and wishes to be followed. */
    public function stopping(): void
    {
        $this->sayOrNotify(['type' => 'stopping'], 'STOPPING=1');
    }

    /** The worker wishes to be replaced, and serves until it is told to drain. The reason is cut after 1,024 bytes. */
    public function replace(?string $reason = null): void
    {
        $this->say(['type' => 'replace'] + ($reason === null ? [] : ['reason' => self::cut($reason, self::TEXT_BYTES_MAX)]));
    }

    /**
     * A log record, with the arguments of PSR-3's LoggerInterface::log(). PSR-3's eight levels, `warn` and `trace` are known; the context
     * becomes fields (at most 64), and fills in {placeholders}. What is too long is cut. Without a channel it goes to standard error.
     *
     * @param array<string, mixed> $context
     * @throws InvalidArgumentException for another level
     */
    public function log(mixed $level, string|Stringable $message, array $context = [], ?string $target = null): void
    {
        $known = self::LEVELS[strtolower((string) $level)] ?? throw new InvalidArgumentException("no level $level");
        $fields = array_map(self::field(...), array_slice($context, 0, self::FIELDS_MAX, true));
        $line = ['type' => 'log', 'level' => $known, 'message' => self::interpolate((string) $message, $fields)];
        if ($target !== null) {
            $line['target'] = self::cut($target, self::TARGET_BYTES_MAX);
        }
        if ($fields !== []) {
            $line['fields'] = $fields;
        }
        if (in_array('log', $this->capabilities(), true) && $this->socket !== null) {
            $this->write(self::fit($line));
        } else {
            $this->printLog($line);
        }
    }

    // ---- sockets

    /**
     * The socket of the listener with this name, or of an address as in the configuration (`tcp://127.0.0.1:0`): passed at the start,
     * else from the channel; without handover, bound to $default. It is nonblocking: stream_socket_accept may return false when
     * another worker was faster.
     *
     * @return resource for stream_select and stream_socket_accept
     * @throws HandoverException if there is none, or if there are several (see listeners())
     */
    public function listener(string $name, ?string $default = null)
    {
        $all = $this->listeners($name, $default);
        if (count($all) !== 1) {
            throw new HandoverException('failed', "$name has " . count($all) . ' sockets; hint: listeners()');
        }

        return $all[0];
    }

    /** All sockets of a listener; see listener(). @return list<resource> */
    public function listeners(string $name, ?string $default = null): array
    {
        $all = $this->inherited($name);
        if ($all === []) {
            $all = $this->worker === null
                ? [$this->bind(self::isAddress($name) ? $name : $default, $name)]
                : $this->listen($name)['streams'];
        }
        foreach ($all as $stream) {
            stream_set_blocking($stream, false);
        }

        return $all;
    }

    /** Sockets that were passed at the start under this name, and were not taken yet. @return list<resource> */
    public function inherited(string $name): array
    {
        $found = array_filter($this->inherited, static fn (array $one): bool => $one[1] === $name);
        // systemd names a socket after its unit where the unit says nothing: no name that a program could ask for.
        if ($found === [] && $this->worker === null && count($this->inherited) === 1 && preg_match('/^unknown$|\.socket$/D', $this->inherited[0][1])) {
            $found = $this->inherited;
        }
        $this->inherited = array_values(array_diff_key($this->inherited, $found));

        return array_values(array_map(static fn (array $one) => self::takeFd($one[0]), $found));
    }

    /**
     * Asks handover for the sockets of a listener of the pool, or of an address that its `allow_listen` permits.
     *
     * @return array{name: string, address: string, streams: list<resource>}
     * @throws HandoverException `not_allowed`, `failed`, `unsupported`, `gone`
     */
    public function listen(string $what): array
    {
        $this->require('listen');
        [$line, $fds] = $this->ask1(['type' => 'listen', self::isAddress($what) ? 'address' : 'name' => $what]);

        return ['name' => $line->name, 'address' => $line->address, 'streams' => $fds];
    }

    // ---- messages

    /**
     * Sends a message. With $confirm it waits until handover says what became of it; fds are always confirmed, and are the receiver's
     * when this returns: close yours. With $then it does not wait, and poll() calls $then with the outcome.
     *
     * @param string|array $to "handover", "all", ['worker' => 17], ['pool' => 'web'] or ['pool' => 'web', 'slot' => 2]
     * @param list<resource|Socket> $fds at most 64, to one receiver only
     * @param ?callable(object|HandoverException): void $then
     * @return ?object with `receivers` (their number) and `refused` (a list); null if it did not wait
     * @throws HandoverException `gone`, `queue_full`, `unsupported`, `bad_request`; with fds the caller then still has them
     * @throws JsonException if the data cannot be written as JSON
     */
    public function send(string|array $to, mixed $data, array $fds = [], bool $confirm = true, ?callable $then = null): ?object
    {
        $text = self::encode(['type' => 'message', 'to' => $to], $data);
        if ($this->socket === null) {
            return $confirm ? (object) ['receivers' => 0, 'refused' => []] : null;
        }
        $this->require('messages');
        if (!$confirm && $fds === [] && $then === null) {
            $this->write($text);

            return null;
        }
        $outcome = static fn (object $line): object => (object) ['receivers' => $line->receivers, 'refused' => $line->refused];

        return $this->wait(['type' => 'message', 'to' => $to], $data, $fds, self::ANSWER_SECONDS, $outcome, $then);
    }

    /**
     * Asks one worker, or handover, and gives the answer: `data`, `from`, and `fds` (streams). With $then it does not wait, and poll()
     * calls $then with the answer. While it waits, messages that come are kept for poll(): two workers that ask each other this way
     * both wait until the time is up.
     *
     * @param string|array $to "handover", ['worker' => 17] or ['pool' => 'web', 'slot' => 2]
     * @param list<resource|Socket> $fds
     * @param int $timeoutMs at most 3,600,000
     * @param ?callable(object|HandoverException): void $then
     * @throws HandoverException `gone`, `timeout`, `queue_full`, …, or what the other worker refused with
     * @throws JsonException if the data cannot be written as JSON
     */
    public function ask(string|array $to, mixed $data, int $timeoutMs = 30000, array $fds = [], ?callable $then = null): ?object
    {
        $line = ['type' => 'message', 'to' => $to, 'reply' => true, 'timeout_ms' => max(1, min($timeoutMs, 3600000))];
        self::encode($line, $data);
        $this->require('messages');
        $answer = static fn (object $line, array $fds): object => (object) ['data' => $line->data, 'from' => $line->from, 'fds' => $fds];

        return $this->wait($line, $data, $fds, $timeoutMs / 1000, $answer, $then);
    }

    /**
     * Waits until fds that were sent have arrived (a second at most), and closes the channel: the worker goes on as a plain one, and handover
     * replaces it unless it drains or said stopping(). Call it at the end.
     */
    public function close(): void
    {
        $this->waitFor(fn (): bool => $this->unacknowledged === [], microtime(true) + 1.0);
        $this->lost(new HandoverException('gone', 'the channel was closed by the program'), false);
    }

    /** @internal a reply or a refusal; a message of before the channel's end is answered to nobody */
    public function answer(array $line, mixed $data, array $fds): void
    {
        if ($line['type'] === 'refused') {
            $line['reason'] = self::cut($line['reason'], self::TEXT_BYTES_MAX);
            unset($this->owed[$line['re']]);
            $this->say($line);

            return;
        }
        if ($fds !== []) {
            $line += ['id' => $this->nextId++, 'fds' => count($fds)];
        }
        $text = self::encode($line, $data);
        unset($this->owed[$line['re']]);
        $this->write($text, $fds, $line['id'] ?? null);
    }

    // ---- questions and answers

    private function require(string $capability): void
    {
        if ($this->socket === null) {
            throw new HandoverException('gone', 'there is no channel');
        }
        if (!in_array($capability, $this->capabilities(), true)) {
            throw new HandoverException('unsupported', "handover has no capability $capability");
        }
    }

    /** A question and its answer: at once, or to $then by poll(). */
    private function wait(array $line, mixed $data, array $fds, float $seconds, callable $shape, ?callable $then): ?object
    {
        if ($then === null) {
            return $shape(...$this->ask1($line, $data, $fds, $seconds));
        }
        $this->question($line, $data, $fds, $seconds, function (object $answer, array $fds = []) use ($shape, $then): void {
            $this->events[] = static fn () => $then($answer instanceof HandoverException ? $answer : $shape($answer, $fds));
        });

        return null;
    }

    /** Asks and waits. @return array{object, list<resource>} */
    private function ask1(array $line, mixed $data = null, array $fds = [], float $seconds = self::ANSWER_SECONDS): array
    {
        $answer = null;
        $this->question($line, $data, $fds, $seconds, static function (object $line, array $fds = []) use (&$answer): void {
            $answer = [$line, $fds];
        });
        $this->inCall = true;
        while ($answer === null) {
            $this->waitFor(static function () use (&$answer): bool { return $answer !== null; }, microtime(true) + 1.0);
            $this->expire();
        }
        $this->inCall = false;
        if ($answer[0] instanceof HandoverException) {
            throw $answer[0];
        }

        return $answer;
    }

    private function question(array $line, mixed $data, array $fds, float $seconds, callable $done): void
    {
        if ($fds !== []) {
            $this->require('fds');
        }
        $line['id'] = $this->nextId++;
        if ($fds !== []) {
            $line['fds'] = count($fds);
        }
        $answer = match (true) {
            $line['type'] === 'listen' => 'grant',
            $line['reply'] ?? false => 'reply',
            default => 'sent',
        };
        $this->questions[$line['id']] = [$done, microtime(true) + $seconds + self::ANSWER_MARGIN_SECONDS, $answer];
        $text = $line['type'] === 'message' ? self::encode($line, $data) : self::json($line);
        $this->write($text, $fds, $line['id']);
    }

    private function settle(int $id, object $answer, array $fds = []): void
    {
        unset($this->unacknowledged[$id]);
        if (isset($this->questions[$id])) {
            [$done, , $wanted] = $this->questions[$id];
            unset($this->questions[$id]);
            if (!$answer instanceof HandoverException && $answer->type !== $wanted) {
                [$answer, $fds] = [new HandoverException('failed', "it was answered with $answer->type"), []];
            }
            $done($answer, $fds);
        }
    }

    private function expire(): void
    {
        foreach ($this->questions as $id => [, $until]) {
            if (microtime(true) > $until) {
                $this->settle($id, new HandoverException('timeout', 'no answer'));
            }
        }
    }

    // ---- what handover says

    private function take(string $bytes): void
    {
        $line = $this->parse($bytes);
        $count = $line->fds ?? 0;
        if ($count > count($this->fds)) {
            throw new HandoverException('protocol', 'a line came without its fds');
        }
        $fds = array_splice($this->fds, 0, $count);
        $known = isset(self::LINES[$line->type]);
        $id = self::isKind('number', $line->id ?? null) ? $line->id : null;
        if (!$known) {
            $this->unknown($line->type, $id);

            return;
        }
        if ($count > 0 && $id === null) {
            throw new HandoverException('protocol', "\"$line->type\" with fds and without \"id\"");
        }
        if ($count > 0) {
            $this->say(['type' => 'ack', 're' => $id]);
        }
        $this->obey($line, $fds);
    }

    /** A line of a later version: ignored, but whoever waits for its answer is told. */
    private function unknown(string $type, ?int $id): void
    {
        if ($this->hello === null) {
            throw new HandoverException('protocol', "\"$type\" before \"hello\"");
        }
        if ($id !== null) {
            $this->say(['type' => 'refused', 're' => $id, 'error' => 'unsupported', 'reason' => 'lines of this type are not known here']);
        }
    }

    private function obey(object $line, array $fds): void
    {
        if ($line->type === 'hello' && $this->hello !== null) {
            throw new HandoverException('protocol', 'a second "hello"');
        }
        if ($line->type !== 'hello' && $line->type !== 'refused' && $this->hello === null) {
            throw new HandoverException('protocol', "\"$line->type\" before \"hello\"");
        }
        match ($line->type) {
            'hello' => $this->greet($line),
            'ping' => $this->ping($line->id),
            'drain' => $this->drain($line->reason, $line->deadline_ms ?? null),
            'grant', 'sent', 'reply' => $this->settle($line->re, $line, $fds),
            'ack' => $this->acknowledged($line->re),
            'refused' => $this->refused($line),
            'message' => $this->message($line, $fds),
            'listener_removed' => $this->event(fn () => $this->onListenerRemoved && ($this->onListenerRemoved)($line->name)),
        };
    }

    private function greet(object $line): void
    {
        $this->hello = $line;
        if (!self::isSpoken($line)) {
            $this->hello = (object) ['capabilities' => []];
            $this->lost(new HandoverException('version', 'handover does not speak version ' . self::VERSION), false);
        }
    }

    /** Answered from where the program works: in its turn by poll(), or from within the call that waits. */
    private function ping(int $id): void
    {
        $pong = fn () => $this->say(['type' => 'pong', 're' => $id]);
        $this->inCall ? $pong() : $this->event($pong);
    }

    private function acknowledged(int $id): void
    {
        unset($this->unacknowledged[$id]);
    }

    private function refused(object $line): void
    {
        $cause = new HandoverException($line->error, $line->reason ?? '');
        if (isset($line->re)) {
            $this->settle($line->re, $cause);
        } else {
            $this->farewell = $cause;
        }
    }

    private function message(object $line, array $fds): void
    {
        $question = ($line->reply ?? false) ? $line->id : null;
        if ($question !== null && isset($this->owed[$question])) {
            throw new HandoverException('protocol', "the id $question is still in use");
        }
        if ($question !== null) {
            $this->owed[$question] = true;
        }
        $message = new HandoverMessage($this, $line->from, $line->data, $fds, $question);
        $this->event(function () use ($message): void {
            if ($this->onMessage !== null) {
                ($this->onMessage)($message);
            } else {
                $message->refuse('unsupported', 'this worker takes no messages');
            }
        });
    }

    private function event(callable $event): void
    {
        $this->events[] = $event;
    }

    private function drain(string $reason, ?int $ms): void
    {
        if ($this->draining) {
            return;
        }
        $this->draining = true;
        $this->deadline = $ms === null ? null : microtime(true) + $ms / 1000;
        $this->event(fn () => $this->onDrain && ($this->onDrain)($reason, $this->remaining()));
    }

    /** handover broke the rules: the channel's end. */
    private function breach(string $reason): void
    {
        $this->say(['type' => 'refused', 'error' => 'protocol', 'reason' => $reason]);
        $this->lost(new HandoverException('protocol', $reason), false);
    }

    /** handover's end is closed. After a `refused` it lives, and will follow this worker up; without, its address may be taken soon. */
    private function ended(): void
    {
        $this->lost($this->farewell ?? new HandoverException('gone', 'handover is gone'), $this->farewell === null);
    }

    private function lost(HandoverException $cause, bool $drain): void
    {
        if ($this->socket === null) {
            return;
        }
        // Copies of the fd may be left (php://fd makes one, and the original cannot be closed): handover sees the end all the same.
        @socket_shutdown($this->socket, 2);
        $this->socket = $this->stream = null;
        $this->buffer = $this->out = '';
        $this->fds = $this->unacknowledged = [];
        foreach (array_keys($this->questions) as $id) {
            $this->settle($id, $cause);
        }
        $this->event(fn () => $this->onGone && ($this->onGone)($cause));
        if ($drain) {
            $this->drain($cause->reason, null);
        }
    }

    // ---- lines

    /** @throws HandoverException if it breaks the rules */
    private function parse(string $bytes): object
    {
        $line = self::decode($bytes);
        if (!is_object($line)) {
            throw new HandoverException('protocol', 'a line is not an object');
        }
        if (!is_string($line->type ?? null)) {
            throw new HandoverException('protocol', 'a line has no "type"');
        }
        if (!in_array($line->type, ['message', 'reply'], true) && strlen($bytes) + 1 > self::LINE_BYTES_MAX) {
            throw new HandoverException('protocol', 'a line is too long');
        }
        $members = self::LINES[$line->type] ?? ['fds?' => 'fds'];
        foreach ($members as $key => $kind) {
            $name = rtrim($key, '?');
            if (!property_exists($line, $name) ? $key === $name : !self::isKind($kind, $line->$name)) {
                throw new HandoverException('protocol', "\"$line->type\" with a wrong or missing \"$name\"");
            }
            if ($name === 'versions' && !self::isSpoken($line)) {
                return $line; // of another version: what else it has may be anything
            }
        }
        if (!isset($members['fds']) && !isset($members['fds?']) && ($line->fds ?? 0) !== 0) {
            throw new HandoverException('protocol', "\"$line->type\" with fds");
        }
        if ($line->type === 'message' && ($line->reply ?? false) && !isset($line->id)) {
            throw new HandoverException('protocol', 'a question without "id"');
        }

        return $line;
    }

    private static function decode(string $bytes): mixed
    {
        try {
            return json_decode($bytes, false, self::NESTING_MAX, JSON_THROW_ON_ERROR);
        } catch (JsonException $error) {
            if ($error->getCode() !== JSON_ERROR_INVALID_PROPERTY_NAME) {
                throw new HandoverException('protocol', 'a line is not JSON: ' . $error->getMessage());
            }
        }
        // A name that begins with a zero byte is allowed in JSON and not in PHP's objects.
        return (object) json_decode($bytes, true, self::NESTING_MAX);
    }

    private static function isKind(string $kind, mixed $value): bool
    {
        return match ($kind) {
            'any' => true,
            'string' => is_string($value),
            'number' => is_int($value) && $value >= 0 && $value <= self::NUMBER_MAX,
            'fds' => is_int($value) && $value >= 0 && $value <= self::FDS_MAX,
            'boolean' => is_bool($value),
            'some fds' => is_int($value) && $value >= 1 && $value <= self::FDS_MAX,
            'not reached' => is_array($value) && array_filter($value, self::isNotReached(...)) === $value,
            'words' => is_array($value) && array_filter($value, 'is_string') === $value,
            'range' => is_array($value) && array_filter($value, 'is_int') === $value && count($value) === 2,
            'peer' => $value === 'handover' || self::isWorker((object) $value),
        };
    }

    private static function isWorker(object $value): bool
    {
        return is_string($value->pool ?? null) && self::isKind('number', $value->slot ?? null) && self::isKind('number', $value->worker ?? null);
    }

    private static function isNotReached(mixed $value): bool
    {
        return is_object($value) && self::isKind('number', $value->worker ?? null) && is_string($value->error ?? null);
    }

    private static function isSpoken(object $hello): bool
    {
        return $hello->versions[0] <= self::VERSION && $hello->version >= self::VERSION;
    }

    /** The text of a `message` or a `reply`. Throws where it would be the channel's end. */
    private static function encode(array $line, mixed $data): string
    {
        $json = json_encode($data, self::JSON | JSON_THROW_ON_ERROR, self::NESTING_MAX - 1);
        if (strlen($json) > self::DATA_BYTES_MAX) {
            throw new HandoverException('bad_request', 'data is longer than ' . self::DATA_BYTES_MAX . ' bytes');
        }
        if (($line['fds'] ?? 0) > self::FDS_MAX) {
            throw new HandoverException('bad_request', 'more than ' . self::FDS_MAX . ' fds');
        }

        return substr(self::json($line), 0, -1) . ",\"data\":$json}";
    }

    private static function json(array $line): string
    {
        return json_encode($line, self::JSON | JSON_INVALID_UTF8_SUBSTITUTE | JSON_PARTIAL_OUTPUT_ON_ERROR);
    }

    private function say(array $line): void
    {
        $this->write(self::json($line));
    }

    private function sayOrNotify(array $line, string $notification): void
    {
        if (!$this->isChild() && $this->socket !== null) {
            $this->say($line);
        } elseif ($path = getenv('NOTIFY_SOCKET')) {
            $to = @stream_socket_client('udg://' . ($path[0] === '@' ? "\0" . substr($path, 1) : $path));
            if ($to !== false) {
                @fwrite($to, $notification);
            }
        }
    }

    // ---- the socket

    /** Whether this process was forked by the one that the channel belongs to; from then on it is as without. */
    private function isChild(): bool
    {
        if ($this->pid === getmypid()) {
            return false;
        }
        $this->socket = $this->stream = null;
        $this->questions = $this->unacknowledged = $this->fds = [];

        return true;
    }

    /** Opens the channel; false where the fd is no Unix stream socket (any more). */
    private function open(int $number): bool
    {
        $stream = @fopen("php://fd/$number", 'r+');
        if ($stream === false || !str_ends_with(stream_get_meta_data($stream)['stream_type'], '_socket')) {
            return false;
        }
        $socket = socket_import_stream($stream);
        $unix = PHP_OS_FAMILY !== 'Linux' || @socket_get_option($socket, SOL_SOCKET, self::SO_DOMAIN) === AF_UNIX;
        if (!$unix || @socket_get_option($socket, SOL_SOCKET, SO_TYPE) !== SOCK_STREAM) {
            return false;
        }
        // php://fd is a copy without close-on-exec; one that came by SCM_RIGHTS has it. The original goes, where PHP can do that.
        $this->stream = self::received($stream);
        $this->socket = socket_import_stream($this->stream);
        socket_set_nonblock($this->socket);
        self::system('close', $number);

        return true;
    }

    /** A stream of an fd that the process was started with. @return resource */
    private static function takeFd(int $number)
    {
        $stream = @fopen("php://fd/$number", 'r+');
        if ($stream === false) {
            throw new HandoverException('failed', "fd $number of LISTEN_FDS is not open");
        }
        $received = self::received($stream);
        self::system('cloexec', $number);

        return $received;
    }

    /**
     * The same socket, sent through a pair to this very process: then it is close-on-exec.
     *
     * @param resource $stream
     * @return resource
     */
    private static function received($stream)
    {
        socket_create_pair(AF_UNIX, SOCK_STREAM, 0, $pair);
        socket_sendmsg($pair[0], ['iov' => ['.'], 'control' => [['level' => SOL_SOCKET, 'type' => SCM_RIGHTS, 'data' => [$stream]]]], 0);
        $message = ['buffer_size' => 1, 'controllen' => socket_cmsg_space(SOL_SOCKET, SCM_RIGHTS, 1)];
        socket_recvmsg($pair[1], $message, self::closeOnExec());

        return self::asStream($message['control'][0]['data'][0]);
    }

    private static function closeOnExec(): int
    {
        return PHP_OS_FAMILY === 'Linux' ? self::MSG_CMSG_CLOEXEC : 0;
    }

    /** What PHP has no function for; nothing without ext-ffi. */
    private static function system(string $what, int $fd): void
    {
        if (!extension_loaded('ffi')) {
            return;
        }
        try {
            $libc = FFI::cdef('int close(int); int fcntl(int, int, ...);');
            // F_SETFD (2) with FD_CLOEXEC (1), everywhere.
            $what === 'close' ? $libc->close($fd) : $libc->fcntl($fd, 2, 1);
        } catch (FFI\Exception) {
            // Switched off in php.ini.
        }
    }

    /** @return resource */
    private static function asStream(mixed $fd)
    {
        return $fd instanceof Socket ? socket_export_stream($fd) : $fd;
    }

    /** Reads what is there. */
    private function receive(): void
    {
        try {
            while (!$this->isChild() && $this->socket !== null && $this->receiveOnce()) {
                $this->takeLines();
            }
        } catch (HandoverException $error) {
            $this->breach($error->reason);
        }
    }

    private function receiveOnce(): bool
    {
        $message = ['buffer_size' => 65536, 'controllen' => socket_cmsg_space(SOL_SOCKET, SCM_RIGHTS, self::SCM_MAX_FD)];
        $read = @socket_recvmsg($this->socket, $message, MSG_DONTWAIT | self::closeOnExec());
        if ($read === false && in_array(socket_last_error(), [SOCKET_EAGAIN, SOCKET_EWOULDBLOCK, SOCKET_EINTR], true)) {
            return false;
        }
        if ($read === false || $read === 0) {
            $this->ended();

            return false;
        }
        foreach ($message['control'] ?? [] as $control) {
            if ($control['level'] === SOL_SOCKET && $control['type'] === SCM_RIGHTS) {
                array_push($this->fds, ...array_map(self::asStream(...), $control['data']));
            }
        }
        if ($message['flags'] & MSG_CTRUNC) {
            throw new HandoverException('protocol', 'fds were cut off; hint: the limit of open files');
        }
        $this->buffer .= $message['iov'][0];

        return true;
    }

    private function takeLines(): void
    {
        $from = 0;
        while ($this->socket !== null && ($at = strpos($this->buffer, "\n", max($from, $this->scanned))) !== false) {
            $bytes = substr($this->buffer, $from, $at - $from);
            $from = $at + 1;
            $this->tooLong(strlen($bytes) + 1);
            $this->take($bytes);
        }
        if ($this->socket === null) {
            return;
        }
        $this->buffer = substr($this->buffer, $from);
        $this->scanned = strlen($this->buffer);
        $this->tooLong($this->scanned + 1);
        if ($this->buffer === '' && $this->fds !== []) {
            throw new HandoverException('protocol', 'fds came where none belong');
        }
    }

    private function tooLong(int $bytes): void
    {
        if ($bytes > self::MESSAGE_BYTES_MAX) {
            throw new HandoverException('protocol', 'a line is too long');
        }
    }

    /** Writes a line, with its fds on the first byte. While handover takes nothing it waits, and reads, so that both go on. */
    private function write(string $text, array $fds = [], ?int $id = null): void
    {
        if ($this->isChild() || $this->socket === null) {
            return;
        }
        if ($this->out !== '') {
            // Called from within a write that waits (an answer to a ping): behind it.
            $this->out .= "$text\n";

            return;
        }
        if ($fds !== []) {
            $this->unacknowledged[$id] = $fds;
        }
        $this->out = "$text\n";
        // socket_sendmsg of PHP 8 puts Socket objects at the wrong place; streams it gets right.
        $control = $fds === [] ? [] : [['level' => SOL_SOCKET, 'type' => SCM_RIGHTS, 'data' => array_map(self::asStream(...), array_values($fds))]];
        while ($this->out !== '' && $this->socket !== null) {
            $message = ['iov' => [substr($this->out, 0, 262144)]] + ($control === [] ? [] : ['control' => $control]);
            $sent = @socket_sendmsg($this->socket, $message, MSG_DONTWAIT | MSG_NOSIGNAL);
            if ($sent !== false) {
                $this->out = substr($this->out, $sent);
                $control = [];
            } elseif (in_array(socket_last_error(), [SOCKET_EAGAIN, SOCKET_EWOULDBLOCK, SOCKET_EINTR], true)) {
                $this->select(null, true);
                [$before, $this->inCall] = [$this->inCall, true];
                $this->receive();
                $this->inCall = $before;
            } else {
                // What handover said before it went is still to be read, its end among it.
                $this->out = '';
                $this->receive();

                return;
            }
        }
    }

    private function waitFor(callable $done, float $until): void
    {
        while (!$this->isChild() && !$done() && $this->socket !== null && microtime(true) < $until) {
            $this->select($until, false);
            $this->receive();
        }
    }

    private function pause(float $until): void
    {
        if ($this->socket !== null) {
            $this->waitFor(fn (): bool => $this->events !== [], $until);
        }
        if ($this->socket === null && $this->events === []) {
            usleep(max(0, (int) (($until - microtime(true)) * 1e6))); // a signal ends it
        }
    }

    private function select(?float $until, bool $write): void
    {
        $read = [$this->socket];
        $writable = $write ? [$this->socket] : null;
        $except = null;
        $left = $until === null ? null : max(0.0, $until - microtime(true));
        @socket_select($read, $writable, $except, $left === null ? null : (int) $left, $left === null ? 0 : (int) (fmod($left, 1) * 1e6));
    }

    // ---- sockets of the start, and of one's own

    /** @return list<array{int, string}> */
    private static function inheritedFds(): array
    {
        $pid = getenv('LISTEN_PID');
        if ($pid !== false && (int) $pid !== getmypid()) {
            return [];
        }
        $names = explode(':', (string) getenv('LISTEN_FDNAMES'));
        $fds = [];
        for ($at = 0; $at < (int) getenv('LISTEN_FDS'); $at++) {
            $fds[] = [3 + $at, ($names[$at] ?? '') === '' ? 'unknown' : $names[$at]];
        }

        return $fds;
    }

    private static function isAddress(string $name): bool
    {
        return preg_match('/^(tcp|udp|unix|unix-dgram|unix-seqpacket|vsock):/', $name) === 1;
    }

    /** @return resource */
    private function bind(?string $address, string $name)
    {
        if ($address === null) {
            throw new HandoverException('failed', "no socket \"$name\" was passed, and no address to bind was given");
        }
        $local = preg_replace(['/^unix-dgram:/', '/^(unix|udg):@/'], ['udg:', "$1://\0"], $address);
        $datagram = preg_match('/^(udp|udg):/', $local) === 1;
        $context = stream_context_create(['socket' => ['backlog' => 511]]);
        $stream = @stream_socket_server($local, $errno, $error, $datagram ? STREAM_SERVER_BIND : STREAM_SERVER_BIND | STREAM_SERVER_LISTEN, $context);

        return $stream ?: throw new HandoverException('failed', "$address: $error");
    }

    // ---- texts

    /** The text in UTF-8, cut to so many bytes at the border of a character. */
    private static function cut(string $text, int $bytes): string
    {
        $text = (string) json_decode((string) json_encode($text, JSON_INVALID_UTF8_SUBSTITUTE));
        if (strlen($text) <= $bytes) {
            return $text;
        }
        while ($bytes > 0 && (ord($text[$bytes]) & 0xC0) === 0x80) {
            $bytes--;
        }

        return substr($text, 0, $bytes);
    }

    private static function field(mixed $value): mixed
    {
        return match (true) {
            is_float($value) && !is_finite($value) => (string) $value,
            is_resource($value) => get_debug_type($value),
            $value instanceof Stringable => (string) $value, // exceptions are
            default => $value,
        };
    }

    private static function interpolate(string $message, array $fields): string
    {
        $pairs = [];
        foreach ($fields as $key => $value) {
            if (is_scalar($value)) {
                $pairs["{{$key}}"] = is_bool($value) ? json_encode($value) : (string) $value;
            }
        }

        return strtr($message, $pairs);
    }

    /** The text of a log line that the protocol takes: what is too long is cut, the message first. */
    private static function fit(array $line): string
    {
        for (;;) {
            $fields = isset($line['fields']) ? ['fields' => (object) $line['fields']] : [];
            $text = self::json($fields + $line);
            $excess = strlen($text) + 1 - self::LINE_BYTES_MAX;
            if ($excess <= 0) {
                return $text;
            }
            $bytes = strlen($line['message']);
            if ($bytes > self::TEXT_BYTES_MAX) {
                $line['message'] = self::cut($line['message'], max(self::TEXT_BYTES_MAX - 3, min($bytes - $excess, $bytes >> 1))) . '…';
            } else {
                $line['fields'] = self::shortened($line['fields']);
            }
        }
    }

    private static function shortened(array $fields): array
    {
        $sizes = array_map(static fn (mixed $value): int => strlen(self::json([$value])), $fields);
        arsort($sizes);
        $largest = array_key_first($sizes);
        if (is_string($fields[$largest]) && strlen($fields[$largest]) > 512) {
            $fields[$largest] = self::cut($fields[$largest], 500) . '…';
        } else {
            unset($fields[$largest]);
        }

        return $fields;
    }

    /** A record for standard error: with the level that handover and systemd read there, or for people. */
    private function printLog(array $line): void
    {
        $text = (isset($line['target']) ? "{$line['target']}: " : '') . $line['message'];
        foreach ($line['fields'] ?? [] as $key => $value) {
            $text .= " $key=" . (is_string($value) ? $value : json_encode($value, self::JSON | JSON_INVALID_UTF8_SUBSTITUTE | JSON_PARTIAL_OUTPUT_ON_ERROR));
        }
        $captured = $this->pool !== null || getenv('JOURNAL_STREAM') !== false;
        $prefix = $captured ? '<' . ['error' => 3, 'warn' => 4, 'info' => 6, 'debug' => 7, 'trace' => 7][$line['level']] . '>' : "{$line['level']}: ";
        @file_put_contents('php://stderr', $prefix . strtr($text, "\n", ' ') . "\n");
    }
}

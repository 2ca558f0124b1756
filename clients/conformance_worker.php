<?php

declare(strict_types=1);

// The program that conformance.py starts to try handover.php. What it must do is in README.md.

require __DIR__ . '/handover.php';

final class ConformanceWorker
{
    private int $underWay = 0;
    /** @var list<resource> */
    private array $held = [];
    /** @var list<HandoverMessage> */
    private array $questions = [];
    /** @var resource|null */
    private $listener = null;

    public function __construct(private Handover $handover)
    {
    }

    public function main(): void
    {
        $handover = $this->handover;
        $handover->drainOnSignals();
        $handover->onMessage($this->obey(...));
        $handover->onListenerRemoved(fn (string $name) => $this->send(['removed' => $name]));
        $handover->onGone($this->gone(...));
        $handover->isOpen() ? $handover->ready() : $this->plain();
        while (!$handover->isDraining() || $this->underWay > 0) {
            $handover->poll(60);
        }
        $handover->poll();
        $handover->close();
    }

    private function gone(HandoverException $cause): void
    {
        match ($cause->error) {
            'gone' => null,
            'version' => $this->plain(),
            default => $this->lost(),
        };
    }

    private function lost(): void
    {
        $this->handover->status('lost');
        print("lost\n");
    }

    private bool $isPlain = false;

    private function plain(): void
    {
        if ($this->isPlain) {
            return;
        }
        $this->isPlain = true;
        $this->handover->status('without handover');
        $this->handover->heartbeat();
        $this->handover->extendTimeout(20000);
        $this->handover->log('info', 'plain');
        $this->handover->ready();
        print("plain\n");
    }

    private function send(array $report): void
    {
        $this->handover->send('handover', $report, confirm: false);
    }

    private function report(object $order, array $outcome): void
    {
        $this->send(['outcome' => $outcome] + (isset($order->tag) ? ['tag' => $order->tag] : []));
    }

    private function obey(HandoverMessage $message): void
    {
        $order = $message->data;
        $do = is_object($order) ? $order->do ?? '' : '';
        if ($do === 'hold') {
            array_push($this->held, ...$message->fds);
            $this->questions[] = $message;
        } elseif ($do === 'from') {
            $message->reply($message->from);
        } elseif ($message->fds !== []) {
            $this->taken($message->fds);
            $message->reply(['fds' => count($message->fds)]);
        } elseif ($message->from === 'handover') {
            $this->carryOut($do, $order, $message);
        }
    }

    private function carryOut(string $do, mixed $order, HandoverMessage $message): void
    {
        $handover = $this->handover;
        match ($do) {
            'about' => $this->report($order, ['about' => ['loop' => false]]),
            'echo' => $message->reply($order->data),
            'refuse' => $message->refuse($order->error, 'as ordered'),
            'send' => $this->sendMessage($order),
            'send_fd' => $this->sendFd($order),
            'flood' => $this->flood($order->count, $order->size),
            'log' => $handover->log($order->level, $order->message, (array) ($order->fields ?? []), $order->target ?? null),
            'status' => $handover->status($order->text),
            'heartbeat' => $handover->heartbeat(),
            'extend_timeout' => $handover->extendTimeout($order->ms),
            'replace' => $handover->replace($order->reason ?? null),
            'stopping' => $handover->stopping(),
            'listen' => $this->listen($order),
            'inherited' => $this->inherited($order),
            'accept' => $this->accept(),
            'release' => $this->release(),
            'reply_fd' => $this->replyFd($message),
            'fork' => $this->fork($order),
            'run' => $this->run($order),
            'hang' => $this->hang(),
            default => null,
        };
    }

    /** Begins a question whose outcome is reported when it is there. */
    private function ask(object $order, callable $begin, callable $shape): void
    {
        $this->underWay++;
        $done = function (object $answer) use ($order, $shape): void {
            $this->underWay--;
            $this->report($order, $answer instanceof HandoverException ? ['refused' => ['error' => $answer->error]] : $shape($answer));
        };
        try {
            $begin($done);
        } catch (HandoverException $refused) {
            $done($refused);
        }
    }

    private function replied(object $answer): array
    {
        $this->taken($answer->fds);

        return ['reply' => $answer->data, 'from' => $answer->from] + ($answer->fds === [] ? [] : ['fds' => count($answer->fds)]);
    }

    private function replyFd(HandoverMessage $message): void
    {
        [$near, $far] = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
        fwrite($near, "fd\n");
        fclose($near);
        $message->reply('fd', [$far]);
    }

    private function release(): void
    {
        $this->taken(array_splice($this->held, 0));
        foreach (array_splice($this->questions, 0) as $question) {
            $question->reply(true);
        }
    }

    private function fork(object $order): void
    {
        if (!function_exists('pcntl_fork')) {
            $this->report($order, ['unsupported' => 'without ext-pcntl']);

            return;
        }
        $child = pcntl_fork();
        if ($child === 0) {
            $this->handover->status('from a child');
            $this->handover->poll();
            posix_kill(getmypid(), SIGKILL);
        }
        pcntl_waitpid($child, $status);
        $this->report($order, ['forked' => true]);
    }

    private function sendMessage(object $order): void
    {
        $to = is_string($order->to) ? $order->to : (array) $order->to;
        if ($order->reply ?? false) {
            $this->ask(
                $order,
                fn (callable $then) => $this->handover->ask($to, $order->data, $order->timeout_ms ?? 30000, then: $then),
                $this->replied(...),
            );
        } elseif ($order->id ?? false) {
            $this->ask($order, fn (callable $then) => $this->handover->send($to, $order->data, then: $then), fn (object $sent): array => ['sent' => $sent]);
        } else {
            $this->handover->send($to, $order->data, confirm: false);
        }
    }

    private function sendFd(object $order): void
    {
        [$near, $far] = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
        $to = is_string($order->to) ? $order->to : (array) $order->to;
        $this->underWay++;
        $done = function (object $answer) use ($order, $near, $far): void {
            $this->underWay--;
            $outcome = ['sent' => $answer];
            if ($answer instanceof HandoverException) {
                fwrite($far, '?'); // it is this program's as before
                $outcome = ['refused' => ['error' => $answer->error], 'kept' => fread($near, 1) === '?'];
            }
            @fwrite($near, "fd\n");
            fclose($near);
            fclose($far);
            $this->report($order, $outcome);
        };
        try {
            $this->handover->send($to, 'fd', [$far], then: $done);
        } catch (HandoverException $refused) {
            $done($refused);
        }
    }

    private function flood(int $count, int $size): void
    {
        try {
            for ($n = 0; $n < $count; $n++) {
                $this->send(['n' => $n, 'pad' => str_repeat('x', $size)]);
            }
        } catch (HandoverException) {
            // More than may be sent: dropped.
        }
    }

    private function listen(object $order): void
    {
        try {
            $granted = $this->handover->listen($order->name ?? $order->address);
            $this->listener = $granted['streams'][0];
            $this->report($order, ['granted' => ['name' => $granted['name'], 'address' => $granted['address'], 'fds' => count($granted['streams'])]]);
        } catch (HandoverException $refused) {
            $this->report($order, ['refused' => ['error' => $refused->error]]);
        }
    }

    private function inherited(object $order): void
    {
        $streams = $this->handover->inherited($order->name);
        if ($streams === []) {
            $this->report($order, ['refused' => ['error' => 'missing']]);

            return;
        }
        $this->listener = $streams[0];
        $this->report($order, ['granted' => ['name' => $order->name, 'fds' => count($streams)]]);
    }

    private function accept(): void
    {
        $client = stream_socket_accept($this->listener, 60);
        fwrite($client, "hello\n");
        fclose($client);
    }

    private function taken(array $fds): void
    {
        foreach ($fds as $fd) {
            fwrite($fd, "taken\n");
            fclose($fd);
        }
    }

    private function run(object $order): void
    {
        $process = proc_open($order->command, [1 => ['pipe', 'w']], $pipes);
        $output = stream_get_contents($pipes[1]);
        proc_close($process);
        $this->report($order, ['output' => $output]);
    }

    private function hang(): never
    {
        for (;;) {
            time_nanosleep(3600, 0);
        }
    }
}

(new ConformanceWorker(Handover::connect()))->main();

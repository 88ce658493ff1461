import { fork } from 'node:child_process';
import type { DecodeReply, DecodeRequest, ProcessMessage, ProcessSettings } from './decoder-process.ts';

/** Why a process did not answer a call. */
export type LossReason = 'overdue' | 'crashed' | 'overflow';

/** The call's image did not let its process answer, or another image in the same process didn't. */
export class ProcessLost extends Error {
  readonly reason: LossReason;

  constructor(reason: LossReason) {
    super(`The decoder process is lost: ${reason}.`);
    this.reason = reason;
  }
}

/** A process that decodes what it is sent, as many images at a time as it has threads. */
export interface DecoderProcess {
  /** Resolves when it is gone. */
  readonly ended: Promise<void>;
  /**
   * The time counts from when the process is ready.
   * @throws ProcessLost when there is no answer within it
   */
  decode(request: Omit<DecodeRequest, 'id'>, limitMs: number): Promise<DecodeReply>;
  /** Memory it uses, as it last said. */
  rssBytes(): number;
  /** True when that is more than this share of what it may use. */
  isLarge(share: number): boolean;
  /** Kills it when the calls that it has are answered or given up. */
  endWhenIdle(): void;
  kill(): void;
}

export interface ProcessOptions {
  readonly entry: URL;
  readonly threads: number;
  readonly settings: ProcessSettings;
}

/** Generous: the machine may be busy, and the disk slow. */
const START_MS = 30_000;

interface Call {
  resolve(reply: DecodeReply): void;
  reject(error: ProcessLost): void;
}

export function startProcess({ entry, threads, settings }: ProcessOptions): DecoderProcess {
  const child = fork(entry, {
    execArgv: [],
    serialization: 'advanced',
    // What libvips prints about a broken image is a stranger's text.
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    // No secret of this process is worth anything to a decoder. Few arenas keep the allocator from hoarding.
    env: { UV_THREADPOOL_SIZE: String(threads), MALLOC_ARENA_MAX: '2' },
  });
  const calls = new Map<number, Call>();
  const ready = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<void>();
  let lastId = 0;
  let rssBytes = 0;
  let isEnding = false;
  let reason: LossReason = 'crashed';

  /** A process that has nothing to do doesn't keep its parent alive, and ends with it. */
  function holdParent(isNeeded: boolean): void {
    for (const handle of [child, child.channel]) handle?.[isNeeded ? 'ref' : 'unref']();
  }

  holdParent(false);
  // Those who wait for it are told; nobody may be waiting.
  ready.promise.catch(() => undefined);

  function kill(): void {
    // Who waits for its end sees it.
    child.ref();
    child.kill('SIGKILL');
  }

  const startTimer = setTimeout(kill, START_MS).unref();

  function settle(id: number, answer: (call: Call) => void): void {
    const call = calls.get(id);
    if (call === undefined) return;
    calls.delete(id);
    answer(call);
    if (calls.size > 0) return;
    holdParent(false);
    if (isEnding) kill();
  }

  function onEnd(): void {
    clearTimeout(startTimer);
    ready.reject(new ProcessLost(reason));
    for (const id of calls.keys()) settle(id, (call) => call.reject(new ProcessLost(reason)));
    ended.resolve();
  }

  child.on('message', (message: ProcessMessage) => {
    if (message.kind === 'overflow') {
      reason = 'overflow';
      return;
    }
    rssBytes = message.rssBytes;
    if (message.kind !== 'ready') return settle(message.id, (call) => call.resolve(message));
    clearTimeout(startTimer);
    ready.resolve();
  });
  child.once('exit', onEnd);
  // It could not be started, or a message could not be sent: it is of no more use.
  child.on('error', () => {
    kill();
    if (child.pid === undefined) onEnd();
  });
  child.send(settings);

  return {
    ended: ended.promise,
    async decode(request, limitMs) {
      const id = ++lastId;
      const answer = Promise.withResolvers<DecodeReply>();
      calls.set(id, answer);
      holdParent(true);
      // The process reads it when it is ready.
      child.send({ ...request, id });
      let timer: NodeJS.Timeout | undefined;
      ready.promise.then(
        () => {
          timer = setTimeout(
            () => settle(id, (call) => call.reject(new ProcessLost('overdue'))),
            limitMs,
          ).unref();
        },
        () => undefined,
      );
      return answer.promise.finally(() => clearTimeout(timer));
    },
    rssBytes: () => rssBytes,
    isLarge: (share) => rssBytes > share * settings.maxMemoryBytes,
    endWhenIdle() {
      isEnding = true;
      if (calls.size === 0) kill();
    },
    kill,
  };
}

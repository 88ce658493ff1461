import { spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import type {
  DecodeReply,
  DecodeRequest,
  DecodeWork,
  ProcessMessage,
  ProcessSettings,
} from './decoder-process.ts';
import { createFrameReader, writeFrame } from './frames.ts';

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

/** What the process answered, with the parts that belong to it. */
export type Answer = DecodeReply & { readonly parts: readonly Uint8Array[] };

/** A process that decodes what it is sent, as many images at a time as it has threads. */
export interface DecoderProcess {
  /** False when it ends, or has ended: it should be sent nothing more. */
  isUsable(): boolean;
  /**
   * The time counts from when the process is ready.
   * @throws ProcessLost when there is no answer within it
   */
  decode(bytes: Uint8Array, work: DecodeWork, limitMs: number): Promise<Answer>;
  /** Memory it uses, as it last said. */
  rssBytes(): number;
  /** Kills it when the calls that it has are answered or given up. */
  endWhenIdle(): void;
  kill(): void;
  /** Resolves when it is gone. */
  readonly ended: Promise<void>;
}

export interface ProcessOptions {
  readonly entry: URL;
  readonly threads: number;
  readonly settings: ProcessSettings;
}

/** Generous: the machine may be busy, and the disk slow. */
const START_MS = 30_000;
/** A process without work ends after this: what its allocator has not returned by then, it keeps. */
const IDLE_MS = 10_000;
/** A busy process ends when it has grown to this share of what it may take. */
const REPLACE_AT = 0.75;

interface Call {
  resolve(answer: Answer): void;
  reject(error: ProcessLost): void;
}

export function startProcess({ entry, threads, settings }: ProcessOptions): DecoderProcess {
  // A small young generation: pixels that it has sent are freed soon.
  const options = ['--max-semi-space-size=2'];
  const child = spawn(process.execPath, [...options, fileURLToPath(entry), JSON.stringify(settings)], {
    // What libvips prints about a broken image is a stranger's text. The last one is PIPE_FD.
    stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
    // No secret of this process is worth anything to a decoder. These two keep glibc from hoarding freed memory.
    env: { UV_THREADPOOL_SIZE: String(threads), MALLOC_ARENA_MAX: '2', MALLOC_MMAP_THRESHOLD_: '1000000' },
  });
  const pipe = child.stdio[3] as Socket;
  const calls = new Map<number, Call>();
  const ready = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<void>();
  let lastId = 0;
  let rssBytes = 0;
  let isUsable = true;
  let reason: LossReason = 'crashed';
  let idleTimer: NodeJS.Timeout | undefined;

  /** A process that has nothing to do doesn't keep its parent alive, and ends with it. */
  function holdParent(isNeeded: boolean): void {
    for (const handle of [child, pipe]) handle[isNeeded ? 'ref' : 'unref']();
  }

  function kill(): void {
    isUsable = false;
    // Who waits for its end sees it.
    child.ref();
    child.kill('SIGKILL');
  }

  function endWhenIdle(): void {
    isUsable = false;
    if (calls.size === 0) kill();
  }

  function settle(id: number, answer: (call: Call) => void): void {
    const call = calls.get(id);
    if (call === undefined) return;
    calls.delete(id);
    answer(call);
    if (calls.size > 0) return;
    holdParent(false);
    if (!isUsable) kill();
    else idleTimer = setTimeout(kill, IDLE_MS).unref();
  }

  function onMessage(message: ProcessMessage, parts: readonly Buffer[]): void {
    if (message.kind === 'overflow') {
      reason = 'overflow';
      isUsable = false;
      return;
    }
    rssBytes = message.rssBytes;
    if (message.kind === 'ready') {
      clearTimeout(startTimer);
      ready.resolve();
      return;
    }
    if (rssBytes > REPLACE_AT * settings.maxMemoryBytes) isUsable = false;
    settle(message.id, (call) => call.resolve({ ...message, parts }));
  }

  function onEnd(): void {
    isUsable = false;
    clearTimeout(startTimer);
    clearTimeout(idleTimer);
    ready.reject(new ProcessLost(reason));
    for (const id of calls.keys()) settle(id, (call) => call.reject(new ProcessLost(reason)));
    ended.resolve();
  }

  const startTimer = setTimeout(kill, START_MS).unref();
  // Rejects those who wait for it; nobody may be waiting.
  ready.promise.catch(() => undefined);
  const take = createFrameReader((message, parts) => onMessage(message as ProcessMessage, parts));
  pipe.on('data', (chunk) => {
    try {
      take(chunk);
    } catch {
      // What a stranger's image made of the process writes no frames.
      kill();
    }
  });
  // Everything that it wrote was read then.
  child.once('close', onEnd);
  // It could not be started, or no longer reads: it is of no more use.
  child.on('error', () => {
    kill();
    if (child.pid === undefined) onEnd();
  });
  pipe.on('error', kill);
  holdParent(false);

  return {
    isUsable: () => isUsable,
    async decode(bytes, work, limitMs) {
      const id = ++lastId;
      const answer = Promise.withResolvers<Answer>();
      calls.set(id, answer);
      clearTimeout(idleTimer);
      holdParent(true);
      // The process reads it when it is ready.
      const request: DecodeRequest = { ...work, id };
      writeFrame(pipe, request, [bytes]);
      let timer: NodeJS.Timeout | undefined;
      ready.promise.then(
        () => {
          const giveUp = () => settle(id, (call) => call.reject(new ProcessLost('overdue')));
          timer = setTimeout(giveUp, limitMs).unref();
        },
        () => undefined,
      );
      return answer.promise.finally(() => clearTimeout(timer));
    },
    rssBytes: () => rssBytes,
    endWhenIdle,
    kill,
    ended: ended.promise,
  };
}

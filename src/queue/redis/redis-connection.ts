import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster, Redis } from 'ioredis';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { Logger } from '../../observability/logger.ts';
import type { Script } from './redis-scripts.ts';
import type { RedisTarget } from '../../config/redis-target.ts';

/** Strings, integers and lists of them: what the scripts give. */
export type Reply = string | number | null | readonly Reply[];
export type Argument = string | number;

/**
 * One connection to Redis. A call is sent again while its reply is lost and its time lasts, never afterwards:
 * what is sent must bear a repetition.
 */
export interface RedisConnection extends AsyncDisposable {
  /** @throws VitrineError `queue_unavailable`, or `queue_full` when Redis has no memory left */
  run(script: Script, keys: readonly string[], args: readonly Argument[]): Promise<Reply>;
  /** Any other command. @throws as `run` */
  call(command: string, ...args: Argument[]): Promise<Reply>;
  /** INFO of each master. */
  info(): Promise<readonly string[]>;
}

export interface ConnectionSettings {
  readonly target: RedisTarget;
  readonly commandTimeoutMs: number;
  readonly logger: Logger;
}

/** Calls wait this long for a broken connection to come back before they fail; later ones fail at once. */
const GRACE_MS = 1_000;
const PAUSE_MS = 50;

/** Replies after which the same call may succeed on the next connection or a moment later. */
const TRANSIENT = /^(READONLY|LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|MOVED|ASK|BUSY |NOREPLICAS|UNBLOCKED)/;
const REFUSED = /^(NOAUTH|WRONGPASS|NOPERM|ERR invalid password|ERR AUTH)/;
const LOST =
  /Connection is closed|max retries per request|Stream isn't writeable|Cluster isn't ready|Failed to refresh slots|ECONN|EPIPE|ETIMEDOUT|ENOTFOUND|All sentinels/;

export function createRedisConnection(settings: ConnectionSettings): RedisConnection {
  const { commandTimeoutMs, logger } = settings;
  const client = createClient(settings.target);
  let closed = false;
  let downSince: number | null = performance.now();
  let ready = Promise.withResolvers<void>();
  let refusal: Error | null = null;
  client.on('error', (error: Error) => {
    refusal = REFUSED.test(error.message) ? error : null;
    logger.debug({ error }, 'redis connection failed');
  });
  client.on('ready', () => {
    if (downSince !== null) logger.info('redis connected');
    downSince = null;
    refusal = null;
    ready.resolve();
  });
  client.on('close', () => {
    if (downSince !== null || closed) return;
    downSince = performance.now();
    ready = Promise.withResolvers();
    logger.warn('redis connection lost');
  });

  async function whenReady(since: number, deadline: number): Promise<void> {
    const limit = Math.max(0, Math.min(deadline, since + GRACE_MS) - performance.now());
    await within(limit, ready.promise, () => new Error('Connection is closed'));
  }

  async function attempt<T>(deadline: number, command: () => Promise<T>): Promise<T> {
    // Without a wait the command is written in this turn, before its caller prepares the next one.
    if (downSince !== null) await whenReady(downSince, deadline);
    return within(deadline - performance.now(), command(), () => {
      // A server that answers nothing may be behind a dead connection: the next call gets a new one.
      client.disconnect(true);
      return new Error(`no answer within ${commandTimeoutMs} ms`);
    });
  }

  async function send<T>(command: () => Promise<T>): Promise<T> {
    const deadline = performance.now() + commandTimeoutMs;
    for (;;) {
      try {
        return await attempt(deadline, command);
      } catch (error) {
        if (closed || !isTransient(error) || performance.now() + PAUSE_MS >= deadline)
          throw toQueueError(refusal ?? error);
        if (downSince !== null && performance.now() > downSince + GRACE_MS)
          throw toQueueError(refusal ?? error);
        // The address may lead to another server now: a replica that was a master, say.
        if (isReadOnly(error)) client.disconnect(true);
        await sleep(PAUSE_MS);
      }
    }
  }

  return {
    run: (script, keys, args) =>
      send(async () => {
        const rest = [keys.length, ...keys, ...args];
        try {
          return (await client.call('EVALSHA', [script.sha, ...rest])) as Reply;
        } catch (error) {
          if (!isNoScript(error)) throw error;
          return (await client.call('EVAL', [script.body, ...rest])) as Reply;
        }
      }),
    call: (command, ...args) => send(async () => (await client.call(command, args)) as Reply),
    info: () =>
      send(() =>
        Promise.all(
          (client instanceof Cluster ? client.nodes('master') : [client]).map((node) => node.info()),
        ),
      ),
    async [Symbol.asyncDispose]() {
      closed = true;
      client.disconnect();
    },
  };
}

/** The promise's outcome, or `expire()` thrown when it takes longer. */
async function within<T>(limitMs: number, promise: Promise<T>, expire: () => Error): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(expire()), Math.max(0, limitMs));
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

function createClient(target: RedisTarget): Redis | Cluster {
  const retryStrategy = (times: number) => Math.min(50 * 2 ** Math.min(times, 6), 1_000);
  const common = {
    ...target.options,
    protocol: 2 as const,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    // What is under way when the connection breaks fails at once; whether it is sent again is decided here.
    maxRetriesPerRequest: 0,
    connectTimeout: 5_000,
    keepAlive: 10_000,
  };
  if (target.kind === 'cluster') {
    const { enableOfflineQueue, ...redisOptions } = common;
    return new Cluster([...target.nodes], {
      redisOptions,
      enableOfflineQueue,
      clusterRetryStrategy: retryStrategy,
    });
  }
  return new Redis({
    ...common,
    retryStrategy,
    sentinelRetryStrategy: retryStrategy,
  });
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
const isNoScript = (error: unknown): boolean => messageOf(error).startsWith('NOSCRIPT');
const isReadOnly = (error: unknown): boolean => messageOf(error).startsWith('READONLY');
const isTransient = (error: unknown): boolean =>
  TRANSIENT.test(messageOf(error)) || LOST.test(messageOf(error));

function toQueueError(error: unknown): VitrineError {
  if (error instanceof VitrineError) return error;
  if (messageOf(error).startsWith('OOM')) {
    return new VitrineError('queue_full', 'Redis has no memory left for another job.', {
      cause: error,
      suggestion: 'Wait until workers have drained the queue, add workers, or raise maxmemory of Redis.',
      retryAfterMs: 10_000,
    });
  }
  if (REFUSED.test(messageOf(error))) {
    return new VitrineError('queue_unavailable', 'Redis refused the user or password.', {
      cause: error,
      suggestion: 'Correct the user and password in REDIS_URL; they are percent-encoded there.',
    });
  }
  return new VitrineError('queue_unavailable', 'Redis did not answer as it should.', { cause: error });
}

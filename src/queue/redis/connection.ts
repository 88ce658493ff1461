import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster, Redis } from 'ioredis';
import type { RedisTarget } from '../../config/redis-target.ts';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { Logger } from '../../observability/logger.ts';
import type { QueueKeys, Script } from './scripts.ts';

/** Strings, integers and lists of them: what Redis answers. */
export type Reply = string | number | null | readonly Reply[];
export type Argument = string | number;
export type Client = Redis | Cluster;

/**
 * One connection to Redis. A call is sent again while its reply is lost and its time lasts, never afterwards:
 * what is sent must bear a repetition.
 */
export interface RedisConnection extends AsyncDisposable {
  /**
   * @throws VitrineError `queue_unavailable`; `queue_full` when Redis has no memory left; `queue_refused` when the
   * script failed; what the check threw, while that stands
   */
  run(script: Script, keys: readonly string[], args: readonly Argument[]): Promise<Reply>;
  /** Any other command. @throws as `run` */
  call(command: string, ...args: Argument[]): Promise<Reply>;
  /**
   * Calls `listener` on each message of the channel, and whenever messages may have been missed. Resolves when it
   * listens, or does not yet after a while.
   */
  listen(channel: string, listener: () => void): Promise<void>;
}

export interface ConnectionSettings {
  readonly target: RedisTarget;
  /** Within this each call has succeeded or failed. */
  readonly commandTimeoutMs: number;
  readonly logger: Logger;
  /** Of the queue: every new connection is checked for it, and until it is right, calls wait or fail. */
  readonly keys: QueueKeys;
}

/** Calls wait this long for a broken connection to come back before they fail; later ones fail at once. */
const GRACE_MS = 1_000;
const PAUSE_MS = 50;
/** How often a server that failed its check is checked again. */
const RECHECK_MS = 1_000;

/** Replies after which the same call may succeed on the next connection or a moment later. */
const TRANSIENT = /^(READONLY|LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|MOVED|ASK|BUSY |NOREPLICAS|UNBLOCKED)/;
const DENIED = /^(NOAUTH|WRONGPASS|NOPERM|ERR invalid password|ERR AUTH)/;

export function createRedisConnection(settings: ConnectionSettings): RedisConnection {
  const { target, commandTimeoutMs, logger, keys } = settings;
  const client = createClient(target, { enableOfflineQueue: false, maxRetriesPerRequest: 0 });
  const disposed = new AbortController();
  let listening: Client | null = null;
  /** Null while calls may be sent. */
  let downSince: number | null = performance.now();
  let opened = Promise.withResolvers<void>();
  /** Why nothing may be sent, where waiting does not help. */
  let refusal: Error | null = null;

  function shut(reason: Error | null): void {
    refusal = reason;
    if (downSince !== null) return;
    downSince = performance.now();
    opened = Promise.withResolvers();
  }

  async function openWhenRight(): Promise<void> {
    while (client.status === 'ready' && !disposed.signal.aborted) {
      try {
        await within(commandTimeoutMs, checkRedis(client, keys, logger), 'the check of redis took too long');
        if (downSince !== null) logger.info('redis connected');
        downSince = null;
        refusal = null;
        opened.resolve();
        return;
      } catch (error) {
        if (error instanceof VitrineError && refusal === null) logger.error({ error }, 'redis is not usable');
        shut(error instanceof VitrineError ? error : null);
        await sleep(RECHECK_MS, undefined, { signal: disposed.signal, ref: false }).catch(() => undefined);
      }
    }
  }

  client.on('error', (error: Error) => {
    if (DENIED.test(error.message)) refusal = error;
    logger.debug({ error }, 'redis connection failed');
  });
  client.on('ready', () => void openWhenRight());
  // A new node of a Cluster may be set up otherwise.
  client.on('+node', () => void openWhenRight());
  client.on('close', () => {
    if (disposed.signal.aborted) return;
    if (downSince === null) logger.warn('redis connection lost');
    shut(DENIED.test(messageOf(refusal)) ? refusal : null);
  });

  async function attempt<T>(deadline: number, command: () => Promise<T>): Promise<T> {
    // Without a wait the command is written in this turn, before its caller prepares the next one.
    if (downSince !== null) {
      if (refusal instanceof VitrineError) throw refusal;
      const limit = Math.min(deadline, downSince + GRACE_MS) - performance.now();
      await within(limit, opened.promise, 'redis is not connected');
    }
    try {
      return await within(deadline - performance.now(), command(), `no answer within ${commandTimeoutMs} ms`);
    } catch (error) {
      // What answers nothing may be a dead connection, and what is read-only a replica that was the master.
      if (error instanceof TooLate || messageOf(error).startsWith('READONLY')) client.disconnect(true);
      throw error;
    }
  }

  async function send<T>(command: () => Promise<T>): Promise<T> {
    const deadline = performance.now() + commandTimeoutMs;
    for (;;) {
      try {
        return await attempt(deadline, command);
      } catch (error) {
        const now = performance.now();
        const isDown = downSince !== null && now > downSince + GRACE_MS;
        const mayHelp = isLost(error) || TRANSIENT.test(messageOf(error));
        if (disposed.signal.aborted || !mayHelp || isDown || now + PAUSE_MS >= deadline) {
          throw toQueueError(isLost(error) ? (refusal ?? error) : error);
        }
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
          if (!messageOf(error).startsWith('NOSCRIPT')) throw error;
          return (await client.call('EVAL', [script.body, ...rest])) as Reply;
        }
      }),

    call: (command, ...args) => send(async () => (await client.call(command, args)) as Reply),

    async listen(channel, listener) {
      // A connection that listens can do nothing else. ioredis subscribes again whenever it comes back.
      listening ??= createClient(target, { enableOfflineQueue: true, maxRetriesPerRequest: null });
      listening.on('error', () => undefined);
      listening.on('message', listener);
      listening.on('ready', listener);
      const subscribed = listening.subscribe(channel).then(listener, (error: unknown) => {
        if (!disposed.signal.aborted) logger.warn({ error }, 'redis does not let idle workers be woken');
      });
      await within(GRACE_MS, subscribed, 'not subscribed yet').catch(() => undefined);
    },

    async [Symbol.asyncDispose]() {
      disposed.abort();
      client.disconnect();
      listening?.disconnect();
    },
  };
}

class TooLate extends Error {}

/** The promise's outcome, or TooLate thrown when it takes longer. */
async function within<T>(limitMs: number, promise: Promise<T>, message: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new TooLate(message)), Math.max(0, limitMs));
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** How long a count may take. */
const COUNT_MS = 250;

/** A client for counts that nobody waits long for: while Redis is unreachable, each call fails at once. */
export function createCounterClient(target: RedisTarget): Client {
  const client = createClient(target, {
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    commandTimeout: COUNT_MS,
  });
  // Without a listener, an error of the connection would end the process.
  client.on('error', () => undefined);
  return client;
}

interface ClientOptions {
  readonly enableOfflineQueue: boolean;
  readonly maxRetriesPerRequest: number | null;
  readonly commandTimeout?: number;
}

function createClient(target: RedisTarget, options: ClientOptions): Client {
  const retryStrategy = (times: number) => Math.min(50 * 2 ** Math.min(times, 6), 1_000);
  const common = {
    ...target.options,
    protocol: 2 as const,
    // What is under way when the connection breaks fails at once; whether it is sent again is decided here.
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: options.maxRetriesPerRequest,
    ...(options.commandTimeout !== undefined && { commandTimeout: options.commandTimeout }),
    connectTimeout: 5_000,
    keepAlive: 10_000,
  };
  const { enableOfflineQueue } = options;
  if (target.kind === 'cluster') {
    return new Cluster(target.nodes, {
      redisOptions: common,
      enableOfflineQueue,
      clusterRetryStrategy: retryStrategy,
    });
  }
  return new Redis({ ...common, enableOfflineQueue, retryStrategy, sentinelRetryStrategy: retryStrategy });
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : '');

/** True when Redis did not answer; an answer that is an error is a ReplyError. */
const isLost = (error: unknown): boolean =>
  !(error instanceof VitrineError) && error instanceof Error && error.name !== 'ReplyError';

function toQueueError(error: unknown): VitrineError {
  if (error instanceof VitrineError) return error;
  const message = messageOf(error);
  if (message.startsWith('OOM')) {
    return new VitrineError('queue_full', 'Redis has no memory left for another job.', {
      cause: error,
      suggestion:
        'Lower MAX_ENDED or ENDED_TTL_HOURS, purge dead letters, add workers if many jobs wait, or raise maxmemory of Redis.',
      retryAfterMs: 10_000,
    });
  }
  if (DENIED.test(message)) {
    return new VitrineError('queue_unavailable', 'Redis refused the user or password.', {
      cause: error,
      suggestion: 'Correct the user and password of Redis; in REDIS_URL they are percent-encoded.',
    });
  }
  if (isLost(error) || TRANSIENT.test(message) || message.startsWith('MISCONF')) {
    return new VitrineError('queue_unavailable', 'Redis did not answer as it should.', { cause: error });
  }
  return new VitrineError('queue_refused', 'Redis refused what the queue sent.', { cause: error });
}

/** Of the records in Redis. It grows when an older Vitrine could not read them any more. */
const FORMAT = '2';

/**
 * Refuses a Redis that would drop jobs when it is full, or that holds a queue of another format; warns of one that
 * forgets jobs when it ends.
 *
 * @throws VitrineError `queue_unsafe`, `queue_format`
 */
async function checkRedis(client: Client, keys: QueueKeys, logger: Logger): Promise<void> {
  const masters = client instanceof Cluster ? client.nodes('master') : [client];
  for (const info of await Promise.all(masters.map((node) => node.info()))) requireSafe(info, logger);
  await requireFormat(client, keys);
}

function requireSafe(info: string, logger: Logger): void {
  const read = (name: string) => new RegExp(`^${name}:(.*)$`, 'm').exec(info)?.[1]?.trim();
  const version = read('redis_version') ?? '';
  if (Number.parseInt(version, 10) < 7) {
    throw new VitrineError('queue_unsafe', `Redis ${version} is too old.`, {
      suggestion: 'Use Redis 7.0 or later.',
    });
  }
  const policy = read('maxmemory_policy') ?? 'noeviction';
  if (policy !== 'noeviction') {
    throw new VitrineError('queue_unsafe', `Redis may drop jobs: its maxmemory-policy is ${policy}.`);
  }
  if (read('aof_enabled') === '0') {
    logger.warn('redis keeps no append-only file: jobs of its last minutes are lost when it ends abruptly');
  }
}

async function requireFormat(client: Client, { toKey }: QueueKeys): Promise<void> {
  const [format, jobs] = await Promise.all([client.get(toKey('format')), client.exists(toKey('jobs'))]);
  if (format === FORMAT) return;
  if (format !== null || jobs > 0) {
    throw new VitrineError(
      'queue_format',
      `Redis holds a queue of format ${format ?? '1'}; this Vitrine reads and writes format ${FORMAT}.`,
    );
  }
  await client.set(toKey('format'), FORMAT, 'NX');
}

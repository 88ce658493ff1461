import { resolve } from 'node:path';
import { z } from 'zod';
import { VitrineError } from '../errors/vitrine-error.ts';
import type { Environment } from './env.ts';

const flag = (fallback: boolean) =>
  z
    .enum(['true', 'false', '1', '0'], { error: 'must be true or false' })
    .transform((value) => value === 'true' || value === '1')
    .default(fallback);

const integer = (fallback: number, min: number, max: number) =>
  z.coerce
    .number({ error: 'must be a whole number' })
    .int({ error: 'must be a whole number' })
    .min(min, { error: `must be at least ${min}` })
    .max(max, { error: `must be at most ${max}` })
    .default(fallback);

const fraction = (fallback: number, min: number, max: number) =>
  z.coerce
    .number({ error: 'must be a number' })
    .min(min, { error: `must be at least ${min}` })
    .max(max, { error: `must be at most ${max}` })
    .default(fallback);

const url = (protocols: readonly string[]) =>
  z
    .string()
    .refine((value) => URL.canParse(value) && protocols.includes(new URL(value).protocol), {
      error: `must be a URL that begins with ${protocols.map((protocol) => `${protocol}//`).join(' or ')}`,
    })
    .optional();

const list = z
  .string()
  .default('')
  .transform((value) =>
    value
      .split(',')
      .map((part) => part.trim())
      .filter((part) => part !== ''),
  );

const folder = (fallback: string) =>
  z
    .string()
    .default(fallback)
    .transform((value) => resolve(value));

/** One entry a setting: its environment name, its check, its default. docs/configuration.md lists the same. */
const schema = z.object({
  HOST: z.string().default('127.0.0.1'),
  PORT: integer(8000, 0, 65_535),
  DATA_DIR: folder('./data'),
  LOG_LEVEL: z
    .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], {
      error: 'must be trace, debug, info, warn, error, fatal or silent',
    })
    .default('info'),
  LOG_FILE: z.string().optional(),

  REDIS_URL: z
    .string()
    .regex(/^rediss?(\+sentinel|\+cluster)?:\/\/./, {
      error:
        'must be an address of Redis: redis://, redis+sentinel:// or redis+cluster://, or rediss for TLS',
    })
    .optional(),
  QUEUE_PREFIX: z
    .string()
    .regex(/^[\w.-]{1,40}$/, { error: 'must be 1 to 40 letters, digits, dots, dashes or underscores' })
    .default('vitrine'),
  QUEUE_SHARDS: integer(1, 1, 256),
  QDRANT_URL: url(['http:', 'https:']),
  QDRANT_API_KEY: z.string().optional(),
  QDRANT_COLLECTION: z
    .string()
    .regex(/^[\w.-]{1,255}$/, { error: 'must be 1 to 255 letters, digits, dots, dashes or underscores' })
    .default('products'),
  QDRANT_TIMEOUT_MS: integer(30_000, 100, 600_000),

  MODEL: z.string().min(1).default('auto'),
  MODELS_DIR: folder('./models/weights'),
  MODEL_HUB_URL: url(['http:', 'https:']),
  MODELS_OFFLINE: flag(false),
  EMBEDDING_THREADS: integer(0, 0, 64),
  INTRA_OP_THREADS: integer(0, 0, 64),
  WORKER_MEMORY_LIMIT_MB: integer(0, 0, 1_000_000),

  WORKER_CONCURRENCY: integer(8, 1, 256),
  BATCH_SIZE: integer(8, 1, 256),
  SHUTDOWN_GRACE_MS: integer(20_000, 0, 600_000),
  LEASE_MS: integer(15_000, 1_000, 3_600_000),
  RETRY_ATTEMPTS: integer(3, 1, 100),
  RETRY_BASE_MS: integer(2_000, 0, 3_600_000),
  RETRY_FACTOR: fraction(2, 1, 10),
  RETRY_CAP_MS: integer(300_000, 0, 86_400_000),
  RETRY_JITTER: fraction(0.2, 0, 1),
  JOB_SOFT_TIMEOUT_MS: integer(60_000, 100, 3_600_000),
  JOB_HARD_TIMEOUT_MS: integer(3_600_000, 1_000, 604_800_000),
  MAX_PENDING: integer(0, 0, 1_000_000_000),
  ALLOW_FLUSH: flag(false),
  ALERT_BACKLOG: integer(10_000, 0, 1_000_000_000),
  ALERT_OLDEST_WAITING_MS: integer(300_000, 0, 604_800_000),
  ALERT_FAILURE_RATE: fraction(0.2, 0, 1),
  ALERT_DEAD_LETTERS: integer(10, 0, 1_000_000_000),

  IMAGE_ROOTS: list,
  IMAGE_ALLOW_HOSTS: list,
  IMAGE_TIMEOUT_MS: integer(30_000, 100, 600_000),
  IMAGE_MAX_BYTES: integer(20_000_000, 1_000, 500_000_000),
  IMAGE_MAX_PIXELS: integer(50_000_000, 10_000, 1_000_000_000),
});

type Settings = z.infer<typeof schema>;

/** All settings, by topic. Frozen; paths are absolute. */
export interface Config {
  readonly host: string;
  readonly port: number;
  readonly dataDir: string;
  readonly allowFlush: boolean;
  readonly log: { readonly level: Settings['LOG_LEVEL']; readonly file: string | undefined };
  readonly queue: {
    readonly redisUrl: string | undefined;
    readonly prefix: string;
    /** Groups of keys in Redis; a Redis Cluster spreads them over its masters. */
    readonly shards: number;
    readonly leaseMs: number;
    /** Greatest number of jobs that have not ended; 0: no limit. */
    readonly maxPending: number;
    readonly retry: {
      readonly attempts: number;
      readonly baseMs: number;
      readonly factor: number;
      readonly capMs: number;
      readonly jitter: number;
    };
  };
  /** An alert is given when its value is greater; 0: never. */
  readonly alerts: {
    /** Jobs that have not ended. */
    readonly backlog: number;
    readonly oldestWaitingMs: number;
    /** Failed attempts of all of the last minute, 0 to 1. */
    readonly failureRate: number;
    /** Dead letters of the last five minutes. */
    readonly recentlyDead: number;
  };
  readonly store: {
    readonly qdrantUrl: string | undefined;
    readonly qdrantApiKey: string | undefined;
    readonly collection: string;
    /** Deadline of one call, its retries included. */
    readonly timeoutMs: number;
  };
  readonly model: {
    readonly id: string;
    readonly dir: string;
    /** From where weights are downloaded; a mirror of the hub's layout. */
    readonly hubUrl: string;
    /** True: nothing is downloaded. */
    readonly offline: boolean;
    /** Inference threads; 0: by the processors this process may use. */
    readonly threads: number;
    /** Processors one inference call uses; 0: by the processors this process may use. */
    readonly intraOpThreads: number;
    /** The embedding thread is replaced when the process uses more; 0: by the container's limit. */
    readonly maxProcessMemoryBytes: number;
  };
  readonly worker: {
    readonly concurrency: number;
    readonly batchSize: number;
    readonly shutdownGraceMs: number;
    readonly softTimeoutMs: number;
    readonly hardTimeoutMs: number;
  };
  readonly images: {
    readonly roots: readonly string[];
    /** Hosts that may be fetched from although their addresses are private. */
    readonly allowHosts: readonly string[];
    readonly timeoutMs: number;
    readonly maxBytes: number;
    readonly maxPixels: number;
  };
}

/** The names of all settings, for the check that each is documented. */
export const SETTING_NAMES: readonly string[] = Object.keys(schema.shape);

/**
 * The configuration of an environment. An empty value counts as unset.
 * @throws VitrineError `invalid_configuration` that names every faulty setting, and never a value.
 */
export function parseConfig(environment: Environment): Config {
  const given = Object.fromEntries(
    SETTING_NAMES.filter((name) => (environment[name] ?? '') !== '').map((name) => [name, environment[name]]),
  );
  const parsed = schema.safeParse(given);
  if (!parsed.success) {
    const faults = parsed.error.issues.map((issue) => ({
      path: issue.path.join('.'),
      message: issue.message,
    }));
    const detail = faults.map((fault) => `${fault.path} ${fault.message}`).join('; ');
    throw new VitrineError('invalid_configuration', `${detail}.`, { faults });
  }
  return toConfig(parsed.data);
}

function toConfig(settings: Settings): Config {
  return deepFreeze({
    host: settings.HOST,
    port: settings.PORT,
    dataDir: settings.DATA_DIR,
    allowFlush: settings.ALLOW_FLUSH,
    log: { level: settings.LOG_LEVEL, file: settings.LOG_FILE },
    queue: {
      redisUrl: settings.REDIS_URL,
      prefix: settings.QUEUE_PREFIX,
      shards: settings.QUEUE_SHARDS,
      leaseMs: settings.LEASE_MS,
      maxPending: settings.MAX_PENDING,
      retry: {
        attempts: settings.RETRY_ATTEMPTS,
        baseMs: settings.RETRY_BASE_MS,
        factor: settings.RETRY_FACTOR,
        capMs: settings.RETRY_CAP_MS,
        jitter: settings.RETRY_JITTER,
      },
    },
    alerts: {
      backlog: settings.ALERT_BACKLOG,
      oldestWaitingMs: settings.ALERT_OLDEST_WAITING_MS,
      failureRate: settings.ALERT_FAILURE_RATE,
      recentlyDead: settings.ALERT_DEAD_LETTERS,
    },
    store: {
      qdrantUrl: settings.QDRANT_URL,
      qdrantApiKey: settings.QDRANT_API_KEY,
      collection: settings.QDRANT_COLLECTION,
      timeoutMs: settings.QDRANT_TIMEOUT_MS,
    },
    model: {
      id: settings.MODEL,
      dir: settings.MODELS_DIR,
      hubUrl: settings.MODEL_HUB_URL ?? 'https://huggingface.co',
      offline: settings.MODELS_OFFLINE,
      threads: settings.EMBEDDING_THREADS,
      intraOpThreads: settings.INTRA_OP_THREADS,
      maxProcessMemoryBytes: settings.WORKER_MEMORY_LIMIT_MB * 1_000_000,
    },
    worker: {
      concurrency: settings.WORKER_CONCURRENCY,
      batchSize: settings.BATCH_SIZE,
      shutdownGraceMs: settings.SHUTDOWN_GRACE_MS,
      softTimeoutMs: settings.JOB_SOFT_TIMEOUT_MS,
      hardTimeoutMs: settings.JOB_HARD_TIMEOUT_MS,
    },
    images: {
      roots: settings.IMAGE_ROOTS.map((root) => resolve(root)),
      allowHosts: settings.IMAGE_ALLOW_HOSTS,
      timeoutMs: settings.IMAGE_TIMEOUT_MS,
      maxBytes: settings.IMAGE_MAX_BYTES,
      maxPixels: settings.IMAGE_MAX_PIXELS,
    },
  });
}

function deepFreeze<T extends object>(value: T): T {
  for (const part of Object.values(value)) if (typeof part === 'object' && part !== null) deepFreeze(part);
  return Object.freeze(value);
}

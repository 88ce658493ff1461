import { join, resolve } from 'node:path';
import type { ApiKey } from './api-keys.ts';
import { type SettingFault, toConfigurationError } from './configuration-error.ts';
import type { Environment } from './env.ts';
import type { Language } from './languages.ts';
import { type QueueSettings, type RetryPolicy, toLeaseTimes } from './queue-settings.ts';
import { parseRedisUrl, type RedisTarget } from './redis-target.ts';
import { SETTINGS, type Settings } from './settings.ts';
import { type ShownSetting, toShownSettings } from './shown-settings.ts';

/** All settings, by topic. Frozen; paths are absolute. */
export interface Config {
  readonly host: string;
  readonly port: number;
  readonly dataDir: string;
  readonly allowFlush: boolean;
  readonly access: AccessConfig;
  readonly log: { readonly level: Settings['LOG_LEVEL']; readonly file: string | undefined };
  readonly queue: {
    /** Undefined: the queue is SQLite in `dataDir`. */
    readonly redis: RedisTarget | undefined;
    readonly prefix: string;
    readonly settings: QueueSettings;
    readonly retry: RetryPolicy;
    /** True when any RETRY_* is set: `retry` then holds for every failure that is worth a retry. */
    readonly retryIsExplicit: boolean;
    readonly spool: { readonly enabled: boolean; readonly maxBytes: number };
  };
  /** There is an alert when the value is greater; 0: never. */
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
    /** Undefined: the vectors are in SQLite in `dataDir`. */
    readonly qdrantUrl: string | undefined;
    readonly qdrantApiKey: string | undefined;
    readonly collection: string;
    /** Deadline of one call, its retries included. */
    readonly timeoutMs: number;
    /** Of the products' texts. */
    readonly language: Language;
  };
  readonly search: {
    /** Keys of metadata whose values facets count. */
    readonly facetKeys: readonly string[];
  };
  readonly model: {
    readonly id: string;
    readonly dir: string;
    /** Where weights are downloaded from: the hub or a mirror in its layout. */
    readonly hubUrl: string;
    /** True: nothing is downloaded. */
    readonly offline: boolean;
    readonly device: Settings['EMBEDDING_DEVICE'];
    /** Inference threads; 0: by the processors this process may use. */
    readonly threads: number;
    /** Processors per inference call; 0: by the processors this process may use. */
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
    /** Hosts and networks that may be fetched from although their addresses are private. */
    readonly allowedHosts: readonly string[];
    readonly allowedNetworks: readonly string[];
    /** Header fields by host. Secrets: never to be logged or shown. */
    readonly sourceHeaders: Readonly<Record<string, Readonly<Record<string, string>>>>;
    readonly contact: string | undefined;
    readonly timeoutMs: number;
    readonly maxBytes: number;
    readonly maxPixels: number;
    /** Of both sides. */
    readonly minSidePixels: number;
    /** Hex SHA-256 of encoded images that are refused. */
    readonly placeholderHashes: readonly string[];
  };
  readonly thumbnails: {
    readonly folder: string;
    /** 0: none are kept. */
    readonly maxBytes: number;
  };
  readonly webhooks: {
    /** All of them sign; none: `callback_url` is refused. */
    readonly secrets: readonly string[];
    /** What may be reported to although its addresses are private. */
    readonly allowedHosts: readonly string[];
    readonly allowedNetworks: readonly string[];
    readonly timeoutMs: number;
  };
  /** Every setting as an operator may see it. */
  readonly shown: readonly ShownSetting[];
}

/** Who may use the API, and how much of it. */
export interface AccessConfig {
  readonly keys: readonly ApiKey[];
  /** Holds the keys instead, and is read again when it changes. */
  readonly keysFile: string | undefined;
  readonly allowAnonymous: boolean;
  readonly publicUrl: string | undefined;
  readonly session: { readonly ttlMs: number; readonly secret: string | undefined };
  /** Requests per minute; 0: no limit. */
  readonly rateLimits: { readonly perKey: number; readonly perAddress: number };
  readonly connections: { readonly total: number; readonly perAddress: number };
  readonly proxies: {
    /** CIDR. */
    readonly networks: readonly string[];
    readonly header: Settings['TRUSTED_PROXY_HEADER'];
  };
}

/**
 * The configuration of an environment. An empty value counts as unset.
 * @throws VitrineError `invalid_configuration` that names every faulty setting, and never a value.
 */
export function parseConfig(environment: Environment): Config {
  const values: Record<string, unknown> = {};
  const faults: SettingFault[] = [];
  for (const [name, { check, fallback }] of Object.entries(SETTINGS)) {
    const text = environment[name] || fallback;
    if (text === undefined) continue;
    const parsed = check.safeParse(text);
    if (parsed.success) values[name] = parsed.data;
    else for (const { message } of parsed.error.issues) faults.push({ path: name, message });
  }
  for (const [name, message] of Object.entries(RENAMED)) {
    if (environment[name]) faults.push({ path: name, message });
  }
  for (const name of ['REDIS_PORT', 'REDIS_DB'] as const) {
    const differs = (environment[name] || SETTINGS[name].fallback) !== SETTINGS[name].fallback;
    if (differs && !environment['REDIS_HOST'] && !environment['REDIS_URL'])
      faults.push({ path: name, message: 'needs REDIS_HOST' });
  }
  if (environment['API_KEYS'] && environment['API_KEYS_FILE'])
    faults.push({ path: 'API_KEYS_FILE', message: "can't be set together with API_KEYS" });
  if (faults.length > 0) throw toConfigurationError(faults);
  const retryIsExplicit = SETTING_NAMES.some((name) => name.startsWith('RETRY_') && environment[name]);
  return toConfig(values as Settings, retryIsExplicit, toShownSettings(environment));
}

/** Settings of earlier versions: ignored in silence, they would leave something open or closed. */
const RENAMED: Readonly<Record<string, string>> = {
  IMAGE_ALLOW_HOSTS: 'is now IMAGE_ALLOWED_HOSTS for names and IMAGE_ALLOWED_NETWORKS for networks',
};

export const SETTING_NAMES: readonly string[] = Object.keys(SETTINGS);

/** @throws VitrineError `invalid_configuration` for an unusable REDIS_URL */
function toConfig(settings: Settings, retryIsExplicit: boolean, shown: readonly ShownSetting[]): Config {
  return deepFreeze({
    shown,
    host: settings.HOST,
    port: settings.PORT,
    dataDir: settings.DATA_DIR,
    allowFlush: settings.ALLOW_FLUSH,
    access: {
      keys: settings.API_KEYS ?? [],
      keysFile: settings.API_KEYS_FILE,
      allowAnonymous: settings.ALLOW_ANONYMOUS,
      publicUrl: settings.PUBLIC_URL,
      session: { ttlMs: settings.SESSION_HOURS * 3_600_000, secret: settings.SESSION_SECRET },
      rateLimits: { perKey: settings.RATE_LIMIT_PER_KEY, perAddress: settings.RATE_LIMIT_PER_ADDRESS },
      connections: { total: settings.MAX_CONNECTIONS, perAddress: settings.MAX_CONNECTIONS_PER_ADDRESS },
      proxies: { networks: settings.TRUSTED_PROXIES, header: settings.TRUSTED_PROXY_HEADER },
    },
    log: { level: settings.LOG_LEVEL, file: settings.LOG_FILE },
    queue: {
      redis: parseRedis(settings),
      prefix: settings.QUEUE_PREFIX,
      settings: {
        lease: toLeaseTimes(settings.LEASE_MS),
        maxPending: settings.MAX_PENDING,
        endedTtlMs: settings.ENDED_TTL_HOURS * 3_600_000,
        maxEnded: settings.MAX_ENDED,
        maxDead: settings.MAX_DEAD,
        maxDeadInlineBytes: settings.MAX_DEAD_INLINE_MB * 1_000_000,
      },
      retry: {
        attempts: settings.RETRY_ATTEMPTS,
        baseMs: settings.RETRY_BASE_MS,
        factor: settings.RETRY_FACTOR,
        capMs: settings.RETRY_CAP_MS,
        jitter: settings.RETRY_JITTER,
      },
      retryIsExplicit,
      spool: { enabled: settings.SPOOL, maxBytes: settings.SPOOL_MAX_MB * 1_000_000 },
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
      language: settings.LANGUAGE,
    },
    search: { facetKeys: settings.FACET_KEYS },
    model: {
      id: settings.MODEL,
      dir: settings.MODELS_DIR,
      hubUrl: settings.MODEL_HUB_URL,
      offline: settings.MODELS_OFFLINE,
      device: settings.EMBEDDING_DEVICE,
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
      allowedHosts: settings.IMAGE_ALLOWED_HOSTS,
      allowedNetworks: settings.IMAGE_ALLOWED_NETWORKS,
      sourceHeaders: settings.IMAGE_SOURCE_HEADERS ?? {},
      contact: settings.IMAGE_CONTACT,
      timeoutMs: settings.IMAGE_TIMEOUT_MS,
      maxBytes: settings.IMAGE_MAX_BYTES,
      maxPixels: settings.IMAGE_MAX_PIXELS,
      minSidePixels: settings.IMAGE_MIN_SIDE_PIXELS,
      placeholderHashes: settings.PLACEHOLDER_HASHES.map((hash) => hash.toLowerCase()),
    },
    thumbnails: {
      folder: settings.THUMBNAIL_CACHE_DIR ?? join(settings.DATA_DIR, 'thumbnails'),
      maxBytes: settings.THUMBNAIL_CACHE_MAX_MB * 1_000_000,
    },
    webhooks: {
      secrets: settings.WEBHOOK_SECRETS,
      allowedHosts: settings.WEBHOOK_ALLOWED_HOSTS,
      allowedNetworks: settings.WEBHOOK_ALLOWED_NETWORKS,
      timeoutMs: settings.WEBHOOK_TIMEOUT_MS,
    },
  });
}

/** REDIS_URL wins; else the server that REDIS_HOST names; else none. */
function parseRedis(settings: Settings): RedisTarget | undefined {
  if (settings.REDIS_URL !== undefined) return parseRedisUrl(settings.REDIS_URL);
  const { REDIS_HOST: host, REDIS_PORT: port, REDIS_DB: db, REDIS_PASSWORD: password } = settings;
  if (host === undefined) return undefined;
  return { kind: 'single', options: { host, port, db, ...(password !== undefined && { password }) } };
}

function deepFreeze<T extends object>(value: T): T {
  for (const part of Object.values(value)) if (typeof part === 'object' && part !== null) deepFreeze(part);
  return Object.freeze(value);
}

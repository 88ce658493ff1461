import type { z } from 'zod';
import { DEFAULT_HOST, DEFAULT_PORT } from './address.ts';
import { LANGUAGES } from './languages.ts';
import {
  apiKeys,
  contact,
  flag,
  folder,
  hashes,
  headersByHost,
  hosts,
  integer,
  type Kind,
  list,
  networks,
  number,
  oneOf,
  pattern,
  text,
  webAddress,
  webhookSecrets,
} from './setting-kinds.ts';

/** The parts of the documentation that the settings are listed in, in this order, with their titles. */
export const TOPICS = {
  process: 'The process',
  access: 'Access',
  queue: 'The queue',
  retries: 'Retries and time limits',
  alerts: 'Alerts',
  store: 'The vector store',
  model: 'The model',
  worker: 'Workers',
  images: 'Images',
  webhooks: 'Webhooks',
  compose: 'docker compose',
} as const;

export type Topic = keyof typeof TOPICS;

/** What people read about a setting. */
export interface DocumentedSetting {
  /** As it would be written in `.env`; undefined: unset. */
  readonly fallback: string | undefined;
  /** The values it may have, for people. */
  readonly values: string;
  /** One sentence or two. */
  readonly meaning: string;
}

/** One setting: an environment variable. The type in the code, `.env.example` and the docs follow from it. */
export interface Setting<T = unknown> extends DocumentedSetting {
  readonly topic: Topic;
  readonly check: z.ZodType<T, string>;
}

function setting<T>(topic: Topic, { check, values }: Kind<T>, fallback: string, meaning: string): Setting<T> {
  return { topic, check, values, fallback, meaning };
}

/** A setting without a default. */
function optional<T>(topic: Topic, kind: Kind<T>, meaning: string): Setting<T | undefined> {
  return { topic, ...kind, fallback: undefined, meaning };
}

/** Every setting, by its name in the environment. */
export const SETTINGS = {
  HOST: setting(
    'process',
    text('a host name or an address'),
    DEFAULT_HOST,
    'Address that the API listens on. `0.0.0.0` opens it to the network, which needs API keys or `ALLOW_ANONYMOUS`.',
  ),
  PORT: setting('process', integer(0, 65_535), DEFAULT_PORT, 'Port of the API. 0: any free port.'),
  DATA_DIR: setting(
    'process',
    folder,
    './data',
    'Where the SQLite files are: queue and vectors when there is no Redis or Qdrant, and jobs accepted while Redis is down.',
  ),
  LOG_LEVEL: setting(
    'process',
    oneOf('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'),
    'info',
    'The least severe messages that are logged.',
  ),
  LOG_FILE: optional(
    'process',
    text('a file'),
    'A file that log lines are also written to, such as `logs/worker.log`.',
  ),

  API_KEYS: optional(
    'access',
    apiKeys,
    'The API keys, as hashes. With any, every request needs one, but for the probes and the documentation.',
  ),
  API_KEYS_FILE: optional(
    'access',
    text('a file'),
    'A file with an entry per line instead. It is read again when it changes; replace it as a whole.',
  ),
  ALLOW_ANONYMOUS: setting(
    'access',
    flag('true, false'),
    'false',
    'Lets the API listen on an address that others can reach although there are no API keys.',
  ),
  PUBLIC_URL: optional(
    'access',
    webAddress,
    'Where people reach the API, through a proxy for example. Without API keys no other host name than this one and those of the loopback is answered. With https, cookies are sent over https only.',
  ),
  SESSION_HOURS: setting(
    'access',
    number(0.01, 8_760),
    '12',
    'How long a browser stays signed in after `POST /session`.',
  ),
  SESSION_SECRET: optional(
    'access',
    pattern(/^.{32,}$/, 'at least 32 characters'),
    'Random text, the same for all API processes. Without it, someone who has read the hashes of the keys can forge sessions.',
  ),
  SESSION_SECRET_FILE: optional('access', text('a file'), 'A file that holds the session secret instead.'),
  RATE_LIMIT_PER_KEY: setting(
    'access',
    integer(0, 1_000_000_000),
    '600000',
    'Requests per minute and API key; more are answered 429. 0: no limit.',
  ),
  RATE_LIMIT_PER_ADDRESS: setting(
    'access',
    integer(0, 1_000_000_000),
    '600000',
    'Requests per minute and client address (of IPv6: its /64 network). 0: no limit.',
  ),
  MAX_CONNECTIONS: setting('access', integer(1, 1_000_000), '4000', 'Most connections at the same time.'),
  MAX_CONNECTIONS_PER_ADDRESS: setting(
    'access',
    integer(1, 1_000_000),
    '1000',
    'Most of them from one address. Trusted proxies have no such limit.',
  ),
  TRUSTED_PROXIES: setting(
    'access',
    networks(),
    '',
    'Proxies that are believed when they say for which address, and over http or https, they ask.',
  ),
  TRUSTED_PROXY_HEADER: setting(
    'access',
    oneOf('x-forwarded-for', 'forwarded'),
    'x-forwarded-for',
    'The header in which they say it. The proxy must set it itself: clients can send either one.',
  ),
  VITRINE_API_KEY: optional(
    'access',
    text('an API key'),
    'The key that the commands of `vitrine` send to the server.',
  ),

  REDIS_URL: optional(
    'queue',
    pattern(
      /^rediss?(\+sentinel|\+cluster)?:\/\/./,
      'a Redis address: redis://, redis+sentinel:// or redis+cluster://',
    ),
    'Uses Redis for the queue; see [Redis](#redis). Wins over the other `REDIS_*` settings.',
  ),
  REDIS_HOST: optional(
    'queue',
    pattern(/^[^\s/@,]+$/, 'a host name or an address'),
    'Uses Redis for the queue, on this host. Without it and `REDIS_URL` the queue is SQLite in `DATA_DIR`.',
  ),
  REDIS_PORT: setting('queue', integer(1, 65_535), '6379', 'Port of Redis.'),
  REDIS_DB: setting('queue', integer(0, 9_999), '0', 'Number of the Redis database.'),
  REDIS_PASSWORD: optional('queue', text(), 'Password of Redis, as it is: nothing is percent-encoded.'),
  REDIS_PASSWORD_FILE: optional('queue', text('a file'), 'A file that holds the password of Redis instead.'),
  QUEUE_PREFIX: setting(
    'queue',
    pattern(/^[\w.-]{1,40}$/, '1 to 40 letters, digits, dots, dashes or underscores'),
    'vitrine',
    'First part of every key in Redis, so that several installations can share one.',
  ),
  LEASE_MS: setting(
    'queue',
    integer(1_000, 3_600_000),
    '15000',
    'How long a claimed job belongs to its worker, which renews it three times in that time.',
  ),
  MAX_PENDING: setting(
    'queue',
    integer(0, 1_000_000_000),
    '0',
    'Most jobs that have not ended; more are refused with 429. 0: no limit.',
  ),
  ENDED_TTL_HOURS: setting(
    'queue',
    number(0.01, 8_760),
    '24',
    'How long completed and cancelled jobs are kept.',
  ),
  MAX_ENDED: setting(
    'queue',
    integer(0, 1_000_000_000),
    '1000000',
    'Most completed and cancelled jobs that are kept; the oldest are dropped. A million takes about 700 MB of Redis.',
  ),
  MAX_DEAD: setting(
    'queue',
    integer(1, 1_000_000_000),
    '100000',
    'Most dead letters that are kept. An alert says when older ones were dropped.',
  ),
  MAX_DEAD_INLINE_MB: setting(
    'queue',
    integer(0, 1_000_000),
    '200',
    'Most memory for inline images of dead letters. The oldest images are dropped; their jobs stay listed.',
  ),
  SPOOL: setting(
    'queue',
    flag('on, off'),
    'on',
    'Keeps jobs in `DATA_DIR` while Redis is down. Turn it off where `DATA_DIR` is not on a durable disk: such requests are then answered 503.',
  ),
  SPOOL_MAX_MB: setting('queue', integer(1, 1_000_000), '1000', 'Most disk space for these jobs.'),
  ALLOW_FLUSH: setting('queue', flag('true, false'), 'false', 'Permits `POST /queue/flush`.'),

  RETRY_ATTEMPTS: setting(
    'retries',
    integer(1, 100),
    '8',
    'Attempts per job, the first one included. Setting any `RETRY_*` applies them to every failure that is worth a retry; unset, failures that pass quickly get at most 3 attempts, seconds apart.',
  ),
  RETRY_BASE_MS: setting('retries', integer(0, 3_600_000), '30000', 'Delay before the second attempt.'),
  RETRY_FACTOR: setting('retries', number(1, 10), '3', 'Each further delay is the last one times this.'),
  RETRY_CAP_MS: setting('retries', integer(0, 86_400_000), '7200000', 'Longest delay.'),
  RETRY_JITTER: setting(
    'retries',
    number(0, 1),
    '0.2',
    'Share of a delay that is random: 0.2 spreads it by ±20%.',
  ),
  JOB_SOFT_TIMEOUT_MS: setting(
    'retries',
    integer(100, 3_600_000),
    '60000',
    'An attempt that works longer is ended and retried.',
  ),
  JOB_HARD_TIMEOUT_MS: setting(
    'retries',
    integer(1_000, 604_800_000),
    '3600000',
    'A job that is worked on longer, over all its attempts, fails. Waiting does not count.',
  ),

  ALERT_BACKLOG: setting(
    'alerts',
    integer(0, 1_000_000_000),
    '10000',
    '`/queue/stats` shows an alert when more jobs have not ended. 0: never, here and below.',
  ),
  ALERT_OLDEST_WAITING_MS: setting(
    'alerts',
    integer(0, 604_800_000),
    '300000',
    '… when the oldest waiting job is older.',
  ),
  ALERT_FAILURE_RATE: setting(
    'alerts',
    number(0, 1),
    '0.2',
    "… when a larger share of the last minute's attempts failed.",
  ),
  ALERT_DEAD_LETTERS: setting(
    'alerts',
    integer(0, 1_000_000_000),
    '10',
    '… when more jobs were dead-lettered within five minutes.',
  ),

  QDRANT_URL: optional(
    'store',
    webAddress,
    'Uses Qdrant 1.16 or later for the vectors; port 6333 unless it is named. Without it: SQLite in `DATA_DIR`.',
  ),
  QDRANT_API_KEY: optional(
    'store',
    text(),
    'API key of Qdrant. Over plain http, anyone on the way can read it.',
  ),
  QDRANT_API_KEY_FILE: optional('store', text('a file'), 'A file that holds the API key of Qdrant instead.'),
  QDRANT_COLLECTION: setting(
    'store',
    pattern(/^[\w.-]{1,255}$/, '1 to 255 letters, digits, dots, dashes or underscores'),
    'products',
    'The collection, in either store. It holds the vectors of one model.',
  ),
  QDRANT_TIMEOUT_MS: setting(
    'store',
    integer(100, 600_000),
    '30000',
    'Deadline of one call to Qdrant, its retries included; a single request gets a third of it.',
  ),
  LANGUAGE: setting(
    'store',
    oneOf(...LANGUAGES),
    'english',
    "Of the products' texts: search by words compares stems of this language; `none` compares words as they are. The same for all processes. After a change the next start makes the words of all products again, without embedding.",
  ),

  FACET_KEYS: setting(
    'store',
    list('keys of `metadata`'),
    '',
    'Keys whose values the facets of a search count, in addition to category, brand, tags and currency.',
  ),

  MODEL: setting(
    'model',
    pattern(/./, "a model's id"),
    'auto',
    'The model that embeds the images: `auto` (the one the collection was made with; else CLIP if its weights are here or download within seconds; else `builtin`), an id from `vitrine models list`, or a folder of that name in `MODELS_DIR`.',
  ),
  MODELS_DIR: setting(
    'model',
    folder,
    './models/weights',
    'Where models are kept, in the layout of the Hugging Face hub.',
  ),
  MODEL_HUB_URL: setting(
    'model',
    webAddress,
    'https://huggingface.co',
    'Where weights are downloaded from: the Hugging Face hub or a mirror in its layout.',
  ),
  MODELS_OFFLINE: setting(
    'model',
    flag('true, false'),
    'false',
    'Downloads nothing. A worker without weights says which command downloads them.',
  ),
  EMBEDDING_DEVICE: setting(
    'model',
    oneOf('auto', 'cpu', 'cuda', 'dml', 'coreml', 'webgpu'),
    'auto',
    'What inference runs on. `auto`: CUDA where its libraries are installed, else the processor.',
  ),
  EMBEDDING_THREADS: setting(
    'model',
    integer(0, 64),
    '0',
    'Inference threads. 0: one for every three processors that the process may use; two at least in a worker process with a large model.',
  ),
  INTRA_OP_THREADS: setting(
    'model',
    integer(0, 64),
    '0',
    'Processors per inference call. 0: one for a small model; for a large one its share of all, at most four.',
  ),
  WORKER_MEMORY_LIMIT_MB: setting(
    'model',
    integer(0, 1_000_000),
    '0',
    "The embedding thread is replaced when the process uses more memory. 0: four fifths of the container's limit, if it has one.",
  ),

  WORKER_CONCURRENCY: setting(
    'worker',
    integer(1, 256),
    '8',
    'Images that a worker fetches and decodes at the same time. More fetches of slow hosts may go on: up to twice as many per host, eight times as many in all.',
  ),
  BATCH_SIZE: setting('worker', integer(1, 256), '8', 'Images per inference call.'),
  SHUTDOWN_GRACE_MS: setting(
    'worker',
    integer(0, 600_000),
    '20000',
    'After SIGTERM: how long a worker may finish what it holds; the rest is released.',
  ),

  IMAGE_ROOTS: setting(
    'images',
    list('folders'),
    '',
    'Folders that `image_path` may name files in. Without it: none.',
  ),
  IMAGE_ALLOWED_HOSTS: setting(
    'images',
    hosts('IMAGE_ALLOWED_NETWORKS'),
    '',
    'Hosts that images may be fetched from although their addresses are private, such as `images.internal` or `10.0.0.7:9000`.',
  ),
  IMAGE_ALLOWED_NETWORKS: setting(
    'images',
    networks('; host names belong in IMAGE_ALLOWED_HOSTS'),
    '',
    'Private networks that images may be fetched from, such as `10.20.0.0/16`. Every name that resolves into one of them may be fetched.',
  ),
  IMAGE_SOURCE_HEADERS: optional(
    'images',
    headersByHost,
    'Header fields for image hosts behind authentication, in single quotes: `\'{"img.example.com": {"Authorization": "Bearer …"}}\'`. Sent to that host (or `host:port`) and no other; over plain http only where it is in `IMAGE_ALLOWED_HOSTS` or has a private address.',
  ),
  IMAGE_SOURCE_HEADERS_FILE: optional(
    'images',
    text('a file'),
    'A file that holds these header fields instead.',
  ),
  IMAGE_CONTACT: optional(
    'images',
    contact,
    'How the people of an image host can reach you; sent in `User-Agent`.',
  ),
  IMAGE_TIMEOUT_MS: setting(
    'images',
    integer(100, 600_000),
    '30000',
    'Time to fetch an image, redirects included. The first byte must come within 10 s.',
  ),
  IMAGE_MAX_BYTES: setting(
    'images',
    integer(1_000, 500_000_000),
    '20000000',
    "Largest size of an image's file.",
  ),
  IMAGE_MAX_PIXELS: setting(
    'images',
    integer(10_000, 1_000_000_000),
    '50000000',
    'Largest width times height. Decoding may also take no more than 140 MB, or 2.8 bytes for each of these pixels if that is more: at the default, progressive JPEGs may have about 40 million pixels, rotated ones 30, WebP 14 and AVIF 7.',
  ),
  IMAGE_MIN_SIDE_PIXELS: setting('images', integer(1, 10_000), '16', 'Smallest width and height.'),
  PLACEHOLDER_HASHES: setting(
    'images',
    hashes,
    '',
    'Content hashes of pictures that say "no image": they are refused. `sha256sum FILE` prints the hash of a file.',
  ),

  THUMBNAIL_CACHE_DIR: optional(
    'images',
    folder,
    'Where thumbnails are kept: the same folder for the API and the workers. Unset: `thumbnails` in `DATA_DIR`.',
  ),
  THUMBNAIL_CACHE_MAX_MB: setting(
    'images',
    integer(0, 10_000_000),
    '500',
    'Most disk space for thumbnails; those that were not looked at for longest go first. 500 MB hold about 20,000. 0: none are kept, and images that were sent inline have none.',
  ),

  WEBHOOK_SECRETS: setting(
    'webhooks',
    webhookSecrets,
    '',
    'Sign the reports to `callback_url`; each signs, so that they can be rotated. Make one with `echo whsec_$(openssl rand -base64 32)`. Without any, `callback_url` is refused.',
  ),
  WEBHOOK_SECRETS_FILE: optional(
    'webhooks',
    text('a file'),
    'A file that holds these secrets instead, one per line.',
  ),
  WEBHOOK_ALLOWED_HOSTS: setting(
    'webhooks',
    hosts('WEBHOOK_ALLOWED_NETWORKS'),
    '',
    'Hosts that may be reported to although their addresses are private.',
  ),
  WEBHOOK_ALLOWED_NETWORKS: setting(
    'webhooks',
    networks('; host names belong in WEBHOOK_ALLOWED_HOSTS'),
    '',
    'Private networks that may be reported to. Every name that resolves into one of them may be.',
  ),
  WEBHOOK_TIMEOUT_MS: setting(
    'webhooks',
    integer(100, 60_000),
    '15000',
    'Time within which a receiver must answer.',
  ),
} as const satisfies Record<string, Setting>;

export type SettingName = keyof typeof SETTINGS;

/** The value of every setting. */
export type Settings = {
  readonly [Name in SettingName]: (typeof SETTINGS)[Name] extends Setting<infer T> ? T : never;
};

/** What docker-compose.yml reads itself, with the values it falls back to. */
export const COMPOSE_SETTINGS: Readonly<Record<string, DocumentedSetting>> = {
  WORKER_REPLICAS: {
    fallback: '2',
    values: 'a whole number',
    meaning: 'How many workers run; `docker compose up --scale worker=4` wins over it.',
  },
  REDIS_APPENDFSYNC: {
    fallback: 'everysec',
    values: 'always, everysec, no',
    meaning:
      'When Redis writes its log to the disk. `everysec` may lose the last two seconds when the machine loses power or Redis is killed while its disk is slow; `always` loses nothing, and is slower.',
  },
  REDIS_MAXMEMORY: {
    fallback: '2gb',
    values: 'a size',
    meaning: 'Memory of Redis. When it is full, new jobs are refused; nothing is dropped.',
  },
  API_MEMORY_LIMIT: {
    fallback: '4g',
    values: 'a size',
    meaning: 'Most memory of the API. A container that needs more is killed and restarted, here and below.',
  },
  WORKER_MEMORY_LIMIT: {
    fallback: '4g',
    values: 'a size',
    meaning: 'Most memory of each worker. Above four fifths of it the embedding thread is replaced.',
  },
  REDIS_MEMORY_LIMIT: {
    fallback: '4g',
    values: 'a size',
    meaning: 'Most memory of the container of Redis: twice `REDIS_MAXMEMORY`.',
  },
  QDRANT_MEMORY_LIMIT: {
    fallback: '4g',
    values: 'a size',
    meaning: 'Most memory of Qdrant. A million images of 512 dimensions take about 3 GB.',
  },
  API_BIND: {
    fallback: '127.0.0.1',
    values: 'an address',
    meaning: 'Address of the host that the API is published on; the port is `PORT`.',
  },
  IMAGES_DIR: {
    fallback: undefined,
    values: 'a folder, absolute or from `./`',
    meaning:
      'Folder of the host that is mounted, read-only, as `/images`; `image_path` then names files in `/images`.',
  },
  STOP_GRACE_PERIOD: {
    fallback: '30s',
    values: 'a duration',
    meaning: 'Time between SIGTERM and SIGKILL; keep it longer than `SHUTDOWN_GRACE_MS`.',
  },
};

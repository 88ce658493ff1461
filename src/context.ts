import { join } from 'node:path';
import { createDecoder, type Decoder } from '../models/decoding/decoder.ts';
import type { Embedder } from '../models/embedder.ts';
import { createEmbedder } from '../models/embedding/create-embedder.ts';
import type { Config } from './config/config.ts';
import { createImageSource } from './images/image-source.ts';
import type { ImageSource } from './images/port.ts';
import type { Clock } from './observability/clock.ts';
import { createLogger, type Logger } from './observability/logger.ts';
import { systemClock } from './observability/system-clock.ts';
import type { JobQueue } from './queue/port.ts';
import { createThumbnailCache, type ThumbnailCache } from './thumbnails/cache.ts';
import type { VectorStore } from './vectors/port.ts';
import { createWebhookSender, type WebhookSender } from './webhooks/sender.ts';

/**
 * Everything that the API and the workers are made of. A part is made when it is first asked for, and connects when
 * it is first used. Disposing the context closes the parts that were made.
 */
export interface Context extends AsyncDisposable {
  readonly config: Config;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly queue: JobQueue;
  readonly store: VectorStore;
  readonly embedder: Embedder;
  readonly images: ImageSource;
  readonly webhooks: WebhookSender;
  readonly decoder: Decoder;
  readonly thumbnails: ThumbnailCache;
}

/** Parts to use instead of those the configuration would choose. The context doesn't close them. */
export type ContextOverrides = Partial<Omit<Context, 'config' | typeof Symbol.asyncDispose>>;

export interface ContextOptions {
  /**
   * True for a process that answers requests. While Redis is down, it accepts jobs into a spool in `dataDir` and
   * forwards them later; its embedder is arranged for searches, not for the most images per second.
   */
  readonly isApi?: boolean;
}

/**
 * The composition root: chooses the adapter behind each port by the configuration, and loads the code of only those.
 * Connects to nothing.
 */
export async function createContext(
  config: Config,
  overrides: ContextOverrides = {},
  { isApi = false }: ContextOptions = {},
): Promise<Context> {
  const logger = overrides.logger ?? createLogger(config.log);
  const clock = overrides.clock ?? systemClock;
  const opened = new AsyncDisposableStack();
  const lazy = <T extends AsyncDisposable>(create: () => T): (() => T) => {
    let part: T | undefined;
    return () => {
      part ??= opened.use(create());
      return part;
    };
  };
  const createQueue = await loadQueue(config, logger);
  const createStore = await loadStore(config, logger);

  const bareQueue = lazy(createQueue);
  const createSpool = isApi ? await loadSpool(config, logger, clock) : null;
  const queue = createSpool === null ? bareQueue : lazy(() => createSpool(bareQueue()));
  const store = lazy(createStore);
  const { concurrency } = config.worker;
  const images = lazy(() =>
    createImageSource({
      ...config.images,
      connectionsPerHost: 3 * concurrency + 16,
      maxBytesInFlight: 2 * Math.max(8, concurrency) * config.images.maxBytes,
    }),
  );
  const webhooks = lazy(() => createWebhookSender({ webhooks: config.webhooks, clock }));
  const decoder = lazy(() => createDecoder({ ...config.images, logger }));
  const thumbnails = lazy(() =>
    createThumbnailCache({ ...config.thumbnails, collection: config.store.collection, clock, logger }),
  );
  const embedder = lazy(() =>
    createEmbedder(config.model, {
      collectionModel: () => context.store.collectionModel(),
      isForSearch: isApi,
      memoryBytes: () => process.memoryUsage.rss() + context.decoder.memoryBytes(),
      logger,
    }),
  );

  const context: Context = {
    config,
    logger,
    clock,
    get queue() {
      return overrides.queue ?? queue();
    },
    get store() {
      return overrides.store ?? store();
    },
    get embedder() {
      return overrides.embedder ?? embedder();
    },
    get images() {
      return overrides.images ?? images();
    },
    get webhooks() {
      return overrides.webhooks ?? webhooks();
    },
    get decoder() {
      return overrides.decoder ?? decoder();
    },
    get thumbnails() {
      return overrides.thumbnails ?? thumbnails();
    },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
  return context;
}

async function loadQueue(config: Config, logger: Logger): Promise<() => JobQueue> {
  const { redis, prefix, settings } = config.queue;
  if (redis === undefined) {
    const { createSqliteQueue } = await import('./queue/sqlite/queue.ts');
    return () => createSqliteQueue({ file: join(config.dataDir, 'queue.sqlite'), logger, ...settings });
  }
  const { createRedisQueue } = await import('./queue/redis/queue.ts');
  return () => createRedisQueue({ target: redis, prefix, logger, ...settings });
}

/** What puts the spool in front of the queue; null when there is none. */
async function loadSpool({ dataDir, queue }: Config, logger: Logger, clock: Clock) {
  const { enabled, maxBytes } = queue.spool;
  if (queue.redis === undefined || !enabled) return null;
  const { createSpooledQueue } = await import('./queue/spool/spooled-queue.ts');
  const file = join(dataDir, 'spool.sqlite');
  return (inner: JobQueue) => createSpooledQueue(inner, { file, maxBytes, clock, logger });
}

async function loadStore(config: Config, logger: Logger): Promise<() => VectorStore> {
  const { qdrantUrl, qdrantApiKey, collection, timeoutMs, language } = config.store;
  if (qdrantUrl === undefined) {
    const { createSqliteVectorStore } = await import('./vectors/sqlite/vector-store.ts');
    const file = join(config.dataDir, 'vectors.sqlite');
    return () => createSqliteVectorStore({ file, collection, language });
  }
  const { createQdrantVectorStore } = await import('./vectors/qdrant/vector-store.ts');
  return () =>
    createQdrantVectorStore({
      url: qdrantUrl,
      apiKey: qdrantApiKey,
      collection,
      timeoutMs,
      language,
      logger,
    });
}

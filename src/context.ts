import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Embedder } from '../models/embedder.ts';
import { chooseModel, ensureModel } from '../models/obtain.ts';
import type { PullProgress } from '../models/pull.ts';
import { resolveModel } from '../models/resolve.ts';
import { createThreadEmbedder } from '../models/thread-embedder.ts';
import type { Config } from './config/config.ts';
import { createImageSource } from './images/image-source.ts';
import type { ImageSource } from './images/port.ts';
import type { Clock } from './observability/clock.ts';
import { createLogger, type Logger } from './observability/logger.ts';
import { systemClock } from './observability/system-clock.ts';
import type { JobQueue } from './queue/port.ts';
import { createRedisBackend } from './queue/redis/redis-backend.ts';
import { createSpooledQueue } from './queue/spool/spooled-queue.ts';
import { createSqliteBackend } from './queue/sqlite/sqlite-queue-backend.ts';
import type { WorkerRegistry } from './queue/worker-registry.ts';
import type { ModelIdentity, VectorStore } from './vectors/port.ts';
import { createQdrantVectorStore } from './vectors/qdrant/vector-store.ts';
import { createSqliteVectorStore } from './vectors/sqlite/vector-store.ts';

/** Everything that the API, the workers and the commands are made of. Disposing it closes all of it. */
export interface Context extends AsyncDisposable {
  readonly config: Config;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly queue: JobQueue;
  readonly registry: WorkerRegistry;
  readonly store: VectorStore;
  readonly embedder: Embedder;
  readonly images: ImageSource;
}

/** Parts that stand in for those the configuration would choose. They stay their owner's: the context doesn't close them. */
export type ContextOverrides = Partial<Omit<Context, 'config' | typeof Symbol.asyncDispose>>;

/**
 * The composition root: chooses the adapter behind each port by the configuration. Connects lazily where the
 * backend allows it; loads no model before `embedder.start()`, which also brings
 * missing weights; MODEL=auto may wait a few seconds for them.
 * @throws VitrineError `model_unavailable` when the model's folder or entry can't be found
 */
export async function createContext(config: Config, overrides: ContextOverrides = {}): Promise<Context> {
  await using stack = new AsyncDisposableStack();
  const logger = overrides.logger ?? createLogger(config.log);
  mkdirSync(config.dataDir, { recursive: true });

  const clock = overrides.clock ?? systemClock;

  const { queue, registry } =
    overrides.queue !== undefined && overrides.registry !== undefined
      ? { queue: overrides.queue, registry: overrides.registry }
      : { ...(await openBackend(config, logger, clock, stack)), ...overrides };
  const store = overrides.store ?? stack.use(createStore(config, logger));
  const embedder = overrides.embedder ?? stack.use(await createEmbedder(config, store, logger));
  const images = overrides.images ?? stack.use(createImageSource(config.images));

  const parts = stack.move();
  return {
    config,
    logger,
    clock,
    queue,
    registry,
    store,
    embedder,
    images,
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  };
}

async function openBackend(config: Config, logger: Logger, clock: Clock, stack: AsyncDisposableStack) {
  const { queue, registry } = stack.use(await createBackend(config, logger));
  if (config.queue.redisUrl === undefined) return { queue, registry };
  const file = join(config.dataDir, 'spool.sqlite');
  const { maxPending } = config.queue;
  return { queue: stack.use(createSpooledQueue(queue, { file, maxPending, clock, logger })), registry };
}

/** The queue and the registry of workers alone, as `vitrine doctor` looks at them. */
export async function createBackend(config: Config, logger: Logger) {
  const { redisUrl, prefix, shards, maxPending } = config.queue;
  return redisUrl === undefined
    ? createSqliteBackend({ file: join(config.dataDir, 'queue.sqlite'), maxPending, logger })
    : await createRedisBackend({ url: redisUrl, prefix, shards, maxPending, logger });
}

/** The vector store alone. */
export function createStore(config: Config, logger: Logger): VectorStore {
  const { qdrantUrl, qdrantApiKey, collection, timeoutMs } = config.store;
  return qdrantUrl === undefined
    ? createSqliteVectorStore({ file: join(config.dataDir, 'vectors.sqlite'), collection })
    : createQdrantVectorStore({ url: qdrantUrl, apiKey: qdrantApiKey, collection, timeoutMs, logger });
}

/** The embedder alone. @throws VitrineError `model_unavailable` */
export async function createEmbedder(config: Config, store: VectorStore, logger: Logger): Promise<Embedder> {
  const { dir, threads, intraOpThreads, maxProcessMemoryBytes } = config.model;
  const stop = new AbortController();
  const id = await chooseModel(
    config.model,
    () => askCollection(store),
    stop.signal,
    (line) => logger.info(line),
  );
  const definition = await resolveModel(id, { dir });
  const embedder = createThreadEmbedder({
    definition,
    bringWeights: () => ensureModel(id, config.model, stop.signal, toProgressLog(id, logger)),
    threads,
    intraOpThreads,
    maxProcessMemoryBytes,
    logger,
  });
  return {
    ...embedder,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await embedder[Symbol.asyncDispose]();
    },
  };
}

const ASK_COLLECTION_MS = 2_000;

/** While the store is away nobody can say, and nothing waits for it: a wrong choice is refused by the collection. */
async function askCollection(store: VectorStore): Promise<ModelIdentity | null> {
  const answered = new AbortController();
  const answer = store.collectionModel().catch(() => null);
  const silence = systemClock.sleep(ASK_COLLECTION_MS, answered.signal).then(() => null);
  return Promise.race([answer, silence]).finally(() => answered.abort());
}

const LOG_PROGRESS_EVERY_MS = 5_000;

/** A line when a download begins, and one every few seconds. */
function toProgressLog(model: string, logger: Logger): (progress: PullProgress) => void {
  let loggedAt = Number.NEGATIVE_INFINITY;
  return ({ path, bytes, totalBytes }) => {
    if (performance.now() - loggedAt < LOG_PROGRESS_EVERY_MS) return;
    loggedAt = performance.now();
    logger.info({ model, path, bytes, total_bytes: totalBytes }, 'downloading the model');
  };
}

import type { Config } from '../src/config/config.ts';
import { VitrineError } from '../src/errors/vitrine-error.ts';
import type { Clock } from '../src/observability/clock.ts';
import type { Logger } from '../src/observability/logger.ts';
import type { ModelIdentity } from '../src/vectors/port.ts';
import type { Embedder } from './embedder.ts';
import { chooseModel, ensureModel } from './obtain.ts';
import type { PullProgress } from './pull.ts';
import { resolveModel } from './resolve.ts';
import { createThreadEmbedder } from './thread-embedder.ts';

export interface EmbedderParts {
  /** The model that the collection was made with, or null; asked for MODEL=auto only. */
  readonly collectionModel: () => Promise<ModelIdentity | null>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** How long MODEL=auto waits for the collection's answer. A wrong choice is refused by the collection later. */
const ASK_COLLECTION_MS = 2_000;
const LOG_PROGRESS_EVERY_MS = 5_000;

/** The embedder of the configured model. Nothing is read or downloaded before `choose` or `start`. */
export function createEmbedder(settings: Config['model'], parts: EmbedderParts): Embedder {
  const { clock, logger } = parts;
  const stop = new AbortController();
  let chosen: Embedder | undefined;
  let choosing: Promise<Embedder> | undefined;

  async function createChosen(): Promise<Embedder> {
    const ask = () => askCollection(parts.collectionModel, clock);
    const id = await chooseModel(settings, ask, stop.signal, (line) => logger.info(line));
    const definition = await resolveModel(id, settings);
    stop.signal.throwIfAborted();
    const { threads, intraOpThreads, maxProcessMemoryBytes } = settings;
    chosen = createThreadEmbedder({
      definition,
      bringWeights: () => ensureModel(id, settings, stop.signal, toProgressLog(id, logger)),
      threads,
      intraOpThreads,
      maxProcessMemoryBytes,
      logger,
    });
    return chosen;
  }

  const choose = () => {
    choosing ??= createChosen().catch((error: unknown) => {
      choosing = undefined;
      throw error;
    });
    return choosing;
  };

  return {
    get model() {
      if (chosen === undefined) throw new VitrineError('not_ready', 'The model is not chosen yet.');
      return chosen.model;
    },
    choose: async () => (await choose()).model,
    start: async () => (await choose()).start(),
    embedImages: async (images) => (await choose()).embedImages(images),
    embedTexts: async (texts) => (await choose()).embedTexts(texts),
    async [Symbol.asyncDispose]() {
      stop.abort();
      const embedder = await choosing?.catch(() => undefined);
      await embedder?.[Symbol.asyncDispose]();
    },
  };
}

async function askCollection(
  collectionModel: () => Promise<ModelIdentity | null>,
  clock: Clock,
): Promise<ModelIdentity | null> {
  const answered = new AbortController();
  const answer = collectionModel().catch(() => null);
  const silence = clock.sleep(ASK_COLLECTION_MS, answered.signal).then(() => null);
  return Promise.race([answer, silence]).finally(() => answered.abort());
}

/** A line when a download begins, and one every few seconds. */
function toProgressLog(model: string, logger: Logger): (progress: PullProgress) => void {
  let loggedAt = Number.NEGATIVE_INFINITY;
  return ({ path, bytes, totalBytes }) => {
    if (performance.now() - loggedAt < LOG_PROGRESS_EVERY_MS) return;
    loggedAt = performance.now();
    logger.info({ model, path, bytes, total_bytes: totalBytes }, 'downloading the model');
  };
}

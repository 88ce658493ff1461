import type { Config } from '../../src/config/config.ts';
import { toVitrineError, VitrineError } from '../../src/errors/vitrine-error.ts';
import type { Logger } from '../../src/observability/logger.ts';
import type { Embedder } from '../embedder.ts';
import { type ModelDefinition, resolveModel, toModelFolder } from '../files/model-folder.ts';
import { hasAllFiles, type PullProgress, pullModel } from '../files/pull-model.ts';
import { BUILTIN, findModel } from '../registry.ts';
import { createThreadEmbedder } from './thread-embedder.ts';

/** MODEL=auto: the best model that is available. */
const AUTO_ID = 'auto';
/** What `auto` prefers: it suits any kind of product, and finds by words. */
const PREFERRED_ID = 'clip-vit-base-patch32';
/** How long `auto` waits for its download. */
const AUTO_DOWNLOAD_MS = 8_000;
const LOG_PROGRESS_EVERY_MS = 5_000;

export interface EmbedderParts {
  /** The model of the collection's vectors, null when there is no collection yet. Asked for MODEL=auto only. */
  collectionModel(): Promise<{ readonly id: string } | null>;
  /** True for a process that also searches: a single call is to be quick. */
  readonly isForSearch: boolean;
  /** Memory of this process, and of those that work for it. */
  memoryBytes(): number;
  readonly logger: Logger;
}

/** The embedder of the configured model. Reads, asks and downloads nothing before `start`. */
export function createEmbedder(settings: Config['model'], parts: EmbedderParts): Embedder {
  return createThreadEmbedder({
    ensureModel: (signal) => ensureModel(settings, parts, signal),
    device: settings.device,
    threads: settings.threads,
    intraOpThreads: settings.intraOpThreads,
    maxProcessMemoryBytes: settings.maxProcessMemoryBytes,
    isForSearch: parts.isForSearch,
    memoryBytes: parts.memoryBytes,
    logger: parts.logger,
  });
}

/** What the choice of a model needs. */
type ChoiceParts = Pick<EmbedderParts, 'collectionModel' | 'logger'>;

export type ModelSettings = Pick<Config['model'], 'id' | 'dir' | 'hubUrl' | 'offline'>;

/**
 * Finds the model that MODEL names, and downloads its weights if they are missing.
 * @throws VitrineError `model_unavailable`; `store_unavailable` for MODEL=auto
 */
export async function ensureModel(
  settings: ModelSettings,
  parts: ChoiceParts,
  signal: AbortSignal,
): Promise<ModelDefinition> {
  const id = settings.id === AUTO_ID ? await chooseModel(settings, parts, signal) : settings.id;
  const registered = findModel(id);
  if (registered !== undefined && !hasAllFiles(registered, toModelFolder(id, settings.dir))) {
    if (settings.offline) {
      throw new VitrineError('model_unavailable', `The weights of ${id} are not in ${settings.dir}.`, {
        suggestion: `MODELS_OFFLINE=true forbids downloading them. Where the network may be used: npm run vitrine -- models pull ${id}`,
      });
    }
    await pullModel(registered, { ...settings, signal, onProgress: toProgressLog(id, parts.logger) });
  }
  return resolveModel(id, settings);
}

/**
 * The model of the collection, if there is one; otherwise CLIP, when its weights are here or arrive within a few
 * seconds; otherwise the built-in model. Logs what it chose and why.
 */
async function chooseModel(
  settings: ModelSettings,
  { collectionModel, logger }: ChoiceParts,
  signal: AbortSignal,
): Promise<string> {
  const stored = await collectionModel();
  if (stored !== null) {
    logger.info(`MODEL=auto: ${stored.id}, the model of the collection.`);
    return stored.id;
  }
  const obstacle = await tryPreferred(settings, signal);
  if (obstacle === null) {
    logger.info(`MODEL=auto: ${PREFERRED_ID}; its weights are in ${settings.dir}.`);
    return PREFERRED_ID;
  }
  logger.info(
    `MODEL=auto: the built-in model, because ${obstacle} To use CLIP: npm run vitrine -- models pull ${PREFERRED_ID}`,
  );
  return BUILTIN.id;
}

/** Null when the preferred model is here; otherwise the reason why not, as the end of a sentence. */
async function tryPreferred(settings: ModelSettings, signal: AbortSignal): Promise<string | null> {
  const model = findModel(PREFERRED_ID);
  if (model === undefined) return 'CLIP is not registered.';
  if (hasAllFiles(model, toModelFolder(model.id, settings.dir))) return null;
  if (settings.offline) return 'CLIP is not here and MODELS_OFFLINE=true.';
  try {
    await pullModel(model, { ...settings, signal, totalMs: AUTO_DOWNLOAD_MS, attempts: 1 });
    return null;
  } catch (error) {
    signal.throwIfAborted();
    return `CLIP could not be downloaded at once: ${toVitrineError(error).message}`;
  }
}

/** Logs when a download begins, and every few seconds from then on. */
function toProgressLog(model: string, logger: Logger): (progress: PullProgress) => void {
  let loggedAt = Number.NEGATIVE_INFINITY;
  return ({ path, bytes, totalBytes }) => {
    if (performance.now() - loggedAt < LOG_PROGRESS_EVERY_MS) return;
    loggedAt = performance.now();
    logger.info({ model, path, bytes, total_bytes: totalBytes }, 'downloading the model');
  };
}

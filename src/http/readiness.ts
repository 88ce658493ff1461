import type { Embedder, EmbedderModel } from '../../models/embedder.ts';
import { toVitrineError, type VitrineError } from '../errors/vitrine-error.ts';
import type { VectorStore } from '../vectors/port.ts';

export type ModelState =
  | { readonly kind: 'loading' }
  | { readonly kind: 'ready'; readonly model: EmbedderModel }
  /** Until another attempt succeeds. */
  | { readonly kind: 'failed'; readonly error: VitrineError };

export interface ReadinessParts {
  readonly embedder: Pick<Embedder, 'start' | 'model'>;
  readonly store: Pick<VectorStore, 'collectionModel' | 'ensureCollection'>;
}

/** What searches and products need before they can be answered, and whether the server is being stopped. */
export interface Readiness {
  /**
   * For a search: loads the model and makes the collection. Done once for all callers, and tried again after a failure.
   * @throws VitrineError `model_unavailable`, `device_unavailable`, `model_mismatch`, `store_unavailable`, `store_rejected`
   */
  prepare(): Promise<void>;
  /**
   * For a product: makes the collection unless there is one, of whatever model, so that products can be read and
   * deleted while the model can't be loaded.
   * @throws VitrineError the same
   */
  prepareStore(): Promise<void>;
  modelState(): ModelState;
  /** From now on /readyz says no, so that load balancers send nothing more. */
  drain(): void;
  /** Aborted by `drain`. */
  readonly stopping: AbortSignal;
}

export function createReadiness({ embedder, store }: ReadinessParts): Readiness {
  const stopping = new AbortController();
  let state: ModelState = { kind: 'loading' };

  async function loadModel(): Promise<EmbedderModel> {
    try {
      await embedder.start();
      state = { kind: 'ready', model: embedder.model };
      return embedder.model;
    } catch (error) {
      state = { kind: 'failed', error: toVitrineError(error, 'model_unavailable') };
      throw state.error;
    }
  }

  const prepare = onceDone(async () => store.ensureCollection(await loadModel()));
  return {
    prepare,
    prepareStore: onceDone(async () => {
      if ((await store.collectionModel()) === null) await prepare();
    }),
    modelState: () => state,
    drain: () => stopping.abort(),
    stopping: stopping.signal,
  };
}

/** The function, run until it succeeds for the first time; concurrent callers share a run. */
function onceDone(run: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | null = null;
  return () => {
    done ??= run().catch((error: unknown) => {
      done = null;
      throw error;
    });
    return done;
  };
}

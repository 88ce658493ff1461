import type { Context } from '../context.ts';
import { toVitrineError, type VitrineError } from '../errors/vitrine-error.ts';

export type ModelState =
  | { readonly kind: 'ready' }
  | { readonly kind: 'loading' }
  | { readonly kind: 'failed'; readonly error: VitrineError };

/** Whether searches can be answered: the model is loaded and the collection is there and of the same model. */
export interface Readiness {
  /**
   * Makes the collection; once for all callers, again after a failure.
   * @throws VitrineError `model_mismatch`, `store_unavailable`, `store_rejected`
   */
  prepareStore(): Promise<void>;
  /** Loads the model, likewise. @throws VitrineError `model_unavailable` */
  loadModel(): Promise<void>;
  /** Both, for a search. */
  prepare(): Promise<void>;
  modelState(): ModelState;
  /** From now on /readyz says no, so that balancers send nothing more. */
  drain(): void;
  isDraining(): boolean;
}

export function createReadiness({ embedder, store }: Pick<Context, 'embedder' | 'store'>): Readiness {
  let model: ModelState = { kind: 'loading' };
  let draining = false;

  const prepareStore = onceDone(() => store.ensureCollection(embedder.model));
  const loadModel = onceDone(async () => {
    try {
      await embedder.start();
      model = { kind: 'ready' };
    } catch (error) {
      model = { kind: 'failed', error: toVitrineError(error, 'model_unavailable') };
      throw model.error;
    }
  });

  return {
    prepareStore,
    loadModel,
    async prepare() {
      await prepareStore();
      await loadModel();
    },
    modelState: () => model,
    drain() {
      draining = true;
    },
    isDraining: () => draining,
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

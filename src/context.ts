import type { Config } from './config/config.ts';
import type { Logger } from './observability/logger.ts';
import type { Clock } from './ports/clock.ts';
import type { Embedder } from './ports/embedder.ts';
import type { ImageSource } from './ports/image-source.ts';
import type { JobQueue } from './ports/job-queue.ts';
import type { VectorStore } from './ports/vector-store.ts';
import type { WorkerRegistry } from './ports/worker-registry.ts';

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

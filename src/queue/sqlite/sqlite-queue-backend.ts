import { VitrineError } from '../../errors/vitrine-error.ts';
import type { Logger } from '../../observability/logger.ts';
import { openDatabase } from '../../sqlite/database.ts';
import { ENDED_TTL_MS } from '../job.ts';
import type { JobQueue } from '../port.ts';
import type { WorkerRegistry } from '../worker-registry.ts';
import { createSqliteQueue } from './sqlite-queue.ts';
import { ensureQueueSchema } from './sqlite-queue-schema.ts';
import { createSqliteRegistry } from './sqlite-queue-workers.ts';

export interface SqliteBackendSettings {
  /** Made when it is missing. Several processes of one machine may share it. */
  readonly file: string;
  readonly logger?: Logger;
  /** Greatest number of jobs that have not ended; 0: no limit. */
  readonly maxPending: number;
  /** How long ended jobs are remembered. */
  readonly endedTtlMs?: number;
}

export interface QueueBackend extends AsyncDisposable {
  readonly queue: JobQueue;
  readonly registry: WorkerRegistry;
}

/**
 * The queue and the registry of workers in one SQLite file. Each answered call survives a loss of power.
 * @throws VitrineError `queue_unavailable` when the file can't be opened
 */
export function createSqliteBackend(settings: SqliteBackendSettings): QueueBackend {
  const { file, logger, maxPending, endedTtlMs = ENDED_TTL_MS } = settings;
  try {
    const database = openDatabase(file);
    ensureQueueSchema(database);
    logger?.debug({ file }, 'queue file opened');
    const dispose = async () => {
      if (database.isOpen) database.close();
    };
    return {
      queue: { ...createSqliteQueue(database, { maxPending, endedTtlMs }), [Symbol.asyncDispose]: dispose },
      registry: createSqliteRegistry(database),
      [Symbol.asyncDispose]: dispose,
    };
  } catch (error) {
    throw new VitrineError('queue_unavailable', 'The queue file could not be opened.', {
      cause: error,
      suggestion: 'Check that DATA_DIR is writable and its disk is not full.',
    });
  }
}

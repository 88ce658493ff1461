export type WorkerState = 'starting' | 'loading' | 'idle' | 'working' | 'draining';

/** What a worker tells about itself with each heartbeat. */
export interface WorkerReport {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly state: WorkerState;
  readonly model: string;
  readonly concurrency: number;
  readonly inFlight: number;
  readonly done: number;
  readonly failed: number;
  /** Over the last 30 seconds. */
  readonly imagesPerSecond: number;
  /** Resident memory of the process. */
  readonly memoryBytes: number;
  /** Milliseconds since its start, by its own monotonic clock. */
  readonly uptimeMs: number;
}

export interface SeenWorker extends WorkerReport {
  /** Milliseconds since its last heartbeat, by the registry's clock. */
  readonly lastSeenMs: number;
}

export const HEARTBEAT_TTL_MS = 60_000;

/** Who is alive: one key a worker, gone `ttlMs` after its last heartbeat. */
export interface WorkerRegistry {
  beat(report: WorkerReport, ttlMs: number): Promise<void>;
  remove(id: string): Promise<void>;
  /** By id, in order. */
  list(): Promise<readonly SeenWorker[]>;
}

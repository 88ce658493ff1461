import type { WorkerReport } from '../../src/queue/port.ts';

/** What a busy worker reports with a heartbeat. */
export function newWorkerReport(id: string): WorkerReport {
  return {
    id,
    host: 'host',
    pid: 42,
    state: 'working',
    model: 'builtin',
    concurrency: 8,
    inFlight: 3,
    done: 10,
    failed: 1,
    imagesPerSecond: 2.5,
    memoryBytes: 1_000_000,
    uptimeMs: 5_000,
  };
}

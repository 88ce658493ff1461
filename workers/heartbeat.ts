import { hostname } from 'node:os';
import type { Clock } from '../src/observability/clock.ts';
import type { Logger } from '../src/observability/logger.ts';
import { HEARTBEAT_TTL_MS, type JobQueue, type WorkerReport } from '../src/queue/port.ts';

/** Five heartbeats may be lost before a living worker is no longer listed. */
const HEARTBEAT_EVERY_MS = HEARTBEAT_TTL_MS / 6;

export type Vitals = Omit<WorkerReport, 'host' | 'pid' | 'uptimeMs'>;

/** Keeps this worker on the list that /queue/workers shows. */
export interface Heartbeat {
  /** Sends one now: at the start, and when the state changes. Never rejects. */
  send(): Promise<void>;
  /** Sends them until the signal is aborted. */
  keepSending(signal: AbortSignal): Promise<void>;
  /** Takes the worker off the list. Never rejects. */
  remove(): Promise<void>;
}

export function createHeartbeat(parts: {
  readonly queue: Pick<JobQueue, 'heartbeat' | 'removeWorker'>;
  readonly clock: Clock;
  readonly logger: Logger;
  toVitals(): Vitals;
}): Heartbeat {
  const { queue, clock, logger } = parts;
  const startedAt = clock.monotonic();
  const host = hostname();
  /** One after the other, so that none arrives after the worker was removed. */
  let last: Promise<void> = Promise.resolve();

  async function write(): Promise<void> {
    const report: WorkerReport = {
      ...parts.toVitals(),
      host,
      pid: process.pid,
      uptimeMs: Math.round(clock.monotonic() - startedAt),
    };
    // No reason to stop working: the next one says the same.
    await queue
      .heartbeat(report)
      .catch((error: unknown) => logger.debug({ error }, 'the heartbeat could not be sent'));
  }

  const send = () => {
    last = last.then(write);
    return last;
  };

  return {
    send,
    async keepSending(signal) {
      while (!signal.aborted) {
        void send();
        await clock.sleep(HEARTBEAT_EVERY_MS, signal);
      }
    },
    async remove() {
      await last;
      await queue
        .removeWorker(parts.toVitals().id)
        .catch((error: unknown) => logger.warn({ error }, 'the worker could not be taken off the list'));
    },
  };
}

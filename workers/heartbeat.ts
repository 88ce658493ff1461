import { hostname } from 'node:os';
import type { Clock } from '../src/observability/clock.ts';
import type { Logger } from '../src/observability/logger.ts';
import { HEARTBEAT_TTL_MS, type WorkerRegistry, type WorkerReport } from '../src/queue/worker-registry.ts';

/** Six heartbeats a life: five may be lost before a living worker is taken for dead. */
const BEAT_EVERY_MS = HEARTBEAT_TTL_MS / 6;

export type Vitals = Omit<WorkerReport, 'host' | 'pid' | 'memoryBytes' | 'uptimeMs'>;

/** Tells the registry that this worker lives, until it is stopped. */
export interface Heartbeat {
  /** Writes one at once: at the start, and when the state changes. */
  beat(): Promise<void>;
  /** Beats until the signal is aborted. */
  keepBeating(signal: AbortSignal): Promise<void>;
  /** Takes the worker off the list. */
  remove(): Promise<void>;
}

export function createHeartbeat(parts: {
  readonly registry: WorkerRegistry;
  readonly clock: Clock;
  readonly logger: Logger;
  vitals(): Vitals;
}): Heartbeat {
  const { registry, clock, logger } = parts;
  const startedAt = clock.monotonic();
  const host = hostname();

  async function beat(): Promise<void> {
    const report: WorkerReport = {
      ...parts.vitals(),
      host,
      pid: process.pid,
      memoryBytes: process.memoryUsage.rss(),
      uptimeMs: Math.round(clock.monotonic() - startedAt),
    };
    // A heartbeat that fails is no reason to stop working: the next one tells the same.
    await registry
      .beat(report, HEARTBEAT_TTL_MS)
      .catch((error: unknown) => logger.warn({ error }, 'heartbeat failed'));
  }

  return {
    beat,
    async keepBeating(signal) {
      while (!signal.aborted) {
        await beat();
        await clock.sleep(BEAT_EVERY_MS, signal);
      }
    },
    async remove() {
      await registry
        .remove(parts.vitals().id)
        .catch((error: unknown) => logger.warn({ error }, 'removing the heartbeat failed'));
    },
  };
}

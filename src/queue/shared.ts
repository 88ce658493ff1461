import { ERRORS, type ErrorCode } from '../errors/error-table.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import { type JobError, PRIORITIES, type Priority } from './job.ts';
import type { NewJob } from './port.ts';

// What both adapters have in common.

/** How long the id of an enqueue is known at least, so that a repeated one adds nothing. */
export const ENQUEUE_ID_TTL_MS = 24 * 3_600_000;

/** Rates are of this many last seconds. */
export const RATE_WINDOW_S = 60;

export const RECENTLY_DEAD_MS = 300_000;

/** Of how many completed jobs the percentiles of `processingMs` are. */
export const DURATIONS_KEPT = 1_000;

/** How many paused hosts the statistics list. */
export const MAX_LISTED_HOSTS = 20;

/**
 * How fast the jobs of a host that asked to slow down are handed out. The rate doubles each second until the host asks
 * again, is halved then, and from there on looks for the highest one that the host allows: quickly up to just below the
 * last one that was too high (the ceiling), then slowly. Redis has the same rule in lua/common.lua.
 * A host is forgotten when none of its jobs is parked and its rate was not lowered for `forgetAfterMs`.
 */
export const HOST_PACE = {
  startPerSecond: 8,
  minPerSecond: 1,
  /** How much unused time may be made up for at once. */
  burstMs: 250,
  forgetAfterMs: 60_000,
} as const;

interface HostPace {
  readonly perSecond: number;
  readonly ceiling: number | null;
}

/** When a host asks to slow down, for the first time or for a job that was claimed since it last did. */
export function toSlowerPace(pace: HostPace | undefined): HostPace {
  if (pace === undefined) return { perSecond: HOST_PACE.startPerSecond, ceiling: null };
  const { perSecond, ceiling } = pace;
  const cut = ceiling === null ? 0.5 : 0.85;
  return { perSecond: Math.max(HOST_PACE.minPerSecond, perSecond * cut), ceiling: perSecond };
}

/** The rate after a slowed host served a job that was claimed since it asked. */
export function toFasterPerSecond({ perSecond, ceiling }: HostPace): number {
  if (ceiling === null) return perSecond + 1;
  return perSecond + (perSecond < 0.9 * ceiling ? 0.1 : 0.01);
}

/** 1 for the highest. */
export const toPriorityRank = (priority: Priority): number => PRIORITIES.indexOf(priority) + 1;

/** The rank of the priorities is also the order of the lines: those before it are served first. */
export const higherThan = (priority: Priority): readonly Priority[] =>
  PRIORITIES.slice(0, PRIORITIES.indexOf(priority));

export const higherOf = (a: Priority, b: Priority): Priority =>
  toPriorityRank(a) < toPriorityRank(b) ? a : b;

interface Versioned {
  readonly version: number;
  readonly sequence: number;
}

/** Of two jobs of the same product image: true when the first carries the newer data. */
export const isNewer = (a: Versioned, b: Versioned): boolean =>
  a.version === b.version ? a.sequence > b.sequence : a.version > b.version;

export const toJobError = (code: ErrorCode, message: string): JobError => ({
  code,
  message,
  suggestion: ERRORS[code].suggestion,
});

/** Null when nothing is known of the rate, and while the queue is paused. */
export function toEtaMs(position: number | null, completedPerSecond: number, paused: boolean): number | null {
  if (position === null || completedPerSecond === 0 || paused) return null;
  return Math.round((position / completedPerSecond) * 1_000);
}

/** The p50 and p95 (nearest rank) of the durations; null when there are none. */
export function toPercentiles(durationsMs: readonly number[]): { p50: number; p95: number } | null {
  const sorted = durationsMs.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.ceil(sorted.length * share) - 1] ?? 0;
  return sorted.length === 0 ? null : { p50: at(0.5), p95: at(0.95) };
}

/** A cursor of a list is the sequence of the last job on the page before; null for the first page. */
export function parseCursor(cursor: string | undefined): number | null {
  if (cursor === undefined) return null;
  const sequence = Number(cursor);
  if (/^\d{1,16}$/.test(cursor) && Number.isSafeInteger(sequence)) return sequence;
  throw new VitrineError('invalid_request', 'The cursor is not one that a list returned.', {
    suggestion: 'Send next_cursor of the page before, or no cursor for the first page.',
  });
}

/** Parts of an enqueue in order, each within the limits unless it is a single job. */
export function splitJobs(jobs: readonly NewJob[], maxJobs: number, maxChars: number): NewJob[][] {
  const parts: NewJob[][] = [];
  let chars = 0;
  for (const job of jobs) {
    const { image } = job.data;
    const size = image.kind === 'inline' ? image.base64.length : 0;
    const part = parts.at(-1);
    chars += size;
    if (part !== undefined && part.length < maxJobs && chars <= maxChars) part.push(job);
    else {
      parts.push([job]);
      chars = size;
    }
  }
  return parts;
}

const FULL_RETRY_AFTER_MS = 10_000;

export const toQueueFull = (maxPending: number): VitrineError =>
  new VitrineError('queue_full', `The queue holds ${maxPending} jobs, as many as it may.`, {
    retryAfterMs: FULL_RETRY_AFTER_MS,
  });

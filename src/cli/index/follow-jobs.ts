import pLimit from 'p-limit';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { jobView } from '../../jobs/schemas.ts';
import type { Client } from '../client.ts';

/** How a job ended. `code` is null when it completed. */
export interface EndedJob {
  readonly where: string;
  readonly code: string | null;
  readonly detail: string;
  readonly suggestion: string;
}

export interface JobToFollow {
  readonly id: string;
  /** Where it is in the catalog, for people. */
  readonly where: string;
  readonly inlineBytes: number;
}

export interface JobFollower {
  /** Jobs whose end isn't known yet. */
  readonly open: number;
  /** Of these, jobs that wait for their host, or for an attempt within LATER_MS. */
  readonly soon: number;
  /** Of these, jobs whose next attempt is later than that. */
  readonly later: number;
  /** Bytes of the inline images of all open jobs. */
  readonly inlineBytes: number;
  add(job: JobToFollow): void;
  /** Asks for the jobs that most likely ended since the last call, and returns those that did. */
  poll(): Promise<readonly EndedJob[]>;
}

/** A job whose next attempt is later than this is not waited for. */
export const LATER_MS = 60_000;

/** Requests at the same time: more would only wait in the server. */
const CONCURRENCY = 16;
const CHUNK = 64;
/** How soon, at the earliest and at the latest, a delayed job is asked for again. */
const DELAYED_MIN_MS = 1_000;
const DELAYED_MAX_MS = 10_000;

interface DelayedJob extends JobToFollow {
  /** By performance.now(). */
  readonly askAt: number;
  readonly isLater: boolean;
}

/** `availableInMs`: null when that depends on the image's host. */
type Answer = EndedJob | 'open' | { readonly availableInMs: number | null };

/**
 * Follows jobs to their ends through their status. Jobs end nearly in the order they were enqueued, so it asks from the
 * front and stops at the first chunk of which none has ended: about one request per job, however many wait.
 */
export function followJobs(client: Client): JobFollower {
  const limit = pLimit(CONCURRENCY);
  const waiting: JobToFollow[] = [];
  let delayed: DelayedJob[] = [];
  let inlineBytes = 0;

  /** Asks for the jobs, and sorts them by the answer. */
  async function ask(jobs: readonly JobToFollow[]) {
    const answers = await Promise.all(
      jobs.map((job) => limit(async () => ({ job, answer: await askOne(client, job) }))),
    );
    const ended: EndedJob[] = [];
    const open: JobToFollow[] = [];
    for (const { job, answer } of answers) {
      if (answer === 'open') open.push(job);
      else if ('availableInMs' in answer) delayed.push(toDelayed(job, answer.availableInMs));
      else {
        ended.push(answer);
        inlineBytes -= job.inlineBytes;
      }
    }
    return { ended, open };
  }

  async function askFront(): Promise<readonly EndedJob[]> {
    const all: EndedJob[] = [];
    const stillOpen: JobToFollow[] = [];
    while (waiting.length > 0) {
      const { ended, open } = await ask(waiting.splice(0, CHUNK));
      stillOpen.push(...open);
      all.push(...ended);
      if (ended.length === 0) break;
    }
    waiting.unshift(...stillOpen);
    return all;
  }

  async function askDelayed(): Promise<readonly EndedJob[]> {
    const now = performance.now();
    const due = delayed.filter(({ askAt }) => askAt <= now);
    delayed = delayed.filter(({ askAt }) => askAt > now);
    const { ended, open } = await ask(due);
    waiting.unshift(...open);
    return ended;
  }

  return {
    get open() {
      return waiting.length + delayed.length;
    },
    get soon() {
      return delayed.filter(({ isLater }) => !isLater).length;
    },
    get later() {
      return delayed.filter(({ isLater }) => isLater).length;
    },
    get inlineBytes() {
      return inlineBytes;
    },
    add(job) {
      waiting.push(job);
      inlineBytes += job.inlineBytes;
    },
    async poll() {
      return [...(await askFront()), ...(await askDelayed())];
    },
  };
}

function toDelayed({ id, where, inlineBytes }: JobToFollow, availableInMs: number | null): DelayedJob {
  const waitMs = Math.min(DELAYED_MAX_MS, Math.max(DELAYED_MIN_MS, availableInMs ?? DELAYED_MIN_MS));
  const isLater = availableInMs !== null && availableInMs > LATER_MS;
  return { id, where, inlineBytes, askAt: performance.now() + waitMs, isLater };
}

async function askOne(client: Client, { id, where }: JobToFollow): Promise<Answer> {
  try {
    const job = await client.call<typeof jobView>(`/queue/status/${id}`);
    switch (job.status) {
      case 'completed':
        return { where, code: null, detail: '', suggestion: '' };
      case 'cancelled':
        return { where, code: 'cancelled', detail: 'The job was cancelled.', suggestion: '' };
      case 'failed': {
        const { code, message, suggestion } = job.last_error ?? UNKNOWN_FAILURE;
        return { where, code, detail: message, suggestion };
      }
      case 'delayed':
        return {
          availableInMs: job.available_at === null ? null : Date.parse(job.available_at) - Date.now(),
        };
      default:
        return 'open';
    }
  } catch (error) {
    if (!(error instanceof VitrineError) || !GONE.has(error.code)) throw error;
    return { where, code: error.code, detail: error.message, suggestion: error.suggestion };
  }
}

const UNKNOWN_FAILURE = { code: 'failed', message: 'It failed.', suggestion: '' };
const GONE = new Set(['job_not_found', 'job_expired']);

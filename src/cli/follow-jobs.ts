import pLimit from 'p-limit';
import { VitrineError } from '../errors/vitrine-error.ts';
import { jobView } from '../jobs/job-view.ts';
import type { Client } from './client.ts';

/** How a job ended. `code` is null when it completed. */
export interface EndedJob {
  readonly where: string;
  readonly code: string | null;
  readonly detail: string;
  readonly suggestion: string;
}

export interface JobFollower {
  /** Jobs whose end isn't known yet. */
  readonly open: number;
  add(id: string, where: string): void;
  /** Asks for the jobs that most likely ended since the last call. Gives those that did. */
  poll(): Promise<readonly EndedJob[]>;
}

interface FollowedJob {
  readonly id: string;
  readonly where: string;
}

/** Requests at once: more only wait in the server's own line. */
const CONCURRENCY = 16;
const CHUNK = 64;
/** A job that waits for its next attempt is asked for at this distance, not each time. */
const DELAYED_EVERY_MS = 1_000;

/**
 * Follows jobs to their ends through their status. Jobs end nearly in the order they were enqueued, so it asks
 * from the front and stops at the first chunk of which none has ended: about one request a job in all, however
 * many wait behind.
 */
export function followJobs(client: Client, now: () => number): JobFollower {
  const limit = pLimit(CONCURRENCY);
  let waiting: FollowedJob[] = [];
  let delayed: FollowedJob[] = [];
  let delayedAskedAt = 0;

  async function ask(jobs: readonly FollowedJob[]) {
    const answers = await Promise.all(jobs.map((job) => limit(() => askOne(client, job))));
    const ended: EndedJob[] = [];
    const still: FollowedJob[] = [];
    const later: FollowedJob[] = [];
    for (const [index, job] of jobs.entries()) {
      const answer = answers[index];
      if (typeof answer === 'object') ended.push(answer);
      else (answer === 'delayed' ? later : still).push(job);
    }
    return { ended, still, later };
  }

  async function askFront(): Promise<EndedJob[]> {
    const all: EndedJob[] = [];
    const stillWaiting: FollowedJob[] = [];
    while (waiting.length > 0) {
      const chunk = waiting.slice(0, CHUNK);
      const { ended, still, later } = await ask(chunk);
      waiting = waiting.slice(chunk.length);
      stillWaiting.push(...still);
      delayed.push(...later);
      all.push(...ended);
      if (ended.length === 0) break;
    }
    waiting = [...stillWaiting, ...waiting];
    return all;
  }

  async function askDelayed(): Promise<readonly EndedJob[]> {
    if (delayed.length === 0 || now() - delayedAskedAt < DELAYED_EVERY_MS) return [];
    delayedAskedAt = now();
    const asked = delayed;
    delayed = [];
    const { ended, still, later } = await ask(asked);
    delayed.push(...later);
    waiting = [...still, ...waiting];
    return ended;
  }

  return {
    get open() {
      return waiting.length + delayed.length;
    },
    add(id, where) {
      waiting.push({ id, where });
    },
    async poll() {
      const front = await askFront();
      return [...front, ...(await askDelayed())];
    },
  };
}

async function askOne(client: Client, { id, where }: FollowedJob): Promise<EndedJob | 'delayed' | 'open'> {
  try {
    const job = await client.call(jobView, `/queue/status/${id}`);
    if (job.status === 'completed') return { where, code: null, detail: '', suggestion: '' };
    if (job.status === 'cancelled')
      return { where, code: 'cancelled', detail: 'The job was cancelled.', suggestion: '' };
    if (job.status !== 'failed') return job.status === 'delayed' ? 'delayed' : 'open';
    const { code, message, suggestion } = job.last_error ?? {
      code: 'failed',
      message: 'It failed.',
      suggestion: '',
    };
    return { where, code, detail: message, suggestion };
  } catch (error) {
    if (!(error instanceof VitrineError) || error.code !== 'job_not_found') throw error;
    return { where, code: error.code, detail: error.message, suggestion: error.suggestion };
  }
}

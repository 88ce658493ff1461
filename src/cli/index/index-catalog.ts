import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { isFault } from '../../catalog/feed.ts';
import type { Catalog } from '../../catalog/read-catalog.ts';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { batchReply, queueStats } from '../../jobs/schemas.ts';
import type { Client } from '../client.ts';
import { type EndedJob, followJobs, LATER_MS } from './follow-jobs.ts';
import { type PendingJob, readJob } from './index-job.ts';

export interface IndexProgress {
  /** Entries of the catalog, including the faulty ones. */
  readonly total: number;
  readonly enqueued: number;
  readonly completed: number;
  /** Entries that were rejected and jobs that did not complete. */
  readonly failures: readonly EndedJob[];
  /** Jobs whose next attempt is too late to wait for. */
  readonly retriedLater: number;
  /** Why nothing moves; null while something does. */
  readonly obstacle: string | null;
}

export interface IndexOptions {
  readonly catalog: Catalog;
  readonly client: Client;
  /** Folders whose files the workers read by path. */
  readonly sharedFolders: readonly string[];
  readonly signal: AbortSignal;
  onProgress(progress: IndexProgress): void;
}

/** Of one request. */
const MAX_CHUNK_JOBS = 500;
const MAX_CHUNK_BYTES = 8_000_000;
/** Of all jobs that have not ended. */
const MAX_OPEN_JOBS = 5_000;
const MAX_OPEN_BYTES = 64_000_000;
const POLL_MS = 250;
/** How long nothing may end before the reason is looked for. */
const QUIET_MS = 5_000;

/**
 * Enqueues every image of the catalog and waits until its jobs have ended, or only those are left that are retried much
 * later. Sends while earlier jobs are worked on; the number and the bytes of open jobs stay bounded, however long the
 * catalog is.
 * @throws VitrineError when the catalog can't be read or the server is gone; DOMException when aborted
 */
export async function indexCatalog(options: IndexOptions): Promise<IndexProgress> {
  const { catalog, client, signal } = options;
  const access = { catalogFolder: catalog.folder, sharedFolders: options.sharedFolders };
  const follower = followJobs(client);
  const failures: EndedJob[] = [];
  let total = 0;
  let enqueued = 0;
  let completed = 0;
  let lastEndAt = performance.now();
  let lookedAt = lastEndAt;
  let obstacle: string | null = null;

  const toProgress = (): IndexProgress => ({
    total,
    enqueued,
    completed,
    failures,
    retriedLater: follower.later,
    obstacle,
  });

  async function poll(): Promise<void> {
    const ended = await follower.poll();
    for (const job of ended) {
      if (job.code === null) completed += 1;
      else failures.push(job);
    }
    const now = performance.now();
    if (ended.length > 0) {
      lastEndAt = now;
      lookedAt = now;
      obstacle = null;
    } else if (now - lookedAt > QUIET_MS) {
      obstacle = await findObstacle(client);
      lookedAt = now;
    }
    options.onProgress(toProgress());
    if (ended.length === 0) await sleep(POLL_MS, undefined, { signal });
  }

  async function send(jobs: readonly PendingJob[]): Promise<void> {
    const reply = await enqueue(client, jobs, signal);
    const rejected = new Map(reply.rejected.map((rejection) => [rejection.index, rejection]));
    const ids = reply.job_ids.values();
    for (const [index, { where, inlineBytes }] of jobs.entries()) {
      const rejection = rejected.get(index);
      if (rejection === undefined) {
        follower.add({ id: ids.next().value ?? '', where, inlineBytes });
        enqueued += 1;
      } else failures.push({ where, code: rejection.code, detail: rejection.detail, suggestion: '' });
    }
    options.onProgress(toProgress());
    while (follower.open - follower.later >= MAX_OPEN_JOBS || follower.inlineBytes >= MAX_OPEN_BYTES)
      await poll();
  }

  /** True when nothing is left but jobs of a far attempt, or of hosts that let nothing through. */
  const isOnlyLaterLeft = () => {
    const idle = follower.open === follower.soon + follower.later;
    return idle && (follower.soon === 0 || performance.now() - lastEndAt > LATER_MS);
  };

  for await (const _entry of catalog.entries()) total += 1;
  let chunk: PendingJob[] = [];
  let chunkBytes = 0;
  for await (const entry of catalog.entries()) {
    signal.throwIfAborted();
    const job = isFault(entry) ? toFailure(entry.where, entry.fault) : await readJob(entry, access);
    if ('code' in job) {
      failures.push(job);
      continue;
    }
    const isFull = chunk.length === MAX_CHUNK_JOBS || chunkBytes + job.inlineBytes > MAX_CHUNK_BYTES;
    if (isFull && chunk.length > 0) {
      await send(chunk);
      chunk = [];
      chunkBytes = 0;
    }
    chunk.push(job);
    chunkBytes += job.inlineBytes;
  }
  if (chunk.length > 0) await send(chunk);
  while (!isOnlyLaterLeft()) await poll();
  const progress = { ...toProgress(), retriedLater: follower.open };
  options.onProgress(progress);
  return progress;
}

const toFailure = (where: string, detail: string): EndedJob => ({
  where,
  code: 'invalid_line',
  detail,
  suggestion: 'Correct the line; the others are indexed.',
});

async function findObstacle(client: Client): Promise<string | null> {
  const stats = await client.call<typeof queueStats>('/queue/stats');
  if (stats.paused) return 'the queue is paused until `vitrine resume`';
  return stats.workers_alive === 0 ? 'no worker is alive: start one with `vitrine worker`' : null;
}

/** Waits while the queue is full; the key makes the server repeat its first answer when a reply was lost. */
async function enqueue(client: Client, jobs: readonly PendingJob[], signal: AbortSignal) {
  const request = {
    method: 'POST',
    body: jobs.map(({ body }) => body),
    headers: { 'Idempotency-Key': randomUUID() },
  } as const;
  for (;;) {
    try {
      return await client.call<typeof batchReply>('/queue/enqueue/batch', request);
    } catch (error) {
      if (!(error instanceof VitrineError) || error.code !== 'queue_full') throw error;
      await sleep(error.retryAfterMs ?? 1_000, undefined, { signal });
    }
  }
}

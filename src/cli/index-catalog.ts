import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { isFault } from '../catalog/feed.ts';
import type { Catalog } from '../catalog/read-catalog.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import { batchReply } from '../jobs/job-view.ts';
import { queueStats } from '../jobs/queue-schemas.ts';
import type { Client } from './client.ts';
import { type EndedJob, followJobs } from './follow-jobs.ts';
import { type PendingJob, toPendingJob } from './index-job.ts';

export interface IndexProgress {
  /** Entries of the catalog, the faulty ones included. */
  readonly total: number;
  readonly enqueued: number;
  readonly completed: number;
  /** Entries that could not be taken and jobs that did not complete. */
  readonly failures: readonly EndedJob[];
  /** True when jobs wait and no worker is alive to take them. */
  readonly withoutWorker: boolean;
}

export interface IndexOptions {
  readonly catalog: Catalog;
  readonly client: Client;
  /** Folders whose files the workers read by path. */
  readonly sharedFolders: readonly string[];
  readonly signal: AbortSignal;
  onProgress(progress: IndexProgress): void;
}

const CHUNK_JOBS = 500;
/** The characters of inline images in one request, and in all jobs that have not ended. */
const CHUNK_INLINE = 8_000_000;
const OPEN_INLINE = 64_000_000;
const OPEN_JOBS = 5_000;
const POLL_MS = 250;
/** How long nothing may end before the workers are looked for. */
const QUIET_MS = 5_000;

/**
 * Enqueues every image of the catalog and waits until each of its jobs has ended. Only so many are open at once
 * that the queue stays small, however long the catalog is.
 * @throws VitrineError when the catalog can't be read or the server is gone; DOMException when aborted
 */
export async function indexCatalog(options: IndexOptions): Promise<IndexProgress> {
  const { catalog, client, signal } = options;
  const access = { catalogFolder: catalog.folder, sharedFolders: options.sharedFolders };
  const follower = followJobs(client, () => performance.now());
  const failures: EndedJob[] = [];
  let total = 0;
  let enqueued = 0;
  let completed = 0;
  let openInline = 0;
  let lastEndAt = performance.now();
  let withoutWorker = false;

  for await (const _entry of catalog.entries()) total += 1;

  const progress = (): IndexProgress => ({ total, enqueued, completed, failures, withoutWorker });

  async function poll(): Promise<void> {
    const ended = await follower.poll();
    for (const job of ended) {
      if (job.code === null) completed += 1;
      else failures.push(job);
    }
    if (follower.open === 0) openInline = 0;
    if (ended.length > 0) {
      lastEndAt = performance.now();
      withoutWorker = false;
    } else if (performance.now() - lastEndAt > QUIET_MS) {
      withoutWorker = (await client.call(queueStats, '/queue/stats')).workers_alive === 0;
      lastEndAt = performance.now();
    }
    options.onProgress(progress());
    if (ended.length === 0) await sleep(POLL_MS, undefined, { signal });
  }

  async function send(jobs: readonly PendingJob[]): Promise<void> {
    const reply = await enqueue(client, jobs, signal);
    const rejected = new Map(reply.rejected.map((rejection) => [rejection.index, rejection]));
    const ids = reply.job_ids[Symbol.iterator]();
    for (const [index, job] of jobs.entries()) {
      const rejection = rejected.get(index);
      if (rejection !== undefined)
        failures.push({ where: job.where, code: rejection.code, detail: rejection.detail, suggestion: '' });
      else {
        follower.add(ids.next().value ?? '', job.where);
        enqueued += 1;
        openInline += job.inline;
      }
    }
    options.onProgress(progress());
  }

  let chunk: PendingJob[] = [];
  let chunkInline = 0;
  const flush = async () => {
    if (chunk.length === 0) return;
    const jobs = chunk;
    chunk = [];
    chunkInline = 0;
    await send(jobs);
    while (follower.open >= OPEN_JOBS || openInline >= OPEN_INLINE) await poll();
  };
  for await (const entry of catalog.entries()) {
    signal.throwIfAborted();
    const job = isFault(entry) ? toFailure(entry.where, entry.fault) : await toPendingJob(entry, access);
    if ('code' in job) {
      failures.push(job);
      continue;
    }
    if (chunkInline + job.inline > CHUNK_INLINE) await flush();
    chunk.push(job);
    chunkInline += job.inline;
    if (chunk.length >= CHUNK_JOBS) await flush();
  }
  await flush();
  while (follower.open > 0) await poll();
  options.onProgress(progress());
  return progress();
}

const toFailure = (where: string, detail: string): EndedJob => ({
  where,
  code: 'invalid_line',
  detail,
  suggestion: 'Correct the line; the others are indexed.',
});

/** Waits while the queue is full; the key makes the server give its first answer when a reply was lost. */
async function enqueue(client: Client, jobs: readonly PendingJob[], signal: AbortSignal) {
  const request = {
    method: 'POST',
    body: jobs.map(({ body }) => body),
    headers: { 'Idempotency-Key': randomUUID() },
  } as const;
  for (;;) {
    try {
      return await client.call(batchReply, '/queue/enqueue/batch', request);
    } catch (error) {
      if (!(error instanceof VitrineError) || error.code !== 'queue_full') throw error;
      await sleep(error.retryAfterMs ?? 1_000, undefined, { signal });
    }
  }
}

import { createHash } from 'node:crypto';
import { v5 as uuidv5, v7 as uuidv7 } from 'uuid';
import { toVitrineError, VitrineError } from '../errors/vitrine-error.ts';
import type { JobQueue, NewJob } from '../queue/port.ts';

/** A job that has no id yet. */
export type JobDraft = Omit<NewJob, 'id'>;

export interface Idempotent<Answer> {
  readonly answer: Answer;
  /** True when it is the answer of an earlier request. */
  readonly replayed: boolean;
}

const DAY_MS = 86_400_000;

/** Namespace of the ids of jobs that came with an Idempotency-Key: a random UUID, fixed for ever. */
const ID_NAMESPACE = 'f0f4b8a6-9d0e-4c57-8a53-1f3b6f8f1c52';

/**
 * Enqueues at most once for a key: within 24 hours the same request gets the first one's answer. The jobs' ids
 * come from the key, so that a repetition of a request that ended between the enqueueing and its answer adds
 * nothing either: the queue knows the ids.
 * @param request what else makes the request the same, beside its jobs: its route, its faulty lines
 * @param enqueue given the drafts with their ids; what is not `complete` is not kept, so that a repetition may
 * do the rest
 * @throws VitrineError `idempotency_conflict` when the key came with another request before
 */
export async function enqueueOnce<Answer extends object>(
  queue: JobQueue,
  key: string | undefined,
  request: Readonly<Record<string, unknown>>,
  drafts: readonly JobDraft[],
  enqueue: (jobs: readonly NewJob[]) => Promise<{ readonly answer: Answer; readonly complete: boolean }>,
): Promise<Idempotent<Answer>> {
  if (key === undefined) {
    const { answer } = await enqueue(drafts.map((draft) => ({ ...draft, id: uuidv7() })));
    return { answer, replayed: false };
  }
  const fingerprint = toFingerprint([request, ...drafts]);
  const first = await ifReachable(queue.remember(`request:${key}`, fingerprint, DAY_MS));
  if (first !== null && first !== fingerprint) {
    throw new VitrineError('idempotency_conflict', 'The Idempotency-Key came with another request before.');
  }
  const kept = first === null ? null : await ifReachable(queue.recall(`answer:${key}`));
  if (kept !== null) return { answer: JSON.parse(kept) as Answer, replayed: true };

  const idAt = (index: number): string => uuidv5(JSON.stringify([key, fingerprint, index]), ID_NAMESPACE);
  const { answer, complete } = await enqueue(drafts.map((draft, index) => ({ ...draft, id: idAt(index) })));
  if (complete) await ifReachable(queue.remember(`answer:${key}`, JSON.stringify(answer), DAY_MS));
  return { answer, replayed: false };
}

/** While the queue is away jobs are spooled, and their ids alone keep a repetition from adding any. */
async function ifReachable(memory: Promise<string | null>): Promise<string | null> {
  return memory.catch((error: unknown) => {
    if (toVitrineError(error).code === 'queue_unavailable') return null;
    throw error;
  });
}

function toFingerprint(parts: readonly object[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(JSON.stringify(part)).update('\n');
  return hash.digest('base64url');
}

import { createHash, randomUUIDv7 } from 'node:crypto';
import { v7 as uuidv7 } from 'uuid';
import { toVitrineError, VitrineError } from '../errors/vitrine-error.ts';
import type { JobQueue } from '../queue/port.ts';
import { createTurns } from '../routing/turns.ts';

/** What is remembered of a request, so that its repetition adds nothing. */
export interface Repetition<Answer> {
  /** What the first request with the key was answered; null when this is the first, or it was not answered. */
  readonly answer: Answer | null;
  /** The id for the request's job of this index: the same one each time the key comes. */
  idAt(index: number): string;
  /** Keeps the answer for the next time. */
  keep(answer: Answer): Promise<void>;
}

interface FirstRequest {
  readonly fingerprint: string;
  /** Epoch milliseconds. */
  readonly at: number;
}

const DAY_MS = 86_400_000;

/**
 * What is known of an Idempotency-Key, for 24 hours. The jobs' ids come from the key, so that a repetition of a request
 * that ended between the enqueueing and its answer adds nothing either: the queue knows the ids.
 * @param key undefined: nothing is remembered, and the ids are new
 * @param parts all that makes a request the same one
 * @throws VitrineError `idempotency_conflict` when the key came with another request before, `queue_unavailable`
 */
export async function recallRequest<Answer extends object>(
  queue: Pick<JobQueue, 'remember' | 'recall'>,
  key: string | undefined,
  parts: readonly unknown[],
): Promise<Repetition<Answer>> {
  if (key === undefined) {
    return { answer: null, idAt: () => randomUUIDv7(), keep: () => Promise.resolve() };
  }
  const own: FirstRequest = { fingerprint: await hashParts(parts), at: Date.now() };
  const remembered = await queue.remember(`request:${key}`, JSON.stringify(own), DAY_MS);
  const first = remembered === null ? own : (JSON.parse(remembered) as FirstRequest);
  if (first.fingerprint !== own.fingerprint) {
    throw new VitrineError('idempotency_conflict', 'The Idempotency-Key came with another request before.');
  }
  const answer = remembered === null ? null : await queue.recall(`answer:${key}`);
  return {
    answer: answer === null ? null : (JSON.parse(answer) as Answer),
    idAt: (index) =>
      uuidv7({ msecs: first.at, random: toHash(JSON.stringify([key, first, index])).digest() }),
    async keep(kept) {
      // The jobs are stored: where this fails, their ids alone keep a repetition from adding any.
      await queue.remember(`answer:${key}`, JSON.stringify(kept), DAY_MS).catch((error: unknown) => {
        if (toVitrineError(error).retry !== 'release') throw error;
      });
    },
  };
}

const toHash = (text: string) => createHash('sha256').update(text);

/** Part by part: the JSON of a large batch would take long. Inline images are hashed by themselves for the same reason. */
async function hashParts(parts: readonly unknown[]): Promise<string> {
  const turn = createTurns();
  const hash = createHash('sha256');
  for (const part of parts) {
    const json = JSON.stringify(part, (name, value: unknown) =>
      name === 'base64' && typeof value === 'string' ? toHash(value).digest('base64url') : value,
    );
    hash.update(`${json}\n`);
    await turn();
  }
  return hash.digest('base64url');
}

import { setImmediate } from 'node:timers/promises';
import type { Context } from 'hono';
import type { ErrorCode } from '../errors/error-table.ts';
import { toVitrineError, VitrineError } from '../errors/vitrine-error.ts';
import type { JobQueue, NewJob } from '../queue/port.ts';
import { parseBodyKind, readJson, readLines } from '../routing/body.ts';
import { invalidRequest } from '../routing/faults.ts';
import { decodeUtf8, parseJson } from '../routing/json.ts';
import { type JobLimits, type JobRequest, parseJobRequest } from './job-request.ts';
import { MAX_BATCH_JOBS } from './schemas.ts';

/** Jobs that are parsed before other requests get a turn. */
const PARSED_PER_TURN = 200;

/** Jobs per call of the queue: enough to be quick, and few enough that other calls get their turn. */
const JOBS_PER_CALL = 500;

export interface Rejection {
  /** Place in the request, from 0. */
  readonly index: number;
  readonly code: ErrorCode;
  readonly detail: string;
}

export interface Batch {
  readonly accepted: readonly { readonly index: number; readonly request: JobRequest }[];
  readonly rejected: readonly Rejection[];
}

/**
 * The jobs of a batch, which is a JSON array or NDJSON: each is accepted or rejected by itself.
 * @throws VitrineError `unsupported_media_type`, `invalid_json`, `invalid_request` when there is no job,
 * `body_too_large` when there are too many
 */
export async function readBatch(c: Context, limits: JobLimits): Promise<Batch> {
  const isJson = parseBodyKind(c, ['json', 'ndjson']) === 'json';
  const parsers = isJson ? await readArray(c) : await readNdjson(c);
  if (parsers.length === 0) throw invalidRequest([{ path: '', message: 'must have at least 1 job' }]);
  if (parsers.length > MAX_BATCH_JOBS) {
    throw new VitrineError('body_too_large', `A batch has at most ${MAX_BATCH_JOBS} jobs.`);
  }
  const accepted: { index: number; request: JobRequest }[] = [];
  const rejected: Rejection[] = [];
  for (const [index, parse] of parsers.entries()) {
    if (index % PARSED_PER_TURN === PARSED_PER_TURN - 1) await setImmediate();
    try {
      accepted.push({ index, request: parseJobRequest(parse(), limits) });
    } catch (error) {
      rejected.push(toRejection(index, toVitrineError(error)));
    }
  }
  return { accepted, rejected };
}

async function readArray(c: Context): Promise<readonly (() => unknown)[]> {
  const body = await readJson(c);
  if (!Array.isArray(body)) throw invalidRequest([{ path: '', message: 'must be a list of jobs' }]);
  return body.map((value) => () => value);
}

async function readNdjson(c: Context): Promise<readonly (() => unknown)[]> {
  return (await readLines(c)).map((line) => () => parseJson(decodeUtf8(line)));
}

export function toRejection(index: number, { code, message }: VitrineError): Rejection {
  return { index, code, detail: message };
}

/**
 * Stores the jobs in order. Where the queue takes no more in the middle, `stopped` has the reason, and the jobs from
 * `ids.length` on are not stored.
 * @throws VitrineError of the queue when it takes none at all
 */
export async function enqueueAll(
  queue: Pick<JobQueue, 'enqueue'>,
  jobs: readonly NewJob[],
): Promise<{ readonly ids: readonly string[]; readonly stopped: VitrineError | null }> {
  const ids: string[] = [];
  for (let from = 0; from < jobs.length; from += JOBS_PER_CALL) {
    const some = jobs.slice(from, from + JOBS_PER_CALL);
    try {
      const enqueued = await queue.enqueue(some);
      ids.push(...enqueued.map(({ id }) => id));
      if (enqueued.length < some.length) {
        return { ids, stopped: new VitrineError('queue_full', 'The queue had no room for it.') };
      }
    } catch (error) {
      if (ids.length === 0) throw error;
      return { ids, stopped: toVitrineError(error) };
    }
  }
  return { ids, stopped: null };
}

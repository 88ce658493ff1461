import type { Context } from 'hono';
import type { ErrorCode } from '../errors/error-table.ts';
import { toVitrineError, VitrineError } from '../errors/vitrine-error.ts';
import type { JobQueue, NewJob } from '../queue/port.ts';
import { parseBodyKind, readBytes, readLines, toBodyBytes } from '../routing/body.ts';
import { invalidRequest } from '../routing/faults.ts';
import {
  type JsonMeasure,
  MAX_MEASURED_VALUES,
  measureJson,
  parseJson,
  parseMeasured,
} from '../routing/json.ts';
import { createTurns } from '../routing/turns.ts';
import { type JobLimits, type JobRequest, parseJobRequest } from './job-request.ts';
import { MAX_BATCH_JOBS } from './schemas.ts';

/** JSON values in all jobs together: they take up to 56 bytes of memory each. */
const MAX_BATCH_VALUES = MAX_MEASURED_VALUES;

/** Per call of the queue: enough to be quick, and few enough that other calls get their turn. */
const JOBS_PER_CALL = 500;
const BYTES_PER_CALL = 8_000_000;

/** Characters of the reason of each rejected job. */
const MAX_DETAIL = 500;

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

/** The body of a batch as it came. */
export interface BatchBody {
  readonly kind: 'json' | 'ndjson';
  readonly bytes: Uint8Array;
}

/** @throws VitrineError `unsupported_media_type`, and what `limitBody` throws */
export async function readBatchBody(c: Context): Promise<BatchBody> {
  const kind = parseBodyKind(c, ['json', 'ndjson']);
  return { kind, bytes: await readBytes(c) };
}

/**
 * The jobs of a batch, which is a JSON array or NDJSON: each is accepted or rejected by itself. Other requests get
 * their turns in between, and what is too much is refused before it is parsed.
 * @throws VitrineError `invalid_json`, `invalid_request` when there is no job, `body_too_large` when there are too many
 */
export async function parseBatch({ kind, bytes }: BatchBody, limits: JobLimits): Promise<Batch> {
  const maxJobBytes = toBodyBytes(limits.images.maxBytes);
  const turn = createTurns();
  const accepted: { index: number; request: JobRequest }[] = [];
  const rejected: Rejection[] = [];
  let index = 0;
  let values = 0;
  for await (const item of kind === 'json' ? splitArray(bytes) : splitLines(bytes)) {
    values += item.values;
    if (index === MAX_BATCH_JOBS || values > MAX_BATCH_VALUES) throw toTooMany(index);
    try {
      if (item.bytes.length > maxJobBytes)
        throw new VitrineError('body_too_large', `The job has more than the allowed ${maxJobBytes} bytes.`);
      accepted.push({ index, request: parseJobRequest(parseMeasured(item.bytes, item), limits) });
    } catch (error) {
      const failure = toVitrineError(error);
      // Where a list is broken, nobody knows where its jobs begin and end; lines do.
      if (kind === 'json' && failure.code === 'invalid_json') throw failure;
      rejected.push(toRejection(index, failure));
    }
    index++;
    await turn();
  }
  if (index === 0) throw invalidRequest([{ path: '', message: 'must have at least 1 job' }]);
  return { accepted, rejected };
}

function toTooMany(jobs: number): VitrineError {
  const limit = jobs === MAX_BATCH_JOBS ? `${MAX_BATCH_JOBS} jobs` : `${MAX_BATCH_VALUES} JSON values`;
  return new VitrineError('body_too_large', `A batch has at most ${limit}.`);
}

interface Item extends JsonMeasure {
  readonly bytes: Uint8Array;
}

const OPENING = 0x5b;
const COMMA = 0x2c;
const CLOSING = 0x5d;
const isBlank = (byte: number | undefined): boolean =>
  byte === 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d;

/** The elements of a JSON array, unparsed. @throws VitrineError `invalid_json`; `invalid_request` for no array */
async function* splitArray(bytes: Uint8Array): AsyncGenerator<Item> {
  let at = skipBlanks(bytes, 0);
  if (bytes[at] !== OPENING) {
    parseJson(bytes);
    throw invalidRequest([{ path: '', message: 'must be a list of jobs' }]);
  }
  at = skipBlanks(bytes, at + 1);
  const isEmpty = bytes[at] === CLOSING;
  while (!isEmpty) {
    const measure = measureJson(bytes, at);
    yield { ...measure, bytes: bytes.subarray(at, measure.end) };
    at = measure.end;
    if (bytes[at] !== COMMA) break;
    at++;
  }
  if (bytes[at] !== CLOSING || skipBlanks(bytes, at + 1) < bytes.length) {
    throw new VitrineError('invalid_json', 'The text is not valid JSON.');
  }
}

function skipBlanks(bytes: Uint8Array, from: number): number {
  let at = from;
  while (at < bytes.length && isBlank(bytes[at])) at++;
  return at;
}

async function* splitLines(bytes: Uint8Array): AsyncGenerator<Item> {
  for (const line of await readLines(bytes, MAX_BATCH_JOBS)) yield { ...measureLine(line), bytes: line };
}

/** As a whole, for a line holds one value; what else is in it is for the parser to find. */
function measureLine(line: Uint8Array): JsonMeasure {
  const first = measureJson(line, 0);
  return { ...first, end: line.length };
}

export function toRejection(index: number, { code, message }: VitrineError): Rejection {
  const detail = message.length > MAX_DETAIL ? `${message.slice(0, MAX_DETAIL)}…` : message;
  return { index, code, detail };
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
  for (let some = takeCall(jobs, 0); some.length > 0; some = takeCall(jobs, ids.length)) {
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

/** The jobs from `from` on that go with one call: at least one, unless there is none. */
function takeCall(jobs: readonly NewJob[], from: number): readonly NewJob[] {
  let bytes = 0;
  let to = from;
  while (to < jobs.length && to - from < JOBS_PER_CALL) {
    const image = jobs[to]?.data.image;
    bytes += image?.kind === 'inline' ? image.base64.length : 0;
    if (bytes > BYTES_PER_CALL && to > from) break;
    to++;
  }
  return jobs.slice(from, to);
}

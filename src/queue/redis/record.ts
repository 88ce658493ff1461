import { toImageHost } from '../../catalog/product-image.ts';
import {
  type Callback,
  ENDED_STATUSES,
  type ImageJobData,
  type JobError,
  type JobResult,
  type JobStatus,
  MAX_HISTORY,
  type Priority,
  type Stage,
  toCallback,
} from '../job.ts';
import type { AttemptRecord, ClaimedJob, Delivery, EnqueuedJob, JobView, NewJob } from '../port.ts';
import type { Reply } from './connection.ts';

/** A job's record as lua/common.lua describes it, as far as it is read here. Instants are epoch milliseconds. */
interface JobRecord {
  readonly state?: JobStatus;
  /** Absent in deliveries. */
  readonly key?: string;
  readonly delivers?: { readonly job: string; readonly url: string; readonly state: Delivery['end'] };
  readonly callbacks?: readonly Callback[];
  readonly product: string;
  readonly image: string;
  readonly priority: Priority;
  readonly max_attempts: number;
  readonly version: string;
  readonly sequence: string;
  readonly enqueued_at: number;
  readonly available_at?: number;
  readonly attempts?: number;
  readonly redelivered?: true;
  readonly crashes?: number;
  readonly leased_ms?: number;
  readonly deferred_at?: number;
  readonly started_at?: number;
  readonly place?: string;
  readonly processing_ms?: number;
  readonly worker?: string;
  readonly token?: string;
  readonly stage?: Stage;
  readonly cancel?: true;
  readonly error?: JobError;
  readonly result?: JobResult;
  readonly history?: readonly AttemptRecord[];
}

export const asList = (reply: Reply | undefined): readonly Reply[] => (Array.isArray(reply) ? reply : []);
export const asText = (reply: Reply | undefined): string => String(reply ?? '');

/** JSON that Lua can read: half a surrogate pair becomes U+FFFD. */
export function toJson(value: unknown): string {
  const json = JSON.stringify(value);
  return json.includes('\\ud') ? JSON.stringify(value, toWellFormed) : json;
}

const toWellFormed = (_: string, value: unknown) =>
  typeof value === 'string' ? value.toWellFormed() : value;

/** A new job as lua/enqueue.lua takes it. */
export function toNewJob(job: NewJob): readonly string[] {
  const { id, key, data, priority, maxAttempts, version, notBefore, callbackUrl, cancelled, ageMs } = job;
  const payload = toJson(data);
  const record = toJson({
    key,
    product: data.productId,
    image: data.imageId,
    host: toImageHost(data.image) ?? undefined,
    inline_bytes: data.image.kind === 'inline' ? Buffer.byteLength(payload) : undefined,
    callbacks: callbackUrl === undefined ? undefined : [toCallback(callbackUrl)],
    priority,
    max_attempts: maxAttempts,
    delay_ms: notBefore !== undefined && 'delayMs' in notBefore ? notBefore.delayMs : undefined,
    at_ms: notBefore !== undefined && 'atMs' in notBefore ? Math.ceil(notBefore.atMs) : undefined,
    age_ms: ageMs,
    cancelled,
  });
  const isInLine = notBefore === undefined && ageMs === undefined && !cancelled;
  const product = data.productId.toWellFormed();
  const versionText = version === null ? '' : String(version);
  return [id, key, product, versionText, isInLine ? priority : '', record.slice(0, -1), payload];
}

/** Null: it found no room. */
export function toEnqueuedJob(reply: Reply): EnqueuedJob | null {
  if (reply === 0) return null;
  const [id, status, position, replaced, superseded, version] = asList(reply);
  return {
    id: asText(id),
    status: asText(status) as JobStatus,
    position: toPosition(position),
    replaced: replaced === 1,
    superseded: superseded === 1,
    version: Number(version),
  };
}

const parseRecord = (record: string, state: string): JobRecord => ({
  ...(JSON.parse(record) as JobRecord),
  ...(JSON.parse(state) as Partial<JobRecord>),
});

/** @throws SyntaxError when the payload is not JSON */
export function parseClaimedJob(id: string, record: string, state: string, payload: string): ClaimedJob {
  const job = parseRecord(record, state);
  if (job.key === undefined && job.delivers === undefined) throw new SyntaxError('not a record');
  const { started_at: startedAt = 0, deferred_at: deferredAt, delivers } = job;
  const lease = {
    id,
    token: job.token ?? '',
    key: job.key ?? id,
    version: Number(job.version),
    sequence: Number(job.sequence),
    priority: job.priority,
    attempt: (job.attempts ?? 0) + 1,
    maxAttempts: job.max_attempts,
    crashes: job.crashes ?? 0,
    redelivered: job.redelivered ?? false,
    leasedMs: job.leased_ms ?? 0,
    deferredMs: deferredAt === undefined ? 0 : startedAt - deferredAt,
  };
  if (delivers === undefined) return { ...lease, data: JSON.parse(payload) as ImageJobData };
  const ended = toJobView(delivers.job, payload, '{}', -1);
  return { ...lease, data: { kind: 'delivery', url: delivers.url, job: ended } };
}

/** The job without an estimate of its wait. */
export function toJobView(id: string, record: string, stateText: string, position: Reply): JobView {
  const job = parseRecord(record, stateText);
  const { state = 'queued' } = job;
  return {
    id,
    key: job.key ?? id,
    productId: job.product,
    imageId: job.image,
    delivery: toDelivery(job),
    status: state,
    stage: state === 'processing' ? (job.stage ?? 'waiting') : null,
    priority: job.priority,
    version: Number(job.version),
    position: toPosition(position),
    etaMs: null,
    attempts: (job.attempts ?? 0) + (state === 'processing' || state === 'completed' ? 1 : 0),
    maxAttempts: job.max_attempts,
    crashes: job.crashes ?? 0,
    enqueuedAt: job.enqueued_at,
    availableAt: job.available_at ?? null,
    startedAt: job.started_at ?? null,
    endedAt: ENDED_STATUSES.includes(state) ? toEndedAt(job) : null,
    processingMs: job.processing_ms ?? null,
    workerId: job.worker ?? null,
    lastError: job.error ?? null,
    result: job.result ?? null,
    cancelRequested: job.cancel ?? false,
    history: toHistory(job),
  };
}

function toDelivery({ delivers }: JobRecord): Delivery | null {
  return delivers === undefined ? null : { jobId: delivers.job, url: delivers.url, end: delivers.state };
}

const toEndedAt = ({ place }: Pick<JobRecord, 'place'>): number => Math.floor(Number(place) / 1_000);

/** Of a completed job the state itself is the last attempt. */
function toHistory({ history = [], ...job }: JobRecord): readonly AttemptRecord[] {
  if (job.state !== 'completed') return history;
  const { started_at: startedAt = 0, worker: workerId = '' } = job;
  const last = { startedAt, endedAt: toEndedAt(job), workerId, outcome: 'completed' } as const;
  return [...history, last].slice(-MAX_HISTORY);
}

function toPosition(reply: Reply | undefined): number | null {
  const position = Number(reply);
  return position < 0 ? null : position;
}

import {
  type Callback,
  type ImageJobData,
  type JobError,
  type JobResult,
  type JobStatus,
  MAX_HISTORY,
  type Priority,
  type Stage,
  toCallback,
  toImageHost,
} from '../job.ts';
import type { AttemptRecord, ClaimedJob, Delivery, EnqueuedJob, JobView, NewJob } from '../port.ts';
import type { Reply } from './connection.ts';

/** A job's record as lua/common.lua describes it, as far as it is read here. Instants are epoch milliseconds. */
interface JobRecord {
  readonly state: JobStatus;
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
  readonly claims?: number;
  readonly crashes?: number;
  readonly leased_ms?: number;
  readonly deferred_at?: number;
  readonly started_at?: number;
  readonly ended_at?: number;
  readonly processing_ms?: number;
  readonly worker?: string;
  readonly token?: string;
  readonly stage?: Stage;
  readonly cancel?: true;
  readonly error?: JobError;
  readonly result?: JobResult;
  readonly history?: readonly {
    readonly started_at: number;
    readonly ended_at: number;
    readonly worker: string;
    readonly outcome: AttemptRecord['outcome'];
    readonly error?: JobError;
  }[];
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

/** The record and the payload of a new job, as lua/enqueue.lua takes them. */
export function toNewRecord(job: NewJob): { readonly record: string; readonly payload: string } {
  const { key, data, priority, maxAttempts, version, notBefore, callbackUrl, cancelled, ageMs } = job;
  const payload = toJson(data);
  const record = toJson({
    state: 'queued',
    key,
    product: data.productId,
    image: data.imageId,
    host: toImageHost(data.image) ?? undefined,
    inline_bytes: data.image.kind === 'inline' ? Buffer.byteLength(payload) : undefined,
    callbacks: callbackUrl === undefined ? undefined : [toCallback(callbackUrl)],
    priority,
    max_attempts: maxAttempts,
    version: version === null ? undefined : String(version),
    delay_ms: notBefore !== undefined && 'delayMs' in notBefore ? notBefore.delayMs : undefined,
    at_ms: notBefore !== undefined && 'atMs' in notBefore ? Math.ceil(notBefore.atMs) : undefined,
    age_ms: ageMs,
    cancelled,
  });
  return { record, payload };
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

/** @throws SyntaxError when the payload is not JSON */
export function parseClaimedJob(id: string, record: string, payload: string): ClaimedJob {
  const job = JSON.parse(record) as JobRecord;
  const { started_at: startedAt = 0, deferred_at: deferredAt, delivers } = job;
  const lease = {
    id,
    token: job.token ?? '',
    key: job.key ?? id,
    version: Number(job.version),
    sequence: Number(job.sequence),
    priority: job.priority,
    attempt: job.attempts ?? 1,
    maxAttempts: job.max_attempts,
    crashes: job.crashes ?? 0,
    redelivered: (job.claims ?? 1) > 1,
    leasedMs: job.leased_ms ?? 0,
    deferredMs: deferredAt === undefined ? 0 : startedAt - deferredAt,
  };
  if (delivers === undefined) return { ...lease, data: JSON.parse(payload) as ImageJobData };
  const ended = toJobView(delivers.job, payload, -1);
  return { ...lease, data: { kind: 'delivery', url: delivers.url, job: ended } };
}

/** The job without an estimate of its wait. */
export function toJobView(id: string, record: string, position: Reply): JobView {
  const job = JSON.parse(record) as JobRecord;
  return {
    id,
    key: job.key ?? id,
    productId: job.product,
    imageId: job.image,
    delivery: toDelivery(job),
    status: job.state,
    stage: job.state === 'processing' ? (job.stage ?? 'waiting') : null,
    priority: job.priority,
    version: Number(job.version),
    position: toPosition(position),
    etaMs: null,
    attempts: job.attempts ?? 0,
    maxAttempts: job.max_attempts,
    crashes: job.crashes ?? 0,
    enqueuedAt: job.enqueued_at,
    availableAt: job.available_at ?? null,
    startedAt: job.started_at ?? null,
    endedAt: job.ended_at ?? null,
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

/** Of a completed job the record itself is the last attempt. */
function toHistory({ state, history = [], ...job }: JobRecord): AttemptRecord[] {
  const attempts: AttemptRecord[] = history.map(({ started_at, ended_at, worker, outcome, error }) => ({
    startedAt: started_at,
    endedAt: ended_at,
    workerId: worker,
    outcome,
    ...(error === undefined ? {} : { error }),
  }));
  if (state === 'completed') {
    const { started_at: startedAt = 0, ended_at: endedAt = 0, worker: workerId = '' } = job;
    attempts.push({ startedAt, endedAt, workerId, outcome: 'completed' });
  }
  return attempts.slice(-MAX_HISTORY);
}

function toPosition(reply: Reply | undefined): number | null {
  const position = Number(reply);
  return position < 0 ? null : position;
}

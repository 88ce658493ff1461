import { ERRORS, type ErrorCode } from '../../errors/error-table.ts';
import {
  type JobData,
  type JobError,
  type JobResult,
  type JobStatus,
  PRIORITIES,
  type Priority,
} from '../job.ts';
import type { AttemptRecord, Claim, ClaimedJob, EnqueuedJob, JobView, NewJob } from '../port.ts';
import type { Reply } from './redis-connection.ts';
import { decodeRecord, type JobRecord } from './redis-records.ts';

/** What the Lua scripts give, as the port's types. Each list is as its script's first comment says. */
export const asList = (reply: Reply | undefined): readonly Reply[] => (Array.isArray(reply) ? reply : []);
export const asNumber = (reply: Reply | undefined): number => Number(reply);
export const asText = (reply: Reply | undefined): string => String(reply ?? '');

const toPriority = (rank: number): Priority => PRIORITIES[rank - 1] ?? 'normal';
const toRank = (reply: Reply | undefined): number | null => (asNumber(reply) < 0 ? null : asNumber(reply));
const parse = <T>(text: string): T | null => (text === '' ? null : (JSON.parse(text) as T));

export const toPriorityRank = (priority: Priority): number => PRIORITIES.indexOf(priority) + 1;

/**
 * @param values the answers to several calls
 * @param first how many jobs were in the calls before
 * @param jobs what was sent: of most jobs it is answered only where they stand
 * @returns null when the call was refused as too many
 */
export function toEnqueuedJobs(
  values: readonly Reply[],
  first: number,
  jobs: readonly NewJob[],
): EnqueuedJob[] | null {
  if (values[first * 3] === -1) return null;
  return jobs.map(({ id }, index) => {
    const at = (first + index) * 3;
    const told = values[at];
    if (told !== 0) return toEnqueuedJob(told);
    const position = toRank(values[at + 1]);
    const version = asNumber(values[at + 2]);
    const status = position === null ? 'delayed' : 'queued';
    return { id, status, position, replaced: false, superseded: false, version };
  });
}

function toEnqueuedJob(reply: Reply | undefined): EnqueuedJob {
  const [id, status, position, replaced, superseded, version] = asList(reply);
  return {
    id: asText(id),
    status: asText(status) as JobStatus,
    position: toRank(position),
    replaced: replaced === 1,
    superseded: superseded === 1,
    version: asNumber(version),
  };
}

const CLAIMED_WIDTH = 3;

/** The claim, when it was made, and the record of each of its jobs. */
export function toClaim(
  reply: Reply,
  token: string,
): { readonly claim: Claim; readonly startedAt: number; readonly records: readonly JobRecord[] } {
  const [suspectsWaiting, time, told] = asList(reply);
  const values = asList(told);
  const startedAt = asNumber(time);
  const jobs: ClaimedJob[] = [];
  const records: JobRecord[] = [];
  for (let at = 0; at < values.length; at += CLAIMED_WIDTH) {
    const record = decodeRecord(asText(values[at + 1]));
    const { key, version, priority, attempts, maxAttempts, crashes, firstClaimedAt, data } = record;
    records.push(record);
    jobs.push({
      id: asText(values[at]),
      token,
      key,
      data: JSON.parse(data || asText(values[at + 2])) as JobData,
      version,
      priority: toPriority(priority),
      attempt: attempts + 1,
      maxAttempts,
      crashes,
      sinceFirstClaimMs: firstClaimedAt === 0 ? 0 : startedAt - firstClaimedAt,
    });
  }
  return { claim: { jobs, suspectsWaiting: asNumber(suspectsWaiting) }, startedAt, records };
}

/** @param completedPerSecond null when unknown: then no wait is estimated */
export function toJobView(reply: Reply, completedPerSecond: number | null): JobView {
  const [id, status, rank, text] = asList(reply);
  const record = decodeRecord(asText(text));
  const position = toRank(rank);
  return {
    id: asText(id),
    key: record.key,
    productId: JSON.parse(record.product) as string,
    imageId: JSON.parse(record.image) as string,
    status: asText(status) as JobStatus,
    priority: toPriority(record.priority),
    version: record.version,
    position,
    etaMs:
      position === null || !completedPerSecond ? null : Math.round((position / completedPerSecond) * 1000),
    attempts: record.attempts,
    maxAttempts: record.maxAttempts,
    crashes: record.crashes,
    enqueuedAt: record.enqueuedAt,
    availableAt: record.availableAt || null,
    startedAt: record.startedAt || null,
    endedAt: record.endedAt || null,
    processingMs: toRank(record.processingMs),
    workerId: record.worker || null,
    lastError: parse<JobError>(record.error),
    result: parse<JobResult>(record.result),
    cancelRequested: record.cancel === 1,
    history: record.history === '' ? [] : record.history.split('\n').map(toAttempt),
  };
}

function toAttempt(line: string): AttemptRecord {
  const [startedAt, endedAt, outcome, workerId, error] = JSON.parse(line) as [
    number,
    number,
    AttemptRecord['outcome'],
    string,
    JobError?,
  ];
  return { startedAt, endedAt, workerId, outcome, ...(error === undefined ? {} : { error }) };
}

/** A queue's own error, as JSON for a script. */
export function toStoredError(code: ErrorCode, message: string): string {
  return JSON.stringify({ code, message, suggestion: ERRORS[code].suggestion } satisfies JobError);
}

import { ERRORS, type ErrorCode } from '../../domain/error-table.ts';
import {
  type JobData,
  type JobError,
  type JobResult,
  type JobStatus,
  PRIORITIES,
  type Priority,
} from '../../domain/job.ts';
import type {
  AttemptRecord,
  Claim,
  ClaimedJob,
  EnqueuedJob,
  JobView,
  NewJob,
} from '../../ports/job-queue.ts';
import type { Reply } from './redis-connection.ts';

/** What the Lua scripts give, as the port's types. Each list is as its script's first comment says. */
export const asList = (reply: Reply | undefined): readonly Reply[] => (Array.isArray(reply) ? reply : []);
export const asNumber = (reply: Reply | undefined): number => Number(reply);
export const asText = (reply: Reply | undefined): string => String(reply ?? '');

const toPriority = (rank: number): Priority => PRIORITIES[rank - 1] ?? 'normal';
const toRank = (reply: Reply | undefined): number | null => (asNumber(reply) < 0 ? null : asNumber(reply));
const toInstant = (reply: Reply | undefined): number | null => asNumber(reply) || null;
const parse = <T>(reply: Reply | undefined): T | null =>
  reply === '' ? null : (JSON.parse(asText(reply)) as T);

export const toPriorityRank = (priority: Priority): number => PRIORITIES.indexOf(priority) + 1;

/** @param jobs what was sent: of most jobs it is answered only where they stand */
export function toEnqueuedJobs(reply: Reply | undefined, jobs: readonly NewJob[]): EnqueuedJob[] {
  const values = asList(reply);
  return jobs.map(({ id }, index) => {
    const told = values[index * 3];
    if (told !== 0) return toEnqueuedJob(told);
    const position = toRank(values[index * 3 + 1]);
    const version = asNumber(values[index * 3 + 2]);
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

const CLAIMED_WIDTH = 9;

export function toClaim(reply: Reply, token: string): Claim {
  const values = asList(reply);
  const jobs: ClaimedJob[] = [];
  for (let at = 1; at < values.length; at += CLAIMED_WIDTH) {
    jobs.push({
      id: asText(values[at]),
      token,
      key: asText(values[at + 1]),
      data: JSON.parse(asText(values[at + 2])) as JobData,
      version: asNumber(values[at + 3]),
      priority: toPriority(asNumber(values[at + 4])),
      attempt: asNumber(values[at + 5]),
      maxAttempts: asNumber(values[at + 6]),
      crashes: asNumber(values[at + 7]),
      sinceFirstClaimMs: asNumber(values[at + 8]),
    });
  }
  return { jobs, suspectsWaiting: asNumber(values[0]) };
}

/** @param completedPerSecond null when unknown: then no wait is estimated */
export function toJobView(reply: Reply, completedPerSecond: number | null): JobView {
  const v = asList(reply);
  const position = toRank(v[7]);
  return {
    id: asText(v[0]),
    key: asText(v[1]),
    productId: asText(v[2]),
    imageId: asText(v[3]),
    status: asText(v[4]) as JobStatus,
    priority: toPriority(asNumber(v[5])),
    version: asNumber(v[6]),
    position,
    etaMs:
      position === null || !completedPerSecond ? null : Math.round((position / completedPerSecond) * 1000),
    attempts: asNumber(v[8]),
    maxAttempts: asNumber(v[9]),
    crashes: asNumber(v[10]),
    enqueuedAt: asNumber(v[11]),
    availableAt: toInstant(v[12]),
    startedAt: toInstant(v[13]),
    endedAt: toInstant(v[14]),
    processingMs: toRank(v[15]),
    workerId: asText(v[16]) || null,
    lastError: parse<JobError>(v[17]),
    result: parse<JobResult>(v[18]),
    cancelRequested: v[19] === 1,
    history: asList(v[20]).map(toAttempt),
  };
}

function toAttempt(reply: Reply): AttemptRecord {
  const [startedAt, endedAt, workerId, outcome, error] = asList(reply);
  const failure = parse<JobError>(error);
  return {
    startedAt: asNumber(startedAt),
    endedAt: asNumber(endedAt),
    workerId: asText(workerId),
    outcome: asText(outcome) as AttemptRecord['outcome'],
    ...(failure === null ? {} : { error: failure }),
  };
}

/** A queue's own error, as JSON for a script. */
export function toStoredError(code: ErrorCode, message: string): string {
  return JSON.stringify({ code, message, suggestion: ERRORS[code].suggestion } satisfies JobError);
}

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { AGED_TURN, MAX_CALLBACKS, MAX_CRASHES, MAX_HISTORY } from '../job.ts';
import { DELIVERY_RETRY } from '../retry-policy.ts';
import {
  DURATIONS_KEPT,
  ENQUEUE_ID_TTL_MS,
  HOST_PACE,
  MAX_LISTED_HOSTS,
  RATE_WINDOW_S,
  RECENTLY_DEAD_MS,
  toJobError,
} from '../shared.ts';

/** What every script may touch, in the order in which it is passed; lua/common.lua says what each holds. */
const KEY_NAMES = [
  ...['jobs', 'states', 'data', 'meta', 'images'],
  ...['queued:high', 'queued:normal', 'queued:low', 'suspects', 'followups', 'delayed'],
  ...['parked', 'parked_by_host', 'host_turns', 'hosts'],
  ...['processing', 'completed', 'failed', 'cancelled', 'aliases', 'deliveries'],
  ...['failed_inline', 'failed_by_code', 'heartbeats', 'workers', 'rates', 'durations'],
] as const;

export type QueueKeys = ReturnType<typeof toQueueKeys>;

/** The keys share one hash tag, so that scripts may touch them together in a Redis Cluster. */
export function toQueueKeys(prefix: string) {
  const toKey = (name: string) => `{${prefix}}:${name}`;
  /** `all`: of every script, in order. */
  return { all: KEY_NAMES.map(toKey), toKey };
}

/** A Lua script as Redis gets it. */
export interface Script {
  readonly body: string;
  /** What EVALSHA calls it by. */
  readonly sha: string;
}

export const UNREADABLE = JSON.stringify(
  toJobError('job_unreadable', 'What is stored of the job could not be read.'),
);

/** The port's constants, under the same names in Lua. */
const CONSTANTS = {
  AGED_TURN,
  MAX_CRASHES,
  MAX_HISTORY,
  MAX_CALLBACKS,
  DELIVERY_ATTEMPTS: DELIVERY_RETRY.attempts,
  ENQUEUE_ID_TTL_MS,
  RATE_WINDOW_S,
  RECENTLY_DEAD_MS,
  DURATIONS_KEPT,
  MAX_LISTED_HOSTS,
  HOST_START_PER_SECOND: HOST_PACE.startPerSecond,
  HOST_MIN_PER_SECOND: HOST_PACE.minPerSecond,
  HOST_BURST_MS: HOST_PACE.burstMs,
  HOST_FORGET_AFTER_MS: HOST_PACE.forgetAfterMs,
  ERROR_POISON: `[==[${JSON.stringify(toJobError('job_poison', `The job ended ${MAX_CRASHES} workers.`))}]==]`,
  ERROR_UNREADABLE: `[==[${UNREADABLE}]==]`,
};

const PRELUDE = [
  `local key = { ${KEY_NAMES.map((name, index) => `['${name}'] = KEYS[${index + 1}]`).join(', ')} }`,
  `local ${Object.keys(CONSTANTS).join(', ')} = ${Object.values(CONSTANTS).join(', ')}`,
].join('\n');

const read = (name: string): string => readFileSync(new URL(`./lua/${name}.lua`, import.meta.url), 'utf8');

/**
 * Only an enqueue may be refused when Redis is full: all else frees memory in the end, and a queue that can't be
 * drained stays full.
 */
function script(name: string, flags = ' flags=allow-oom'): Script {
  const body = [`#!lua${flags}`, PRELUDE, read('common'), read(name)].join('\n');
  return { body, sha: createHash('sha1').update(body).digest('hex') };
}

export const SCRIPTS = {
  enqueue: script('enqueue', ''),
  claim: script('claim'),
  settle: script('settle'),
  reap: script('reap'),
  read: script('read'),
  manage: script('manage'),
} as const;

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { ERRORS, type ErrorCode } from '../../errors/error-table.ts';
import { AGED_TURN, type JobError, MAX_CRASHES, MAX_HISTORY } from '../job.ts';

/** What every script may touch, in the order in which it is passed; lua/common.lua says what each holds. */
const KEY_NAMES = [
  ...['jobs', 'data', 'meta', 'images'],
  ...['queued:high', 'queued:normal', 'queued:low', 'suspects', 'followups', 'delayed'],
  ...['parked', 'parked_by_host', 'host_turns', 'hosts'],
  ...['processing', 'completed', 'failed', 'cancelled', 'aliases'],
  ...['failed_inline', 'failed_codes', 'heartbeats', 'rates', 'durations'],
] as const;

/** The keys share one hash tag, so that scripts may touch them together in a Redis Cluster. */
export interface QueueKeys {
  /** Of every script, in order. */
  readonly all: readonly string[];
  toKey(name: string): string;
}

export function toQueueKeys(prefix: string): QueueKeys {
  const toKey = (name: string) => `{${prefix}}:${name}`;
  return { all: KEY_NAMES.map(toKey), toKey };
}

/** A Lua script as Redis gets it. */
export interface Script {
  readonly body: string;
  /** What EVALSHA calls it by. */
  readonly sha: string;
}

const POISON = toErrorJson('job_poison', `The job ended ${MAX_CRASHES} workers.`);
export const UNREADABLE = toErrorJson('job_unreadable', 'What is stored of the job could not be read.');

/** Names and constants that the scripts share with TypeScript; Lua reads a JSON string in quotes as a string too. */
const PRELUDE = [
  `local key = { ${KEY_NAMES.map((name, index) => `['${name}'] = KEYS[${index + 1}]`).join(', ')} }`,
  `local AGED_TURN, MAX_CRASHES, MAX_HISTORY = ${AGED_TURN}, ${MAX_CRASHES}, ${MAX_HISTORY}`,
  `local ERROR_POISON, ERROR_UNREADABLE = [==[${POISON}]==], [==[${UNREADABLE}]==]`,
].join('\n');

function toErrorJson(code: ErrorCode, message: string): string {
  return JSON.stringify({ code, message, suggestion: ERRORS[code].suggestion } satisfies JobError);
}

const read = (name: string): string => readFileSync(new URL(`./lua/${name}.lua`, import.meta.url), 'utf8');

/**
 * Only an enqueue may be refused when Redis is full: all else frees memory in the end, and a queue that can't be
 * drained stays full.
 */
function script(names: readonly string[], flags = ' flags=allow-oom'): Script {
  const body = [`#!lua${flags}`, PRELUDE, ...names.map(read)].join('\n');
  return { body, sha: createHash('sha1').update(body).digest('hex') };
}

export const SCRIPTS = {
  enqueue: script(['common', 'enqueue'], ''),
  claim: script(['common', 'hosts', 'claim']),
  renew: script(['common', 'renew']),
  settle: script(['common', 'hosts', 'settle']),
  reap: script(['common', 'reap']),
  cancel: script(['common', 'cancel']),
  dead: script(['common', 'dead']),
  read: script(['common', 'read']),
  flush: script(['flush']),
  evenWhenFull: script(['even-when-full']),
} as const;

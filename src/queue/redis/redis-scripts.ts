import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** A Lua script as Redis gets it: the shared beginning, then its own file. */
export interface Script {
  readonly name: string;
  readonly body: string;
  /** What EVALSHA calls it by. */
  readonly sha: string;
}

const read = (name: string): string => readFileSync(new URL(`./lua/${name}.lua`, import.meta.url), 'utf8');
const BASE = read('base');
const JOBS = `${BASE}\n${read('jobs')}`;
const VIEWS = `${JOBS}\n${read('views')}`;

/**
 * A queue script. Only enqueueing may be refused when Redis is full: all else frees memory in the end, and a
 * queue that can't be drained stays full.
 */
function queueScript(name: string, { before = JOBS, mayBeRefused = false } = {}): Script {
  return script(name, `${mayBeRefused ? '#!lua' : '#!lua flags=allow-oom'}\n${before}\n${read(name)}`);
}

function script(name: string, body: string): Script {
  return { name, body, sha: createHash('sha1').update(body).digest('hex') };
}

export const SCRIPTS = {
  enqueue: queueScript('enqueue', { before: VIEWS, mayBeRefused: true }),
  countNew: queueScript('count-new'),
  claim: queueScript('claim'),
  renew: queueScript('renew', { before: BASE }),
  complete: queueScript('complete', { before: BASE }),
  settle: queueScript('settle'),
  reap: queueScript('reap'),
  view: queueScript('view', { before: VIEWS }),
  active: queueScript('active', { before: VIEWS }),
  stats: queueScript('stats', { before: VIEWS }),
  cancel: queueScript('cancel'),
  dead: queueScript('dead', { before: VIEWS }),
  emptyDead: queueScript('empty-dead'),
  forgetProduct: queueScript('forget-product'),
  flush: queueScript('flush'),
  pause: queueScript('pause'),
  auditJobs: queueScript('audit-jobs'),
  auditSlots: queueScript('audit-slots'),
  beat: script('beat', `#!lua flags=allow-oom\n${read('beat')}`),
  listWorkers: script('list-workers', `#!lua flags=allow-oom\n${read('list-workers')}`),
} as const;

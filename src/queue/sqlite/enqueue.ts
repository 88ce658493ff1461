import type { VitrineError } from '../../errors/vitrine-error.ts';
import { mergeCallbacks, toCallback, toImageHost } from '../job.ts';
import type { EnqueuedJob, NewJob } from '../port.ts';
import { higherOf, isNewer, toQueueFull } from '../shared.ts';
import {
  type Counts,
  countDelayed,
  countQueued,
  type Jobs,
  toCallbacks,
  toDue,
  toLine,
  toPosition,
  toStatus,
} from './jobs.ts';
import { type JobRow, toNewRow } from './schema.ts';
import type { Transitions } from './transitions.ts';

export interface AbsorbedRow {
  readonly target: string;
  readonly version: number;
  readonly sequence: number;
  /** 0: it was superseded. */
  readonly replaced: number;
}

type Answer = Pick<EnqueuedJob, 'id' | 'replaced' | 'superseded' | 'version'>;

/** Stores new jobs; see the port for what becomes of others of the same image. Runs in a transaction. */
export function createEnqueue(jobs: Jobs, transitions: Transitions) {
  const findAbsorbed = (id: string) => jobs.get<AbsorbedRow>('SELECT * FROM absorbed WHERE id = ?', id);

  function firstAnswer(id: string): Answer | undefined {
    const job = jobs.find(id);
    if (job !== undefined) return { id, replaced: false, superseded: false, version: job.version };
    const row = findAbsorbed(id);
    if (row === undefined) return undefined;
    const replaced = row.replaced === 1;
    return { id: row.target, replaced, superseded: !replaced, version: row.version };
  }

  function absorb(id: string, target: JobRow, replaced: boolean, now: number): Answer {
    const { version, sequence } = target;
    const row = [id, target.id, version, sequence, replaced ? 1 : 0, now];
    jobs.run('INSERT INTO absorbed VALUES (?, ?, ?, ?, ?, ?)', ...row);
    return { id: target.id, replaced, superseded: !replaced, version };
  }

  /** @returns undefined when there is no room for it */
  function add(job: NewJob, hasRoom: () => boolean, now: number): Answer | undefined {
    const known = firstAnswer(job.id);
    if (known !== undefined) return known;

    const { running, waiting } = jobs.siblings(job.key);
    const siblings = running === undefined ? waiting : [running, ...waiting];
    const sequence = jobs.nextSequence() - Math.round((job.ageMs ?? 0) * 1_000);
    const version = job.version ?? Math.max(sequence, ...siblings.map((other) => other.version));
    const record = toRecord(job, { version, sequence }, now);
    if (job.cancelled) {
      // Inserted as a delayed one, of which an image may have several.
      record.waitsFor = 'time';
      jobs.insert(record);
      transitions.finish(record, 'cancelled', now);
      return { id: job.id, replaced: false, superseded: false, version };
    }
    const due = toDue(record, now);

    const [newest] = siblings
      .filter((other) => other.cancelRequested === 0 && toDue(other, now) <= due && isNewer(other, record))
      .sort((a, b) => (isNewer(a, b) ? -1 : 1));
    if (newest !== undefined) {
      if (record.callbacks !== null) jobs.save({ ...newest, callbacks: joinCallbacks(newest, record) });
      return absorb(job.id, newest, false, now);
    }

    const data = JSON.stringify(job.data);
    record.bytes = Buffer.byteLength(data);
    record.inlineBytes = job.data.image.kind === 'inline' ? record.bytes : 0;
    const [carrier, ...others] = waiting
      .filter((other) => toDue(other, now) >= due && isNewer(record, other))
      .sort((a, b) => toDue(a, now) - toDue(b, now) || a.turn - b.turn);
    if (carrier === undefined) {
      if (!hasRoom()) return undefined;
      transitions.place(record, running, now);
      jobs.insert(record);
      jobs.setPayload(record.id, data);
      return { id: job.id, replaced: false, superseded: false, version };
    }
    const { attempts, deliveries, leasedMs, deferredAt, error, bytes, inlineBytes } = record;
    Object.assign(carrier, { attempts, deliveries, leasedMs, deferredAt, error, bytes, inlineBytes });
    const { availableAt, maxAttempts, host } = record;
    const callbacks = joinCallbacks(carrier, record);
    Object.assign(carrier, { availableAt, maxAttempts, host, version, sequence, callbacks });
    carrier.priority = [record, ...others].reduce(
      (high, { priority }) => higherOf(high, priority),
      carrier.priority,
    );
    carrier.crashes = Math.max(carrier.crashes, ...others.map(({ crashes }) => crashes));
    if (carrier.waitsFor === 'time') carrier.turn = sequence;
    for (const other of others) transitions.finish(other, 'cancelled', now);
    transitions.place(carrier, running, now);
    jobs.save(carrier);
    jobs.setPayload(carrier.id, data);
    return absorb(job.id, carrier, true, now);
  }

  /** @param maxPending 0: no limit */
  function enqueue(newJobs: readonly NewJob[], maxPending: number): readonly EnqueuedJob[] | VitrineError {
    const now = Date.now();
    const before = jobs.meta('sequence');
    const hasRoom = () => maxPending === 0 || countPending(jobs.counts()) < maxPending;
    const answers: Answer[] = [];
    for (const job of newJobs) {
      const answer = add(job, hasRoom, now);
      if (answer === undefined) break;
      answers.push(answer);
    }
    return answers.length === 0 && newJobs.length > 0
      ? toQueueFull(maxPending)
      : locate(answers, before, now);
  }

  /** Where the jobs are now. Those that this call put at the end of a line are counted from its end: it may be long. */
  function locate(answers: readonly Answer[], before: number, now: number): EnqueuedJob[] {
    const byPlace = jobs.counts();
    const found = new Map(answers.map(({ id }) => [id, jobs.find(id)]));
    const positions = new Map<string, number>();
    const behind = { ...byPlace };
    const atEnd = [...found.values()].flatMap((job) => (job !== undefined && job.turn > before ? [job] : []));
    for (const job of atEnd.sort((a, b) => b.turn - a.turn)) {
      const line = toLine(job);
      if (line === null) continue;
      behind[line] -= 1;
      positions.set(job.id, toPosition(line, behind[line], byPlace));
    }
    return answers.map((answer) => {
      const job = found.get(answer.id);
      // It was purged, or dropped.
      if (job === undefined) return { ...answer, status: 'failed', position: null };
      const position = positions.get(job.id) ?? jobs.position(job, byPlace);
      return { ...answer, status: toStatus(job, now), position };
    });
  }

  return { enqueue, findAbsorbed };
}

function joinCallbacks(first: JobRow, second: JobRow): string | null {
  const joined = mergeCallbacks(toCallbacks(first), toCallbacks(second));
  return joined.length === 0 ? null : JSON.stringify(joined);
}

const countPending = (byPlace: Counts): number =>
  countQueued(byPlace) + countDelayed(byPlace) + byPlace.processing;

function toRecord(job: NewJob, order: { version: number; sequence: number }, now: number): JobRow {
  const { id, key, priority, maxAttempts, notBefore, callbackUrl, ageMs = 0 } = job;
  const { productId, imageId, image } = job.data;
  const enqueuedAt = now - Math.round(ageMs);
  const availableAt =
    notBefore === undefined
      ? null
      : Math.ceil('delayMs' in notBefore ? enqueuedAt + notBefore.delayMs : notBefore.atMs);
  return toNewRow({
    ...{ id, key, productId, imageId, priority, maxAttempts, enqueuedAt, availableAt, ...order },
    host: toImageHost(image),
    callbacks: callbackUrl === undefined ? null : JSON.stringify([toCallback(callbackUrl)]),
  });
}

import type { Redis } from 'ioredis';

/** What a job is and what became of it, as src/queue/redis/lua/common.lua describes it: its places follow from that. */
interface StoredJob {
  readonly alias_of?: string;
  readonly state?: string;
  /** Absent in deliveries, which belong to no image. */
  readonly key?: string;
  readonly delivers?: object;
  readonly product: string;
  readonly priority: string;
  readonly sequence: string;
  readonly place?: string;
  readonly lease_until?: number;
  readonly waits_for?: 'host' | 'image';
  readonly crashes?: number;
  readonly host?: string;
  readonly inline_bytes?: number;
  readonly error?: { readonly code: string };
}

type Job = StoredJob & { readonly state: string };

/** Sorted set → member → score. */
type Places = Map<string, Map<string, number>>;

const PLACES = ['queued:high', 'queued:normal', 'queued:low', 'suspects', 'followups', 'delayed', 'parked']
  .concat(['processing', 'completed', 'failed', 'cancelled', 'aliases', 'deliveries'])
  .concat(['images', 'parked_by_host', 'failed_inline', 'failed_by_code']);
/** Keys that belong to no single job. */
const OTHERS = ['jobs', 'states', 'data', 'meta', 'rates', 'durations', 'hosts', 'host_turns'].concat([
  'heartbeats',
  'format',
  'workers',
]);
const RANKS: Readonly<Record<string, number>> = { high: 1, normal: 2, low: 3 };
const ENDS = ['completed', 'failed', 'cancelled'];

/**
 * Reads all keys of a queue in one step, at any time, and says what is wrong: each job is in exactly the places that
 * follow from its state, nothing else is in any place, and no key is unknown.
 */
export async function auditQueue(redis: Redis, prefix: string): Promise<readonly string[]> {
  const key = (name: string) => `{${prefix}}:${name}`;
  const step = redis.multi().hgetall(key('jobs')).hkeys(key('data')).hgetall(key('meta'));
  step.zrange(key('host_turns'), '0', '-1').hgetall(key('states'));
  for (const place of PLACES) step.zrange(key(place), '0', '-1', 'WITHSCORES');
  const replies = (await step.exec()) ?? [];
  const read = <T>(index: number) => {
    const [error, value] = replies[index] ?? [new Error('Redis did not answer.'), null];
    if (error !== null) throw error;
    return value as T;
  };

  const states = read<Record<string, string>>(4);
  const jobs = new Map(
    Object.entries(read<Record<string, string>>(0)).map(([id, text]) => [
      id,
      { state: 'queued', ...JSON.parse(text), ...JSON.parse(states[id] ?? '{}') } as Job,
    ]),
  );
  const actual: Places = new Map(PLACES.map((place, index) => [place, toScores(read<string[]>(5 + index))]));
  return [
    ...Object.keys(states)
      .filter((id) => !jobs.has(id))
      .map((id) => `${id} has a state, but no record`),
    ...comparePlaces(toExpectedPlaces(jobs), actual),
    ...checkPayloads(jobs, new Set(read<string[]>(1))),
    ...checkDeadBytes(jobs, read<Record<string, string>>(2)),
    ...checkHosts(jobs, new Set(read<string[]>(3))),
    ...(await findUnknownKeys(redis, prefix)),
  ];
}

function toExpectedPlaces(jobs: ReadonlyMap<string, Job>): Places {
  const places: Places = new Map(PLACES.map((place) => [place, new Map()]));
  for (const [id, job] of jobs) {
    const place = Number(job.place ?? job.sequence);
    const state = toPlace(job);
    places.get(state)?.set(id, state === 'processing' ? (job.lease_until ?? Number.NaN) : place);
    if (job.alias_of !== undefined) continue;
    // As Lua's cjson writes it.
    const product = JSON.stringify(job.product).replaceAll('/', '\\/');
    const addImage = (kind: string) => {
      if (job.key !== undefined) places.get('images')?.set(`${product}\0${job.key}\0${kind}\0${id}`, 0);
    };
    if (job.delivers !== undefined) places.get('deliveries')?.set(id, Number(job.sequence));
    if (job.state === 'failed') {
      addImage('dead');
      places.get('failed_by_code')?.set(`${job.error?.code}\0${place}\0${id}`, 0);
      if ((job.inline_bytes ?? 0) > 0) places.get('failed_inline')?.set(id, place);
    } else if (!ENDS.includes(job.state)) {
      addImage('live');
    }
    if (state === 'parked') {
      places.get('parked_by_host')?.set(`${job.host}\0${RANKS[job.priority]}${place}\0${id}`, 0);
    }
  }
  return places;
}

function toPlace(job: Job): string {
  if (job.alias_of !== undefined) return 'aliases';
  if (job.state === 'processing' || ENDS.includes(job.state)) return job.state;
  if (job.waits_for === 'host') return 'parked';
  if (job.waits_for === 'image') return 'followups';
  if (job.state === 'delayed') return 'delayed';
  return job.crashes === undefined ? `queued:${job.priority}` : 'suspects';
}

function comparePlaces(expected: Places, actual: Places): readonly string[] {
  const faults: string[] = [];
  for (const place of PLACES) {
    const [wanted, found] = [expected.get(place) ?? new Map(), actual.get(place) ?? new Map()];
    for (const [member, score] of wanted) {
      const actualScore = found.get(member);
      // A renewal moves the end of a lease, and leaves the record alone.
      const isRight = place === 'processing' ? (actualScore ?? 0) >= score : actualScore === score;
      if (actualScore === undefined) faults.push(`${toText(member)} is missing from ${place}`);
      else if (!isRight) faults.push(`${toText(member)} has ${actualScore} in ${place} instead of ${score}`);
    }
    for (const member of found.keys())
      if (!wanted.has(member)) faults.push(`${toText(member)} does not belong in ${place}`);
  }
  return faults;
}

/** A payload is kept for as long as its job may run again. */
function checkPayloads(jobs: ReadonlyMap<string, Job>, payloads: ReadonlySet<string>): readonly string[] {
  const faults: string[] = [];
  for (const id of payloads) {
    const job = jobs.get(id);
    if (job === undefined || job.alias_of !== undefined || ['completed', 'cancelled'].includes(job.state))
      faults.push(`the payload of ${id} stays, although the job is ${job?.state ?? 'unknown'}`);
  }
  for (const [id, job] of jobs) {
    const needsPayload = job.alias_of === undefined && !ENDS.includes(job.state);
    if (needsPayload && !payloads.has(id)) faults.push(`the ${job.state} job ${id} has no payload`);
  }
  return faults;
}

function checkDeadBytes(
  jobs: ReadonlyMap<string, Job>,
  meta: Readonly<Record<string, string>>,
): readonly string[] {
  const dead = [...jobs.values()].filter(({ state }) => state === 'failed');
  const bytes = dead.reduce((sum, { inline_bytes = 0 }) => sum + inline_bytes, 0);
  const counted = Number(meta['dead_inline_bytes'] ?? 0);
  return bytes === counted ? [] : [`${counted} bytes of dead letters are counted, but there are ${bytes}`];
}

/** A host that jobs wait for gets its turn: without one they would wait forever. */
function checkHosts(jobs: ReadonlyMap<string, Job>, turns: ReadonlySet<string>): readonly string[] {
  const waiting = [...jobs.values()].filter((job) => toPlace(job) === 'parked').map(({ host = '' }) => host);
  return [...new Set(waiting)]
    .filter((host) => !turns.has(host))
    .map((host) => `jobs wait for the host ${host}, which has no turn`);
}

async function findUnknownKeys(redis: Redis, prefix: string): Promise<readonly string[]> {
  const known = new Set([...PLACES, ...OTHERS].map((name) => `{${prefix}}:${name}`));
  const faults: string[] = [];
  for await (const keys of redis.scanStream({ match: `{${prefix}}:*`, count: 1_000 })) {
    for (const name of keys as string[]) {
      // Claims and remembered answers expire. −2: it went while we looked.
      if (!known.has(name) && (await redis.pttl(name)) === -1)
        faults.push(`the key ${name} is unknown, and stays`);
    }
  }
  return faults;
}

function toScores(pairs: readonly string[]): Map<string, number> {
  const scores = new Map<string, number>();
  for (let index = 0; index < pairs.length; index += 2) scores.set(pairs[index]!, Number(pairs[index + 1]));
  return scores;
}

const toText = (member: string) => member.replaceAll('\0', ' ');

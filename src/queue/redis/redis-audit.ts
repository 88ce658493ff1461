import type { CleanupReport } from '../port.ts';
import type { RedisConnection } from './redis-connection.ts';
import type { QueueKeys } from './redis-keys.ts';
import { asList, asNumber, asText, toStoredError } from './redis-replies.ts';
import { SCRIPTS } from './redis-scripts.ts';

const PART = 200;

/**
 * Looks at every job that is found anywhere, in parts, so that Redis is not held: each part is checked and mended
 * by one script. Jobs that come or go meanwhile are sound by themselves.
 */
export async function auditQueue(
  connection: RedisConnection,
  keys: QueueKeys,
  endedTtlMs: number,
): Promise<Pick<CleanupReport, 'checked' | 'mended'>> {
  const missing = toStoredError('internal_error', 'The payload of the job is gone.');
  const seen = new Set<string>();
  let mended = 0;

  async function auditJobs(ids: readonly string[]): Promise<void> {
    const fresh = ids.filter((id) => !seen.has(id));
    for (const id of fresh) seen.add(id);
    if (fresh.length === 0) return;
    mended += asNumber(await connection.run(SCRIPTS.auditJobs, keys.fixed, [missing, endedTtlMs, ...fresh]));
  }

  async function auditSlots(kind: 'slots' | 'products', members: readonly string[]): Promise<void> {
    mended += asNumber(await connection.run(SCRIPTS.auditSlots, keys.fixed, [kind, ...members]));
  }

  for (const place of keys.places) await scan(connection, 'ZSCAN', place, auditJobs);
  await scan(connection, 'HSCAN', keys.jobs, auditJobs);
  await scan(connection, 'HSCAN', keys.leases, auditJobs);
  await scan(connection, 'HSCAN', keys.slots, (members) => auditSlots('slots', members));
  await scan(connection, 'ZSCAN', keys.products, (members) => auditSlots('products', members));
  return { checked: seen.size, mended };
}

/** Hands over the fields of a hash or the members of a sorted set, in parts. */
async function scan(
  connection: RedisConnection,
  command: 'HSCAN' | 'ZSCAN',
  key: string,
  visit: (members: readonly string[]) => Promise<void>,
): Promise<void> {
  let cursor = '0';
  do {
    const [next, pairs] = asList(await connection.call(command, key, cursor, 'COUNT', PART));
    cursor = asText(next);
    const members = asList(pairs)
      .filter((_, index) => index % 2 === 0)
      .map(asText);
    if (members.length > 0) await visit(members);
  } while (cursor !== '0');
}

import type { Settlement } from '../port.ts';
import type { Argument, RedisConnection } from './redis-connection.ts';
import type { QueueKeys } from './redis-keys.ts';
import { encodeCompleted, type JobRecord, toProductEntry } from './redis-records.ts';
import { asList } from './redis-replies.ts';
import { SCRIPTS } from './redis-scripts.ts';

/** What a claim told of a job; it stays true for as long as the lease holds. */
interface ClaimedRecord {
  readonly token: string;
  readonly record: JobRecord;
  readonly workerId: string;
  readonly startedAt: number;
}

/** More than a worker ever holds; of more, the oldest are forgotten. */
const MAX_REMEMBERED = 20_000;

/**
 * Completes jobs in their first attempt by the records that came with their claim, which spares Redis to read and to
 * parse them. A shortcut only: what isn't remembered here is left to settle.lua.
 */
export function createCompletion(connection: RedisConnection, keys: QueueKeys) {
  const remembered = new Map<string, ClaimedRecord>();

  function remember(id: string, claimed: ClaimedRecord): void {
    const { history, data } = claimed.record;
    if (history !== '' || data === '') return;
    remembered.set(id, claimed);
    if (remembered.size > MAX_REMEMBERED) {
      const [oldest = ''] = remembered.keys();
      remembered.delete(oldest);
    }
  }

  /** @returns which of the settlements are done, by their index */
  async function complete(settlements: readonly Settlement[]): Promise<ReadonlySet<number>> {
    const args: Argument[] = [];
    const indices: number[] = [];
    for (const [index, settlement] of settlements.entries()) {
      const { id, token, kind } = settlement;
      const claimed = remembered.get(id);
      if (claimed?.token !== token) continue;
      // Once only: the same settlement again is answered by what is stored then.
      remembered.delete(id);
      if (kind !== 'complete') continue;
      const { record, workerId, startedAt } = claimed;
      const processingMs = Math.round(settlement.processingMs);
      const result = JSON.stringify(settlement.result);
      const completed = encodeCompleted(record, { startedAt, processingMs, token, workerId, result });
      args.push(id, token, record.key, toProductEntry(record), completed);
      indices.push(index);
    }
    if (indices.length === 0) return new Set();
    const reply = asList(await connection.run(SCRIPTS.complete, keys.fixed, args));
    return new Set(indices.filter((_, n) => reply[n] === 1));
  }

  return { remember, complete };
}

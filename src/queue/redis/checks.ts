import { Cluster } from 'ioredis';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { Logger } from '../../observability/logger.ts';
import type { Client } from './connection.ts';
import type { QueueKeys } from './scripts.ts';

/** Of the records in Redis. It grows when an older Vitrine could not read them any more. */
const FORMAT = '2';

/**
 * Refuses a Redis that would drop jobs when it is full, or that holds a queue of another format; warns of one that
 * forgets jobs when it ends.
 *
 * @throws VitrineError `queue_unsafe`, `queue_format`
 */
export async function checkRedis(client: Client, keys: QueueKeys, logger: Logger): Promise<void> {
  const masters = client instanceof Cluster ? client.nodes('master') : [client];
  for (const info of await Promise.all(masters.map((node) => node.info()))) requireSafe(info, logger);
  await requireFormat(client, keys);
}

function requireSafe(info: string, logger: Logger): void {
  const read = (name: string) => new RegExp(`^${name}:(.*)$`, 'm').exec(info)?.[1]?.trim();
  const version = read('redis_version') ?? '';
  if (Number.parseInt(version, 10) < 7) {
    throw new VitrineError('queue_unsafe', `Redis ${version} is too old.`, {
      suggestion: 'Use Redis 7.0 or later.',
    });
  }
  const policy = read('maxmemory_policy') ?? 'noeviction';
  if (policy !== 'noeviction') {
    throw new VitrineError('queue_unsafe', `Redis may drop jobs: its maxmemory-policy is ${policy}.`);
  }
  if (read('aof_enabled') === '0') {
    logger.warn('redis keeps no append-only file: jobs of its last minutes are lost when it ends abruptly');
  }
}

async function requireFormat(client: Client, { toKey }: QueueKeys): Promise<void> {
  const [format, jobs] = await Promise.all([client.get(toKey('format')), client.exists(toKey('jobs'))]);
  if (format === FORMAT) return;
  if (format !== null || jobs > 0) {
    throw new VitrineError(
      'queue_format',
      `Redis holds a queue of format ${format ?? '1'}; this Vitrine reads and writes format ${FORMAT}.`,
    );
  }
  await client.set(toKey('format'), FORMAT, 'NX');
}

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { JobQueue } from '../../src/queue/port.ts';
import { claim, complete, newJob } from '../support/jobs.ts';
import { openRedisQueue } from '../support/redis-queue.ts';
import {
  freePort,
  type RedisServer,
  startRedis,
  startSentinel,
  whyNoRedis,
} from '../support/redis-server.ts';
import { until } from '../support/until.ts';
import { newWorkerReport } from '../support/worker-reports.ts';

const reason = whyNoRedis();
if (reason !== null) console.warn(`Skipped, forms of REDIS_URL: ${reason}.`);
const withoutOpenssl = reason !== null || spawnSync('openssl', ['version']).status !== 0;
if (reason === null && withoutOpenssl) console.warn('Skipped, Redis with TLS: openssl is not installed.');

const isBack = (queue: JobQueue) => () =>
  queue.ping().then(
    () => true as const,
    () => undefined,
  );

async function expectToWork(url: string): Promise<void> {
  await using queue = openRedisQueue(url);
  await until('the queue is there', isBack(queue));
  await queue.enqueue([newJob('a'), newJob('b')]);
  const { jobs } = await claim(queue);
  expect(await queue.settle(jobs.map((lease) => complete(lease)))).toEqual(['settled', 'settled']);
  expect(await queue.remember('key', 'answer', 60_000)).toBeNull();
  expect(await queue.cleanup()).toMatchObject({ repaired: 0, checked: 2 });
  await queue.heartbeat(newWorkerReport('w'));
  expect(await queue.workers()).toHaveLength(1);
  const woken = queue.waitForWork(60_000, AbortSignal.timeout(60_000));
  await queue.enqueue([newJob('c')]);
  await woken;
}

describe.skipIf(reason !== null)('connecting to Redis', () => {
  let redis: RedisServer;
  beforeAll(async () => {
    redis = await startRedis(['--requirepass', 'p@ss/word']);
  });
  afterAll(() => redis?.[Symbol.asyncDispose]());

  it('uses the password, percent-encoded, and the database', async () => {
    await expectToWork(`redis://:p%40ss%2Fword@127.0.0.1:${redis.port}/3`);
  });

  it('says so when the password is refused, and not what it was', async () => {
    await using queue = openRedisQueue(`redis://:s3cret@127.0.0.1:${redis.port}`, {
      commandTimeoutMs: 1_000,
    });
    const error = await queue.ping().catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      code: 'queue_unavailable',
      message: 'Redis refused the user or password.',
    });
    expect(JSON.stringify(error)).not.toContain('s3cret');
  });

  it.each(['allkeys-lru', 'volatile-lru', 'allkeys-random', 'volatile-ttl'])(
    'refuses the eviction policy %s',
    async (policy) => {
      await using lax = await startRedis(['--maxmemory-policy', policy]);
      await using queue = openRedisQueue(lax.url);
      const unsafe = {
        code: 'queue_unsafe',
        message: expect.stringContaining(policy),
        suggestion: expect.stringContaining('noeviction'),
      };
      await expect(queue.enqueue([newJob('a')])).rejects.toMatchObject(unsafe);
      await expect(claim(queue)).rejects.toMatchObject(unsafe);
      await expect(queue.ping()).rejects.toMatchObject(unsafe);
    },
  );

  it('neither accepts nor hands out jobs until the eviction policy is right', async () => {
    await using lax = await startRedis(['--maxmemory-policy', 'allkeys-lru']);
    await lax.kill();
    // Redis is down when the queue is opened: nothing can be checked yet.
    await using queue = openRedisQueue(lax.url, { commandTimeoutMs: 500 });
    await expect(queue.enqueue([newJob('a')])).rejects.toMatchObject({ code: 'queue_unavailable' });
    await lax.restart();
    await until('the policy is seen', () =>
      queue.enqueue([newJob('a')]).then(
        () => expect.unreachable('a job was accepted'),
        (error: { code: string }) => error.code === 'queue_unsafe' || undefined,
      ),
    );
    await lax.client.config('SET', 'maxmemory-policy', 'noeviction');
    await until('the queue is usable', isBack(queue));
    await queue.enqueue([newJob('a')]);
    // It is checked again on the next connection.
    await lax.client.config('SET', 'maxmemory-policy', 'allkeys-lru');
    await lax.client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    await until('the policy is seen again', () =>
      queue.stats().then(
        () => undefined,
        (error: { code: string }) => error.code === 'queue_unsafe' || undefined,
      ),
    );
    await expect(claim(queue)).rejects.toMatchObject({ code: 'queue_unsafe' });
  });

  it('warns of a Redis without an append-only file', async () => {
    await using forgetful = await startRedis(['--appendonly', 'no']);
    let output = '';
    const sink = new Writable({
      write: (chunk, _, done) => {
        output += chunk;
        done();
      },
    });
    await using queue = openRedisQueue(forgetful.url, { logger: pino(sink) });
    await queue.ping();
    expect(output).toContain('append-only file');
  });

  it.skipIf(withoutOpenssl)('speaks TLS, and only with a server it can trust', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'vitrine-tls-'));
    const [key, certificate] = [join(folder, 'key.pem'), join(folder, 'certificate.pem')];
    const request = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
    const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1'];
    spawnSync('openssl', ['req', '-x509', ...request, ...names, '-keyout', key, '-out', certificate]);
    const tlsPort = await freePort();
    const options = ['--tls-port', String(tlsPort), '--tls-auth-clients', 'no'];
    await using _server = await startRedis([
      ...options,
      ...['--tls-cert-file', certificate, '--tls-key-file', key, '--tls-ca-cert-file', certificate],
    ]);
    const url = `rediss://127.0.0.1:${tlsPort}`;
    await using stranger = openRedisQueue(url, { commandTimeoutMs: 500 });
    await expect(stranger.ping()).rejects.toMatchObject({ code: 'queue_unavailable' });
    const trusted = getCACertificates('default');
    setDefaultCACertificates([...trusted, readFileSync(certificate, 'utf8')]);
    try {
      await expectToWork(url);
    } finally {
      setDefaultCACertificates(trusted);
      rmSync(folder, { recursive: true });
    }
  });

  it('finds the master by its Sentinels, after a failover too', { timeout: 90_000 }, async () => {
    await using master = await startRedis();
    await using replica = await startRedis(['--replicaof', '127.0.0.1', String(master.port)]);
    await using sentinel = await startSentinel(master.port);
    const url = `redis+sentinel://127.0.0.1:${await freePort()},127.0.0.1:${sentinel.port}/catalog/0`;
    await until(
      'the replica follows',
      async () => (await replica.client.info('replication')).includes('master_link_status:up') || undefined,
    );
    await until('the sentinel knows the replica', async () => {
      const known = (await sentinel.client.call('SENTINEL', 'replicas', 'catalog')) as unknown[];
      return known.length > 0 || undefined;
    });
    await using queue = openRedisQueue(url);
    await queue.enqueue([newJob('a')]);
    await until('the replica has the job', async () => (await replica.client.dbsize()) > 0 || undefined);
    await until('the failover begins', () =>
      sentinel.client.call('SENTINEL', 'failover', 'catalog').then(
        () => true as const,
        () => undefined,
      ),
    );
    await until(
      'the replica is master',
      async () => (await replica.client.role())[0] === 'master' || undefined,
    );
    // Until then the old master takes writes that it will drop: replication is not synchronous.
    await until(
      'the old master has stepped down',
      async () => (await master.client.role())[0] === 'slave' || undefined,
    );
    await until('the queue is back', () =>
      queue.enqueue([newJob('b')]).then(
        () => true as const,
        () => undefined,
      ),
    );
    expect(
      Number(await replica.client.call('ZCARD', (await replica.client.keys('*:queued:normal'))[0]!)),
    ).toBe(2);
  });

  it('works on a Cluster: all keys of a call are in one slot', async () => {
    await using node = await startRedis(['--cluster-enabled', 'yes', '--cluster-announce-ip', '127.0.0.1']);
    await node.client.call('CLUSTER', 'ADDSLOTSRANGE', '0', '16383');
    await until(
      'the cluster is ready',
      async () => String(await node.client.call('CLUSTER', 'INFO')).includes('cluster_state:ok') || undefined,
    );
    await expectToWork(`redis+cluster://127.0.0.1:${await freePort()},127.0.0.1:${node.port}`);
  });
});

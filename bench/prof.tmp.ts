import { randomUUID } from 'node:crypto';
import { pino } from 'pino';
import { parseRedisUrl } from '../src/config/redis-target.ts';
import { createRedisQueue } from '../src/queue/redis/queue.ts';
import { toLeaseTimes } from '../src/queue/port.ts';
import { startRedis } from '../tests/support/redis-server.ts';
import { newJob, complete } from '../tests/support/jobs.ts';
await using redis = await startRedis();
await using queue = createRedisQueue({ target: parseRedisUrl(redis.url), prefix: 'bench', logger: pino({ level: 'silent' }), lease: toLeaseTimes(15000), maxPending: 0, endedTtlMs: 1e9, maxEnded: 1e6, maxDead: 1e5, maxDeadInlineBytes: 2e8 });
await queue.ping();
const N = Number(process.env.N ?? 10000);
const jobs = Array.from({ length: N }, (_, i) => newJob('product-' + i));
async function redisCpu() { const i = await redis.client.info('cpu'); return [...i.matchAll(/used_cpu_(?:sys|user):([\d.]+)/g)].reduce((s, m) => s + Number(m[1]), 0); }
async function stat(name: string, f: () => Promise<unknown>) {
  await redis.client.config('RESETSTAT');
  const cpu0 = await redisCpu(); const t = performance.now(); const c = process.cpuUsage();
  await f();
  const wall = performance.now() - t; const cpu = process.cpuUsage(c);
  const info = await redis.client.info('commandstats');
  const total = [...info.matchAll(/cmdstat_eval(?:sha)?:calls=(\d+),usec=(\d+)/g)].reduce((s, m) => s + Number(m[2]), 0);
  console.log('redis cpu us/job', ((await redisCpu() - cpu0) * 1e6 / N).toFixed(1));
  console.log(name, 'wall us/job', (wall * 1000 / N).toFixed(1), 'node cpu', ((cpu.user + cpu.system) / N).toFixed(1), 'script us/job', (total / N).toFixed(1));
  console.log([...info.matchAll(/cmdstat_(\S+?):calls=(\d+),usec=(\d+)/g)].map((m) => `${m[1]} ${m[2]} ${(Number(m[3]) / N).toFixed(1)}`).join(' | '));
}
const { spawn } = await import('node:child_process');
const perf = process.env.PERF ? spawn('perf', ['record', '-q', '-g', '-o', '/tmp/perf.data', '-p', String(redis.process.pid)], { stdio: 'inherit' }) : null;
if (perf) await new Promise((r) => setTimeout(r, 1000));
await stat('bulk', async () => { for (let i = 0; i < N; i += 1000) await queue.enqueue(jobs.slice(i, i + 1000)); });
await stat('claim+settle', async () => {
  for (;;) { const c = await queue.claim({ workerId: 'w', claimId: randomUUID(), max: 25 }); if (c.jobs.length === 0) return; await queue.settle(c.jobs.map((j) => complete(j))); }
});

import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';
if (perf) { perf.kill('SIGINT'); await new Promise((r) => perf.on('exit', r)); }
if (process.env.OURS) process.exit(0);
await redis.client.flushall('SYNC');
const q = new Queue('bench', { connection: { host: '127.0.0.1', port: redis.port } });
await stat('bull bulk', async () => { for (let i = 0; i < N; i += 1000) await q.addBulk(jobs.slice(i, i + 1000).map((j) => ({ name: 'image', data: j.data }))); });
const connection = new Redis(redis.port, '127.0.0.1', { maxRetriesPerRequest: null });
const worker = new Worker('bench', async () => ({ a: 1 }), { connection, concurrency: 100, autorun: false });
await stat('bull finish', async () => { let done = 0; await new Promise<void>((r) => { worker.on('completed', () => { done += 1; if (done === N) r(); }); void worker.run(); }); });
await worker.close(); connection.disconnect(); await q.close();

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';

/** A real redis-server of a test's own. Disposing it ends the process and removes its files. */
export interface RedisServer extends AsyncDisposable {
  readonly port: number;
  readonly url: string;
  readonly folder: string;
  readonly process: ChildProcess;
  /** For what a test does to Redis behind the queue's back. */
  readonly client: Redis;
  /** Ends it as a crash would; its files stay. */
  kill(): Promise<void>;
  /** Starts it again on the same port and files. */
  restart(): Promise<void>;
}

/** Why there is no redis-server to test with; null when there is one. */
export function whyNoRedis(): string | null {
  const { error, status } = spawnSync('redis-server', ['--version']);
  return error === undefined && status === 0
    ? null
    : 'redis-server is not installed: `apt-get install redis-server` brings it';
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

/** With AOF (each write synced every second) unless `options` say otherwise, e.g. `['--maxmemory', '10mb']`. */
export async function startRedis(options: readonly string[] = []): Promise<RedisServer> {
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-redis-'));
  const args = [
    ['--port', String(port), '--bind', '127.0.0.1', '--dir', folder],
    ['--appendonly', 'yes', '--save', '', '--loglevel', 'warning'],
    options,
  ].flat();
  let child = await launch(args, port);
  const client = new Redis({ port, host: '127.0.0.1', lazyConnect: true, retryStrategy: () => 50 });
  client.on('error', () => {});
  const end = async (signal: NodeJS.Signals) => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill(signal);
    await once(child, 'exit');
  };
  return {
    port,
    url: `redis://127.0.0.1:${port}`,
    folder,
    client,
    get process() {
      return child;
    },
    kill: () => end('SIGKILL'),
    async restart() {
      child = await launch(args, port);
    },
    async [Symbol.asyncDispose]() {
      client.disconnect();
      await end('SIGKILL');
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Starts it and waits until it answers; a test run that is killed takes it along. */
async function launch(args: readonly string[], port: number): Promise<ChildProcess> {
  const child = spawn('redis-server', [...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  child.stdout?.on('data', (text) => {
    output += text;
  });
  const endWithUs = () => child.kill('SIGKILL');
  process.once('exit', endWithUs);
  child.once('exit', () => process.off('exit', endWithUs));
  const probe = new Redis({ port, host: '127.0.0.1', retryStrategy: () => 20, maxRetriesPerRequest: null });
  probe.on('error', () => {});
  try {
    const failed = once(child, 'exit').then(() => {
      throw new Error(`redis-server ended at once: ${output}`);
    });
    // NOAUTH also shows that it is up.
    await Promise.race([probe.ping().catch(() => {}), failed]);
    failed.catch(() => {});
  } finally {
    probe.disconnect();
  }
  return child;
}

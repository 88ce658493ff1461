import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
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

/** Why there is no redis-server to test with; null when there is one. In CI it throws, so that the suite fails. */
export function whyNoRedis(): string | null {
  const { error, status } = spawnSync('redis-server', ['--version']);
  if (error === undefined && status === 0) return null;
  const reason = 'redis-server is not installed: run `apt-get install redis-server`';
  if (process.env['CI']) throw new Error(reason);
  return reason;
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
export function startRedis(options: readonly string[] = []): Promise<RedisServer> {
  return start([...['--appendonly', 'yes', '--save', '', '--loglevel', 'warning'], ...options]);
}

/** A Sentinel that watches the server at the port under the name `catalog`. */
export function startSentinel(masterPort: number): Promise<RedisServer> {
  return start(['--sentinel'], `sentinel monitor catalog 127.0.0.1 ${masterPort} 1\n`);
}

async function start(options: readonly string[], configuration = ''): Promise<RedisServer> {
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-redis-'));
  const file = join(folder, 'redis.conf');
  writeFileSync(file, configuration);
  const args = [file, '--port', String(port), '--bind', '127.0.0.1', '--dir', folder, ...options];
  const at = options.indexOf('--requirepass');
  const password = at < 0 ? {} : { password: options[at + 1] ?? '' };

  let child = await launch(args, port);
  const client = new Redis({
    port,
    host: '127.0.0.1',
    ...password,
    lazyConnect: true,
    retryStrategy: () => 50,
  });
  client.on('error', () => {});
  const end = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
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
    kill: end,
    async restart() {
      child = await launch(args, port);
    },
    async [Symbol.asyncDispose]() {
      client.disconnect();
      await end();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Starts it and waits until it answers. It ends with this process at the latest. */
async function launch(args: readonly string[], port: number): Promise<ChildProcess> {
  const child = spawn('redis-server', [...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (text) => {
      output += text;
    });
  }
  // A pipe that breaks when this process ends, however it does, takes Redis along.
  const guard = spawn('sh', ['-c', `while read -r _; do :; done; kill -9 ${child.pid}`], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  guard.unref();
  child.once('exit', () => guard.kill('SIGKILL'));
  const failed = once(child, 'exit').then(() => {
    throw new Error(`redis-server ended at once: ${output}`);
  });
  failed.catch(() => {});
  await Promise.race([whenAnswering(port), failed]);
  return child;
}

/** Any answer, an error too, shows that it is up and has loaded its files. */
async function whenAnswering(port: number): Promise<void> {
  for (;;) {
    const answer = await new Promise<string>((resolve) => {
      const socket = connect(port, '127.0.0.1', () => socket.write('PING\r\n'));
      socket.on('data', (data) => {
        socket.destroy();
        resolve(String(data));
      });
      socket.on('close', () => resolve(''));
      socket.on('error', () => resolve(''));
    });
    if (answer !== '' && !answer.startsWith('-LOADING')) return;
    await sleep(20);
  }
}

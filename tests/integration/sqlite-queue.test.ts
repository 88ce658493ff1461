import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { afterAll, describe, expect, it } from 'vitest';
import type { QueueSettings } from '../../src/queue/port.ts';
import { createSqliteQueue } from '../../src/queue/sqlite/queue.ts';
import { isBusy, openDatabase, readSnapshot, writeTransaction } from '../../src/sqlite/database.ts';
import { claim, complete, defer, fail, newJob, queueSettings } from '../support/jobs.ts';
import { until } from '../support/until.ts';

const folder = mkdtempSync(join(tmpdir(), 'vitrine-sqlite-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const newFile = () => join(folder, `${randomUUID()}.db`);
const open = (file: string, settings: Partial<QueueSettings> = {}) =>
  createSqliteQueue({ file, logger: pino({ level: 'silent' }), ...queueSettings, ...settings });

/** What 100 ms may become on a busy machine. */
const MAX_BLOCKED_MS = 300;

/** Takes the write lock, as a slow transaction of another process does; returns how to let it go. */
function holdWriteLock(file: string): () => void {
  const holder = new DatabaseSync(file);
  holder.exec('BEGIN IMMEDIATE');
  return () => holder.close();
}

/** Watches how late timers are; returns how to stop, which returns the worst lateness. */
function watchEventLoop(): () => number {
  let [last, worst] = [performance.now(), 0];
  const tick = () => {
    worst = Math.max(worst, performance.now() - last - 10);
    last = performance.now();
  };
  const timer = setInterval(tick, 10);
  return () => {
    clearInterval(timer);
    tick();
    return worst;
  };
}

describe('the queue file while another process holds its write lock', () => {
  it('answers reads at once, lets writes wait, and never blocks the event loop', async () => {
    const file = newFile();
    await using queue = open(file);
    await queue.enqueue([newJob('before')]);
    await using other = open(file);
    const letGo = holdWriteLock(file);
    const stopWatching = watchEventLoop();
    const stored: string[] = [];
    const writes = Array.from({ length: 30 }, async (_, i) => {
      await queue.enqueue([newJob(`waits-${i}`)]);
      stored.push(`waits-${i}`);
    });
    const until = performance.now() + 1_500;
    let reads = 0;
    for (; performance.now() < until; reads += 1) {
      const startedAt = performance.now();
      // A process that opens the file at that time can read too.
      for (const reader of [queue, other]) {
        expect(await reader.stats()).toMatchObject({ waiting: { normal: 1 } });
        expect((await reader.list({ status: 'queued', limit: 5 })).total).toBe(1);
      }
      expect(performance.now() - startedAt).toBeLessThan(MAX_BLOCKED_MS);
      await delay(20);
    }
    expect(reads).toBeGreaterThan(5);
    expect(stored).toEqual([]);
    letGo();
    await Promise.all(writes);
    expect(stopWatching()).toBeLessThan(MAX_BLOCKED_MS);
    expect(await other.stats()).toMatchObject({ waiting: { normal: 31 } });
  });

  it('lets a hundred waiting writes of different calls block no more than one does', async () => {
    const file = newFile();
    await using queue = open(file);
    await queue.ping();
    const letGo = holdWriteLock(file);
    const stopWatching = watchEventLoop();
    const writes = Array.from({ length: 100 }, (_, i) => queue.remember(`key-${i}`, 'value', 60_000));
    await delay(500);
    expect(stopWatching()).toBeLessThan(MAX_BLOCKED_MS);
    letGo();
    expect(new Set(await Promise.all(writes))).toEqual(new Set([null]));
  });
});

describe('a write transaction', () => {
  it('gives up after its time, and the next one can work', async () => {
    const file = newFile();
    const database = openDatabase(file);
    database.exec('CREATE TABLE numbers (n INTEGER)');
    const letGo = holdWriteLock(file);
    const write = (timeoutMs: number) =>
      writeTransaction(database, () => database.exec('INSERT INTO numbers VALUES (1)'), timeoutMs);
    await expect(write(100)).rejects.toSatisfy(isBusy);
    const patient = write(10_000);
    letGo();
    await patient;
    database.close();
  });

  it('keeps nothing of work that throws, and runs in the order of the calls', async () => {
    const database = openDatabase(newFile());
    database.exec('CREATE TABLE numbers (n INTEGER)');
    const insert = (n: number) => database.exec(`INSERT INTO numbers VALUES (${n})`);
    const calls = [
      writeTransaction(database, () => insert(1)),
      writeTransaction(database, () => {
        insert(2);
        throw new Error('broken');
      }),
      writeTransaction(database, () => insert(3)),
    ];
    expect((await Promise.allSettled(calls)).map(({ status }) => status)).toEqual([
      'fulfilled',
      'rejected',
      'fulfilled',
    ]);
    const rows = await readSnapshot(database, () => database.prepare('SELECT n FROM numbers').all());
    expect(rows.map(({ n }) => n)).toEqual([1, 3]);
    database.close();
  });

  it('puts calls that wait together into one transaction', async () => {
    const file = newFile();
    const database = openDatabase(file);
    database.exec('CREATE TABLE numbers (n INTEGER)');
    const reader = openDatabase(file);
    const countSeen = () => reader.prepare('SELECT count(*) AS n FROM numbers').get()?.['n'];
    const insert = () => {
      database.exec('INSERT INTO numbers VALUES (1)');
      return countSeen();
    };
    const calls = [1, 2, 3].map(() => writeTransaction(database, insert));
    expect(await Promise.all(calls)).toEqual([0, 0, 0]);
    expect(countSeen()).toBe(3);
    reader.close();
    database.close();
  });
});

describe('the format of the queue file', () => {
  const FORMAT_1 = `
    CREATE TABLE jobs (id TEXT PRIMARY KEY, place TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE payloads (id TEXT); CREATE TABLE absorbed (id TEXT); CREATE TABLE counts (place TEXT);
    CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO meta VALUES ('last', 9000000000000000);
    CREATE TABLE claims (id TEXT); CREATE TABLE rates (second INTEGER); CREATE TABLE remembered (key TEXT);
    CREATE TABLE workers (id TEXT);
    INSERT INTO jobs VALUES ('done', 'c'), ('cancelled', 'x');
    PRAGMA user_version = 1;`;

  function write(sql: string): string {
    const file = newFile();
    const database = new DatabaseSync(file);
    database.exec(sql);
    database.close();
    return file;
  }

  it('is refused when it is newer', async () => {
    await using queue = open(write('PRAGMA user_version = 3;'));
    await expect(queue.ping()).rejects.toMatchObject({ code: 'queue_format' });
    await expect(queue.enqueue([newJob('a')])).rejects.toMatchObject({ code: 'queue_format' });
  });

  it.each([
    ['waiting', 'n'],
    ['running', 'r'],
    ['dead', 'f'],
  ])('is refused when it is older and has a %s job', async (_, place) => {
    await using queue = open(write(`${FORMAT_1} INSERT INTO jobs VALUES ('left', '${place}');`));
    const error = await queue.ping().catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'queue_format', suggestion: expect.stringContaining('Drain') });
  });

  it('is replaced when it is older and drained, and sequences go on', async () => {
    await using queue = open(write(FORMAT_1));
    await queue.enqueue([newJob('a')]);
    const { jobs } = await claim(queue);
    expect(jobs).toMatchObject([{ data: { productId: 'a' } }]);
    expect(jobs[0]!.sequence).toBeGreaterThan(9e15);
  });

  it('can be created by several processes at once', async () => {
    const file = newFile();
    const queues = Array.from({ length: 5 }, () => open(file));
    await Promise.all(queues.map((queue, i) => queue.enqueue([newJob(`p${i}`)])));
    expect(await queues[0]!.stats()).toMatchObject({ waiting: { normal: 5 } });
    for (const queue of queues) await queue[Symbol.asyncDispose]();
  });
});

describe('the queue file', () => {
  it('that is none says so, and can be put right without a restart', async () => {
    const file = newFile();
    writeFileSync(file, 'This is not a database. '.repeat(1_000));
    await using queue = open(file);
    await expect(queue.ping()).rejects.toMatchObject({ code: 'queue_unavailable' });
    rmSync(file);
    await queue.ping();
  });

  it('has exact positions up to ten thousand, and the end of the line at any length', {
    timeout: 120_000,
  }, async () => {
    const file = newFile();
    await using queue = open(file);
    const jobs = Array.from({ length: 10_200 }, (_, i) => newJob(`p${i}`));
    const stored = await queue.enqueue(jobs);
    expect(stored.map(({ position }) => position)).toEqual(jobs.map((_, i) => i + 1));
    expect(await queue.status(jobs[10_000]!.id)).toMatchObject({ position: 10_001 });
    expect(await queue.status(jobs[10_001]!.id)).toMatchObject({ position: null });
  });

  it('lets other work of the process go on while thousands of jobs are stored, redriven and flushed', {
    timeout: 60_000,
  }, async () => {
    await using queue = open(newFile());
    await queue.ping();
    const countTurns = async (work: () => Promise<unknown>) => {
      let turns = 0;
      const timer = setInterval(() => (turns += 1), 1);
      await work();
      clearInterval(timer);
      return turns;
    };
    const jobs = Array.from({ length: 2_000 }, (_, i) => newJob(`p${i}`));
    expect(await countTurns(() => queue.enqueue(jobs))).toBeGreaterThan(10);
    const { jobs: claimed } = await claim(queue, { max: 2_000 });
    await queue.settle(claimed.map((job) => fail(job)));
    expect(await countTurns(() => queue.redrive('all'))).toBeGreaterThan(10);
    expect(await countTurns(() => queue.flush())).toBeGreaterThan(10);
    expect(await queue.stats()).toMatchObject({ waiting: { normal: 0 }, failed: 0 });
  });

  it('has a position for jobs far from both ends of a line only when few are asked for', async () => {
    await using queue = open(newFile());
    await queue.enqueue(Array.from({ length: 600 }, (_, i) => newJob(`p${i}`)));
    const again = Array.from({ length: 30 }, (_, i) => newJob(`p${i * 17}`));
    const positions = (await queue.enqueue(again)).map(({ position }) => position);
    expect(positions.slice(0, 19)).toEqual(again.slice(0, 19).map((_, i) => i * 17 + 1));
    expect(positions.at(-1)).toBeNull();
    expect(await queue.enqueue([newJob('p493')])).toMatchObject([{ position: 494 }]);
    // Near the end.
    expect(await queue.enqueue([newJob('p550'), newJob('p0'), newJob('p1')])).toMatchObject([
      { position: 551 },
      { position: 1 },
      { position: 2 },
    ]);
  });

  it('has what a clean-up finds wrong repaired, and counted', async () => {
    const file = newFile();
    await using queue = open(file);
    const [bare, alone, fine] = [newJob('bare'), newJob('alone'), newJob('fine')];
    await queue.enqueue([bare, alone, fine]);
    const database = new DatabaseSync(file);
    database.exec('PRAGMA busy_timeout = 1000');
    database.prepare('DELETE FROM payloads WHERE id = ?').run(bare.id);
    database.prepare("UPDATE jobs SET waitsFor = 'sibling' WHERE id = ?").run(alone.id);
    database.close();
    expect(await queue.cleanup()).toMatchObject({ repaired: 2, checked: 3 });
    expect(await queue.cleanup()).toMatchObject({ repaired: 0, checked: 3 });
    expect(await queue.status(bare.id)).toMatchObject({ lastError: { code: 'job_unreadable' } });
    expect((await claim(queue)).jobs.map(({ id }) => id)).toEqual([alone.id, fine.id]);
  });

  it('forgets a host a minute after it last asked to slow down, unless jobs of it wait', async () => {
    const file = newFile();
    await using queue = open(file);
    await queue.enqueue(['a', 'b'].map((name) => newJob(name, { url: `http://${name}.example/` })));
    const { jobs } = await claim(queue);
    await queue.settle(jobs.map((job) => defer(job)));
    const again = await until('a is handed out', async () => (await claim(queue, { max: 1 })).jobs[0]);
    await queue.settle([complete(again)]);
    expect((await queue.stats()).hosts).toHaveLength(2);
    const database = new DatabaseSync(file);
    database.exec('PRAGMA busy_timeout = 1000; UPDATE hosts SET deferredAt = deferredAt - 60001;');
    database.close();
    await queue.reap();
    expect((await queue.stats()).hosts).toMatchObject([{ waiting: 1 }]);
  });

  it('refuses calls after it was closed', async () => {
    const queue = open(newFile());
    await queue.ping();
    await queue[Symbol.asyncDispose]();
    await queue[Symbol.asyncDispose]();
    await expect(queue.ping()).rejects.toMatchObject({ code: 'queue_unavailable' });
  });
});

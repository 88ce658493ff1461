import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { pino } from 'pino';
import { afterAll } from 'vitest';
import type { QueueSettings } from '../../src/queue/port.ts';
import { createSqliteQueue } from '../../src/queue/sqlite/queue.ts';
import { queueSettings } from '../support/jobs.ts';
import { describeJobQueue } from './job-queue.contract.ts';

const folder = mkdtempSync(join(tmpdir(), 'vitrine-queue-'));
const logger = pino({ level: 'silent' });
let file = '';

const openFile = async (settings: Partial<QueueSettings> = {}) =>
  createSqliteQueue({ file, logger, ...queueSettings, ...settings });

describeJobQueue('SQLite', {
  open: (settings) => {
    file = join(folder, `${randomUUID()}.db`);
    return openFile(settings);
  },
  reopen: openFile,
  spoil: async (id) => {
    const database = new DatabaseSync(file);
    database.prepare('UPDATE payloads SET data = ? WHERE id = ?').run('{"image":', id);
    database.close();
  },
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

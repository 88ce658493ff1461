import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { createSqliteBackend } from '../../src/queue/sqlite/sqlite-queue-backend.ts';
import { describeJobQueue, type QueueHarness } from './job-queue.contract.ts';
import { describeWorkerRegistry } from './worker-registry.contract.ts';

const folder = mkdtempSync(join(tmpdir(), 'vitrine-queue-'));
let file = '';

const harness: QueueHarness = {
  open: async ({ maxPending = 0, ...options } = {}) => {
    file = join(folder, `${randomUUID()}.db`);
    return createSqliteBackend({ file, maxPending, ...options });
  },
  reopen: async ({ maxPending = 0, ...options } = {}) =>
    createSqliteBackend({ file, maxPending, ...options }),
};

describeJobQueue('SQLite', harness);
describeWorkerRegistry('SQLite', harness);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

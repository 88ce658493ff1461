import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const root = join(import.meta.dirname, '../..');

/** Whether the linter accepts a file at the path that imports the module. */
function isAllowed(file: string, module: string): boolean {
  const { status } = spawnSync(
    process.execPath,
    [
      join(root, 'node_modules/@biomejs/biome/bin/biome'),
      'lint',
      '--only=style/noRestrictedImports',
      `--stdin-file-path=${file}`,
    ],
    { cwd: root, encoding: 'utf8', input: `import { x } from '${module}';\nx();\n` },
  );
  return status === 0;
}

test.each([
  ['src/config/x.ts', '../queue/port.ts'],
  ['src/errors/x.ts', '../catalog/product-image.ts'],
  ['src/catalog/x.ts', '../queue/port.ts'],
  ['src/images/x.ts', '../catalog/record.ts'],
  ['models/x.ts', '../src/vectors/port.ts'],
  ['src/queue/x.ts', './redis/queue.ts'],
  ['src/queue/redis/x.ts', '../sqlite/queue.ts'],
  ['src/queue/spool/x.ts', '../redis/queue.ts'],
  ['src/vectors/qdrant/x.ts', '../sqlite/vector-store.ts'],
  ['src/vectors/sqlite/x.ts', '../../queue/port.ts'],
  ['src/routing/x.ts', '../jobs/schemas.ts'],
  ['src/jobs/x.ts', '../search/schemas.ts'],
  ['src/search/x.ts', '../context.ts'],
  ['src/http/x.ts', '../../workers/worker.ts'],
  ['src/http/x.ts', '../cli/client.ts'],
  ['workers/x.ts', '../src/http/app.ts'],
  ['workers/x.ts', '../src/context.ts'],
  ['workers/main.ts', '../src/http/server.ts'],
  ['src/cli/x.ts', '../../tests/support/until.ts'],
])('%s may not import %s', (file, module) => {
  expect(isAllowed(file, module)).toBe(false);
});

test.each([
  ['src/config/x.ts', '../errors/vitrine-error.ts'],
  ['src/queue/x.ts', '../catalog/product-image.ts'],
  ['src/queue/redis/x.ts', '../port.ts'],
  ['src/queue/spool/x.ts', '../../sqlite/database.ts'],
  ['src/vectors/sqlite/x.ts', '../../sqlite/database.ts'],
  ['models/x.ts', '../src/observability/logger.ts'],
  ['src/jobs/x.ts', '../queue/port.ts'],
  ['src/http/x.ts', '../jobs/schemas.ts'],
  ['src/http/x.ts', '../../models/embedder.ts'],
  ['workers/x.ts', '../src/queue/port.ts'],
  ['workers/main.ts', '../src/context.ts'],
  ['src/cli/x.ts', '../../workers/worker.ts'],
  ['src/queue/x.ts', 'node:http'],
])('%s may import %s', (file, module) => {
  expect(isAllowed(file, module)).toBe(true);
});

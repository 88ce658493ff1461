import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseEnv } from 'node:util';
import { expect, test, vi } from 'vitest';
import { createTempFolder } from '../support/context.ts';
import { startProgram } from '../support/program.ts';
import { until } from '../support/until.ts';

// Each test runs several whole programs; the limit is only there so that a broken one ends.
vi.setConfig({ testTimeout: 240_000 });

test('a key is printed once, is configured with the printed line, and is sent by the commands', async () => {
  await using folder = await createTempFolder();
  const common = { DATA_DIR: join(folder.path, 'data'), MODEL: 'builtin' };
  const run = async (settings: Readonly<Record<string, string>>, ...args: readonly string[]) => {
    await using program = startProgram('src/cli.ts', { ...common, ...settings }, args, {
      folder: folder.path,
    });
    return { code: await program.ended, output: program.output };
  };
  const created = await run({}, 'keys', 'create', 'monitor', '--scope', 'read', '--scope', 'search');
  expect(created.code).toBe(0);
  const key = /^ {2}(vitrine_[\w-]{43})$/m.exec(created.output)?.[1] ?? '';
  const line = /^ {2}(API_KEYS=\S+)$/m.exec(created.output)?.[1] ?? '';
  expect(line).not.toContain(key);
  // As docker compose, Node and a shell read it.
  expect(parseEnv(line)['API_KEYS']).toBe(line.slice('API_KEYS='.length));
  expect(line).toMatch(/^[\w=:+-]+$/);

  const second = await run(
    parseEnv(line) as Record<string, string>,
    'keys',
    'create',
    'boss',
    '--scope',
    'admin',
  );
  const both = /^ {2}(API_KEYS=\S+)$/m.exec(second.output)?.[1] ?? '';
  expect(both.startsWith(`${line},boss:admin:`)).toBe(true);
  const taken = await run(
    parseEnv(line) as Record<string, string>,
    'keys',
    'create',
    'monitor',
    '--scope',
    'admin',
  );
  expect(taken).toMatchObject({ code: 1, output: expect.stringContaining('has a key monitor already') });

  await writeFile(join(folder.path, '.env'), `${both}\n`);
  await using server = startProgram('src/main.ts', { ...common, PORT: '0' }, [], { folder: folder.path });
  const url = await until('the address', () => /"url":"([^"]+)"/.exec(server.output)?.[1]);
  const at = ['--server', url];
  expect(await run({}, 'stats', ...at)).toMatchObject({
    code: 1,
    output: expect.stringContaining('VITRINE_API_KEY'),
  });
  expect(await run({ VITRINE_API_KEY: key }, 'stats', ...at)).toMatchObject({ code: 0 });
  await writeFile(join(folder.path, 'key'), `${key}\n`);
  expect(await run({}, 'workers', ...at, '--key-file', 'key')).toMatchObject({ code: 0 });
  const refused = await run({ VITRINE_API_KEY: key }, 'pause', ...at);
  expect(refused).toMatchObject({ code: 1, output: expect.stringContaining('scope admin') });
  const wrong = await run({ VITRINE_API_KEY: `${key}x` }, 'stats', ...at);
  expect(wrong).toMatchObject({ code: 1, output: expect.stringContaining('api_key_invalid') });
  const missing = await run({}, 'stats', ...at, '--key-file', 'nowhere');
  expect(missing).toMatchObject({ code: 1, output: expect.stringContaining("can't be read") });

  expect(server.output).toContain('"request"');
  for (const output of [server.output, refused.output, wrong.output]) expect(output).not.toContain(key);
});

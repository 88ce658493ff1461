import { describe, expect, test } from 'vitest';
import { defineCommand, print, UsageError } from '../../src/cli/command.ts';
import { COMMANDS } from '../../src/cli/commands.ts';
import { toNearest } from '../../src/cli/nearest.ts';
import { runCli } from '../../src/cli/run-cli.ts';
import { toTable } from '../../src/cli/table.ts';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import { createTestTerminal } from '../support/terminal.ts';

const echo = defineCommand({
  name: 'echo',
  summary: 'Say it',
  arguments: 'WORD',
  count: [1, 1],
  options: {
    loud: { type: 'boolean', default: false, help: 'louder' },
    times: { type: 'string', short: 'n', hint: 'N', default: '1', help: 'how often' },
  },
  examples: ['vitrine echo hi'],
  async run({ loud, times }, [word = ''], terminal) {
    if (word === 'broken')
      throw new VitrineError('queue_unavailable', 'Redis is away.', { suggestion: 'Start it.' });
    if (word === 'bad') throw new UsageError('That word is bad.');
    for (let i = 0; i < Number(times); i++) print(terminal, loud ? word.toUpperCase() : word);
    return 0;
  },
});

async function run(...args: readonly string[]) {
  const terminal = createTestTerminal();
  const code = await runCli([echo], args, terminal);
  return { code, out: terminal.out(), err: terminal.err() };
}

describe('the command line', () => {
  test('runs a command with its options and arguments', async () => {
    expect(await run('echo', 'hi', '--loud', '-n', '2')).toEqual({ code: 0, out: 'HI\nHI\n', err: '' });
  });

  test('takes everything after -- as an argument', async () => {
    expect(await run('echo', '--', '--help')).toMatchObject({ code: 0, out: '--help\n' });
  });

  test.each([
    [['ecko', 'x'], 'There is no command "ecko". Did you mean `vitrine echo`?'],
    [['qqqqqq'], 'There is no command "qqqqqq".'],
    [['--frobnicate'], 'There is no option "--frobnicate".'],
    [['echo', 'x', '--lout'], 'vitrine echo has no option --lout. Did you mean --loud?'],
    [['echo', 'x', '--zzz'], 'vitrine echo has no option --zzz.\n'],
    [['echo', 'x', '--times'], "Option '-n, --times <value>' argument missing."],
    [['echo'], 'vitrine echo needs WORD.'],
    [['echo', 'a', 'b'], 'vitrine echo does not take "b".'],
    [['echo', 'bad'], 'That word is bad.'],
  ])('answers %j with a sentence and exit code 2', async (args, sentence) => {
    const { code, out, err } = await run(...args);
    expect(code).toBe(2);
    expect(out).toBe('');
    expect(err).toContain(sentence);
    expect(err).toContain('--help');
  });

  test('tells a failure in its sentence with the suggestion, without a stack, and exit code 1', async () => {
    const { code, err } = await run('echo', 'broken');
    expect(code).toBe(1);
    expect(err).toBe('Redis is away.\nStart it. (queue_unavailable)\n');
  });

  test('shows every option of a command in its help', async () => {
    const { code, out } = await run('echo', '--help');
    expect(code).toBe(0);
    for (const part of [
      'Usage: vitrine echo WORD',
      '--loud',
      '-n, --times N',
      'how often',
      'vitrine echo hi',
    ])
      expect(out).toContain(part);
    expect((await run('help', 'echo')).out).toBe(out);
  });

  test('leaves a command in the middle when it is interrupted, unless that one drains by itself', async () => {
    const stop = new AbortController();
    const slow = { ...echo, name: 'slow', run: () => Promise.withResolvers<number>().promise };
    const draining = { ...slow, name: 'draining', drains: true, run: async () => 0 };
    const terminal = { ...createTestTerminal(), signal: stop.signal };
    const left = runCli([slow], ['slow'], terminal);
    stop.abort();
    expect(await left).toBe(130);
    expect(await runCli([draining], ['draining'], terminal)).toBe(0);
  });

  test('lists the commands without one, and writes no colours into a pipe', async () => {
    const { code, out } = await run();
    expect(code).toBe(0);
    expect(out).toContain('echo  Say it');
    expect((await run('nope')).err).not.toContain('\u001b');
  });
});

describe('every command of Vitrine', () => {
  test.each(COMMANDS.map((command) => [command.name, command] as const))(
    '%s has whole help',
    (name, { help, summary }) => {
      expect(help).toContain(`Usage: vitrine ${name}`);
      expect(summary).toMatch(/^[A-Z].*[^.]$/);
      expect(help.split('Examples:\n')[1]).toMatch(new RegExp(`^  vitrine ${name}`));
      for (const line of help.split('\n')) expect(line.length).toBeLessThanOrEqual(100);
    },
  );
});

test('the nearest word is the one with few typing errors, or none', () => {
  expect(toNearest('serch', ['serve', 'search', 'stats'])).toBe('search');
  expect(toNearest('wrokers', ['worker', 'workers'])).toBe('workers');
  expect(toNearest('banana', ['serve', 'search'])).toBeNull();
});

test('a table cuts long values, aligns numbers and lets no control characters through', () => {
  const columns = [
    { title: 'name', maxWidth: 8 },
    { title: 'n', align: 'right' },
  ] as const;
  const lines = toTable(columns, [
    ['a\u001b[31mred\u001b[0m\nb', '7'],
    ['a very long name', '123'],
  ]).split('\n');
  expect(lines).toEqual(['name        n', '────────  ───', 'ared b      7', 'a very …  123']);
});

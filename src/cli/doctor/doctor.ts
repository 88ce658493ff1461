import { type Check, type CheckResult, createChecks } from './checks.ts';
import { defineCommand, paint, plain, print, type Terminal } from './command.ts';

export const doctorCommand = defineCommand({
  name: 'doctor',
  summary: 'Check Node, the settings, the folders, Redis, Qdrant, the model and the port, and say what to do',
  details: 'Ends with 1 when something would keep Vitrine from working.',
  options: {},
  examples: ['vitrine doctor', 'REDIS_URL=redis://127.0.0.1:6379 vitrine doctor'],
  async run(_values, _args, terminal) {
    let failures = 0;
    // All at once: what is away is waited for only once.
    const running = createChecks(terminal.environment).map((check) => ({ check, result: check.run() }));
    for (const { check, result: promised } of running) {
      const result = await promised;
      if (result.state === 'fail') failures += 1;
      printResult(terminal, check, result);
    }
    print(terminal, failures === 0 ? '\nAll is well.' : `\n${failures} to mend.`);
    return failures === 0 ? 0 : 1;
  },
});

const MARKS = { ok: ['green', '✓'], warn: ['yellow', '!'], fail: ['red', '✗'] } as const;

function printResult(terminal: Terminal, { name }: Check, { state, text, todo }: CheckResult): void {
  const [color, mark] = MARKS[state];
  print(terminal, `${paint(terminal.stdout, color, mark)} ${name.padEnd(8)}  ${plain(text)}`);
  if (todo !== undefined) print(terminal, `            ${plain(todo)}`);
}

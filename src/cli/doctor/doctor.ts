import type { ServerOptions } from '../client.ts';
import { paint, plain, print, type Terminal } from '../terminal.ts';
import { type CheckResult, createChecks } from './checks.ts';
import { runSmokeTest } from './smoke.ts';

interface Options extends ServerOptions {
  readonly smoke?: boolean | undefined;
}

export async function doctorCommand({ smoke, ...server }: Options, terminal: Terminal): Promise<number> {
  let failures = 0;
  const show = (name: string, result: CheckResult) => {
    if (result.state === 'fail') failures += 1;
    printResult(terminal, name, result);
  };
  // All at once: for what does not answer is waited only once.
  const running = createChecks(terminal.environment).map(({ name, run }) => ({ name, result: run() }));
  for (const { name, result } of running) show(name, await result);
  if (smoke) {
    print(terminal, '');
    await runSmokeTest(server, terminal, show);
  }
  const problems = `${failures} ${failures === 1 ? 'problem' : 'problems'} to solve.`;
  print(terminal, `\n${failures === 0 ? 'Everything works.' : problems}`);
  return failures === 0 ? 0 : 1;
}

const MARKS = { ok: ['green', '✓'], warn: ['yellow', '!'], fail: ['red', '✗'] } as const;

function printResult(terminal: Terminal, name: string, { state, text, todo }: CheckResult): void {
  const [color, mark] = MARKS[state];
  print(terminal, `${paint(terminal.stdout, color, mark)} ${name.padEnd(8)}  ${plain(text)}`);
  if (todo !== undefined) print(terminal, `            ${plain(todo)}`);
}

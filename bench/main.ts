import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { runProgram } from '../src/program.ts';

/** A benchmark is a file of this folder that exports `run`; `npm run bench -- NAME [OPTIONS]` starts it. */
interface Benchmark {
  run(args: readonly string[]): Promise<void>;
}

await runProgram(async () => {
  const [name = '', ...args] = process.argv.slice(2);
  const file = join(import.meta.dirname, `${name}.ts`);
  if (!/^[a-z-]+$/.test(name) || name === 'main' || !existsSync(file)) {
    const names = readdirSync(import.meta.dirname, { withFileTypes: true })
      .filter((entry) => entry.isFile() && entry.name.endsWith('.ts') && entry.name !== 'main.ts')
      .map((entry) => entry.name.slice(0, -3));
    console.error(`Usage: npm run bench -- NAME [OPTIONS]\nNames: ${names.join(', ')}`);
    return 2;
  }
  const benchmark = (await import(file)) as Benchmark;
  await benchmark.run(args);
  return 0;
});

import { setTimeout as delay } from 'node:timers/promises';
import { type Program, startProgram } from '../../support/program.ts';
import type { Recovery } from '../checks/recovery.ts';
import type { Tally } from '../checks/tally.ts';
import type { Random } from '../random.ts';

export interface FleetParts {
  readonly environment: Readonly<Record<string, string>>;
  readonly folder: string;
  readonly leaseMs: number;
  /** How long a worker lives once it is ready, from and to. */
  readonly lifeMs: readonly [number, number];
  /** True: they are killed, and nothing else is done to them. */
  readonly killsOnly: boolean;
  /** How many SIGKILLs; after them every worker lives on. */
  readonly kills: number;
  readonly random: Random;
  readonly tally: Tally;
  readonly recovery: Recovery;
  /** Aborted: no more harm is done. */
  readonly calm: AbortSignal;
}

/** Worker processes that are killed, frozen and stopped, and replaced at once. Disposing kills them all. */
export interface Fleet extends AsyncDisposable {
  readonly killed: number;
  /** Resolves when all kills are given; rejects when a worker can't be started. */
  readonly harmed: Promise<void>;
  /** Stops each in order, and notes who doesn't. */
  stop(): Promise<void>;
}

/** A wall clock that is right, right, an hour fast and an hour slow. */
const CLOCK_SHIFTS_MS = [0, 0, 3_600_000, -3_600_000];
const READY_WITHIN_MS = 90_000;
const STOPPED_WITHIN_MS = 60_000;
/** A worker is best killed while it holds a job: that long it is waited for. */
const BUSY_WITHIN_MS = 2_000;

type Fate = 'kill' | 'kill while it starts' | 'freeze' | 'terminate';

/** Each slot begins with one of these, so that a short run has all of them. */
const FIRST_FATES: readonly Fate[] = ['freeze', 'terminate', 'kill while it starts', 'kill'];

export function startFleet(parts: FleetParts): Fleet {
  const { calm, leaseMs, recovery, tally } = parts;
  const living = new Set<Program>();
  const harmed = Promise.withResolvers<void>();
  const ending = new AbortController();
  let killed = 0;
  if (parts.kills === 0) harmed.resolve();
  const rest = (ms: number) => delay(ms, undefined, { signal: ending.signal }).catch(() => {});

  function start(shiftMs: number): Program {
    const shift = new URL(`./shifted-clock.ts?shift_ms=${shiftMs}`, import.meta.url);
    const nodeArgs = shiftMs === 0 ? [] : ['--import', shift.href];
    const worker = startProgram('workers/main.ts', parts.environment, [], { nodeArgs, folder: parts.folder });
    living.add(worker);
    tally.count('workers started');
    worker.ended
      .finally(() => living.delete(worker))
      .then(() => tally.readLog(worker.output))
      // A process that can't be started: those that wait for it fail.
      .catch(() => {});
    return worker;
  }

  const isOver = (worker: Program) => worker.child.exitCode !== null || worker.child.signalCode !== null;

  async function untilReady(worker: Program): Promise<boolean> {
    const deadline = performance.now() + READY_WITHIN_MS;
    while (performance.now() < deadline && !ending.signal.aborted) {
      if (worker.output.includes('"worker ready"')) return true;
      if (isOver(worker)) return false;
      await rest(20);
    }
    return false;
  }

  async function kill(worker: Program): Promise<void> {
    if (killed >= parts.kills || calm.aborted || isOver(worker)) return;
    killed++;
    tally.count('worker: SIGKILL');
    worker.child.kill('SIGKILL');
    recovery.noteKill(worker.child.pid!);
    if (killed === parts.kills) harmed.resolve();
    await worker.ended;
  }

  async function freeze(worker: Program, random: Random): Promise<void> {
    tally.count('worker: SIGSTOP past its lease, then SIGCONT');
    worker.child.kill('SIGSTOP');
    await rest(leaseMs + random.between(500, 6_000));
    worker.child.kill('SIGCONT');
    await rest(random.between(1_000, 4_000));
  }

  async function terminate(worker: Program): Promise<void> {
    tally.count('worker: SIGTERM');
    worker.child.kill('SIGTERM');
    const code = await Promise.race([worker.ended, rest(STOPPED_WITHIN_MS).then(() => 'late' as const)]);
    if (ending.signal.aborted) return;
    if (code !== 0) tally.find(`a worker ended with ${code} after SIGTERM: ${worker.output.slice(-2_000)}`);
  }

  function choose(random: Random): Fate {
    if (parts.killsOnly) return 'kill';
    const draw = random.next();
    if (draw < 0.03) return 'freeze';
    if (draw < 0.07) return 'terminate';
    return draw < 0.15 ? 'kill while it starts' : 'kill';
  }

  async function live(worker: Program, fate: Fate, random: Random): Promise<void> {
    if (fate === 'kill while it starts') {
      await rest(random.between(0, 1_000));
      return kill(worker);
    }
    if (!(await untilReady(worker))) return;
    await rest(random.between(...parts.lifeMs));
    if (calm.aborted || killed >= parts.kills) return;
    if (fate === 'freeze') await freeze(worker, random);
    if (fate === 'terminate') await terminate(worker);
    if (!isOver(worker)) await recovery.untilBusy(worker.child.pid!, BUSY_WITHIN_MS);
    await kill(worker);
  }

  async function keepSlot(shiftMs: number, slot: number): Promise<void> {
    const random = parts.random.fork(`slot ${slot}`);
    let fate = parts.killsOnly ? 'kill' : FIRST_FATES[slot % FIRST_FATES.length]!;
    while (!ending.signal.aborted) {
      const worker = start(shiftMs);
      await live(worker, fate, random);
      while (!isOver(worker) && !ending.signal.aborted && (calm.aborted || killed >= parts.kills))
        await rest(100);
      if (isOver(worker) && worker.child.exitCode !== 0 && worker.child.exitCode !== null) {
        tally.find(`a worker ended with ${worker.child.exitCode}: ${worker.output.slice(-2_000)}`);
      }
      if (!isOver(worker) && !ending.signal.aborted) {
        tally.find(`a worker was not ready in time: ${worker.output.slice(-2_000)}`);
        worker.child.kill('SIGKILL');
        await worker.ended;
      }
      fate = choose(random);
    }
  }

  const slots = Promise.all(CLOCK_SHIFTS_MS.map(keepSlot));
  slots.catch((error: unknown) => harmed.reject(error));
  return {
    get killed() {
      return killed;
    },
    harmed: harmed.promise,
    async stop() {
      ending.abort();
      await slots;
      for (const worker of living) {
        const code = await Promise.race([worker.stop(), delay(STOPPED_WITHIN_MS, 'late', { ref: false })]);
        if (code !== 0) tally.find(`a worker ended with ${code} at the end: ${worker.output.slice(-2_000)}`);
      }
    },
    async [Symbol.asyncDispose]() {
      ending.abort();
      await slots.catch(() => {});
      await Promise.all([...living].map((worker) => worker[Symbol.asyncDispose]()));
    },
  };
}

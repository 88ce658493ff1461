import type { Clock } from '../src/observability/clock.ts';

/** Collects single items into batches. */
export interface Batcher<Item, Result> {
  /** Resolves with the item's own result, or rejects with its own error. */
  add(item: Item): Promise<Result>;
}

export interface BatcherOptions<Item, Result> {
  readonly maxSize: number;
  /** Batches that run at once, however small they are; further items collect until one of them has ended. */
  concurrency(): number;
  /** Full batches that may start before that, so that the next one is at hand. Default: 0. */
  readonly fullAhead?: number;
  /** When a batch that is not full waits for more items. Default: never. */
  readonly filling?: Filling;
  /** One outcome per item, in order. When it throws, every item of the batch fails with that error. */
  run(items: readonly Item[]): Promise<readonly PromiseSettledResult<Result>[]>;
}

export interface Filling {
  /** True while more items are on their way. */
  isMoreComing(): boolean;
  /** The longest wait. */
  readonly maxMs: number;
  readonly clock: Pick<Clock, 'startTimer'>;
}

interface Entry<Item, Result> {
  readonly item: Item;
  readonly answer: PromiseWithResolvers<Result>;
}

/**
 * While the runs are idle, a batch starts with the items of this turn of the event loop, unless more are on their way.
 * Batches grow under load, since items collect while others run.
 */
export function createBatcher<Item, Result>(options: BatcherOptions<Item, Result>): Batcher<Item, Result> {
  const { maxSize, fullAhead = 0, filling } = options;
  const waiting: Entry<Item, Result>[] = [];
  let running = 0;
  let scheduled = false;
  let fillTimer: Disposable | undefined;
  let hasWaited = false;

  async function runBatch(entries: readonly Entry<Item, Result>[]): Promise<void> {
    try {
      const outcomes = await options.run(entries.map(({ item }) => item));
      for (const [index, { answer }] of entries.entries()) {
        const outcome = outcomes[index];
        if (outcome?.status === 'fulfilled') answer.resolve(outcome.value);
        else answer.reject(outcome?.reason ?? new Error('The batch returned no outcome for this item.'));
      }
    } catch (error) {
      for (const { answer } of entries) answer.reject(error);
    }
  }

  function mayStart(): boolean {
    if (waiting.length === 0) return false;
    const most = options.concurrency();
    return running < most || (waiting.length >= maxSize && running < most + fullAhead);
  }

  function isFilling(): boolean {
    if (filling === undefined || hasWaited || waiting.length >= maxSize || !filling.isMoreComing())
      return false;
    fillTimer ??= filling.clock.startTimer(filling.maxMs, () => {
      hasWaited = true;
      schedule();
    });
    return true;
  }

  function startBatches(): void {
    scheduled = false;
    while (mayStart() && !isFilling()) {
      fillTimer?.[Symbol.dispose]();
      fillTimer = undefined;
      hasWaited = false;
      running++;
      void runBatch(waiting.splice(0, maxSize)).then(() => {
        running--;
        schedule();
      });
    }
  }

  function schedule(): void {
    if (scheduled || !mayStart()) return;
    scheduled = true;
    setImmediate(startBatches);
  }

  return {
    add(item) {
      const answer = Promise.withResolvers<Result>();
      waiting.push({ item, answer });
      schedule();
      return answer.promise;
    },
  };
}

/**
 * Runs the batch in one call; when that fails, each item in a call of its own, so that one bad item doesn't fail the
 * others. `worthSplitting` says which errors an item can be the cause of.
 */
export async function runOrSplit<Item, Result>(
  items: readonly Item[],
  run: (items: readonly Item[]) => Promise<readonly Result[]>,
  worthSplitting: (error: unknown) => boolean,
): Promise<readonly PromiseSettledResult<Result>[]> {
  try {
    const results = await run(items);
    if (results.length !== items.length) throw new Error('The call did not return one result per item.');
    return results.map((value) => ({ status: 'fulfilled', value }));
  } catch (error) {
    if (!worthSplitting(error)) throw error;
    if (items.length === 1) return [{ status: 'rejected', reason: error }];
  }
  const outcomes: PromiseSettledResult<Result>[] = [];
  for (const item of items) outcomes.push(...(await runOrSplit([item], run, () => true)));
  return outcomes;
}

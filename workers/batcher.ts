/** Collects single items into batches. */
export interface Batcher<Item, Result> {
  /** Resolves with the item's own result, or rejects with its own error. */
  add(item: Item): Promise<Result>;
}

export interface BatcherOptions<Item, Result> {
  readonly maxSize: number;
  /** How long a batch that isn't full waits for more while there is a free run. */
  readonly maxWaitMs: number;
  /** Batches that run at once; further items collect meanwhile. */
  readonly concurrency: number;
  /** One outcome an item, in order. When it throws, every item of the batch fails with that error. */
  run(items: readonly Item[]): Promise<readonly PromiseSettledResult<Result>[]>;
}

interface Entry<Item, Result> {
  readonly item: Item;
  readonly answer: PromiseWithResolvers<Result>;
}

/**
 * Batches grow by themselves under load: a free run takes what is there after a short wait, a busy one lets
 * the next batch fill.
 */
export function createBatcher<Item, Result>(options: BatcherOptions<Item, Result>): Batcher<Item, Result> {
  const waiting: Entry<Item, Result>[] = [];
  let running = 0;
  let timer: NodeJS.Timeout | undefined;

  async function runBatch(entries: readonly Entry<Item, Result>[]): Promise<void> {
    running++;
    try {
      const outcomes = await options.run(entries.map(({ item }) => item));
      entries.forEach(({ answer }, index) => {
        const outcome = outcomes[index];
        if (outcome?.status === 'fulfilled') answer.resolve(outcome.value);
        else answer.reject(outcome?.reason ?? new Error('The batch gave no outcome for this item.'));
      });
    } catch (error) {
      for (const { answer } of entries) answer.reject(error);
    } finally {
      running--;
      startFull();
      schedule();
    }
  }

  function startFull(): void {
    while (running < options.concurrency && waiting.length >= options.maxSize) startNext();
  }

  function startNext(): void {
    void runBatch(waiting.splice(0, options.maxSize));
  }

  function schedule(): void {
    if (timer !== undefined || waiting.length === 0 || running >= options.concurrency) return;
    timer = setTimeout(() => {
      timer = undefined;
      if (running < options.concurrency && waiting.length > 0) startNext();
      schedule();
    }, options.maxWaitMs);
  }

  return {
    add(item) {
      const answer = Promise.withResolvers<Result>();
      waiting.push({ item, answer });
      startFull();
      schedule();
      return answer.promise;
    },
  };
}

/**
 * Runs the batch in one call; when that fails, each item in a call of its own, so that one bad item doesn't
 * fail the others beside it. `worthSplitting` says which errors an item can be the cause of.
 */
export async function runOrSplit<Item, Result>(
  items: readonly Item[],
  run: (items: readonly Item[]) => Promise<readonly Result[]>,
  worthSplitting: (error: unknown) => boolean,
): Promise<readonly PromiseSettledResult<Result>[]> {
  try {
    return (await run(items)).map((value) => ({ status: 'fulfilled', value }));
  } catch (error) {
    if (items.length === 1 || !worthSplitting(error)) throw error;
  }
  const outcomes: PromiseSettledResult<Result>[] = [];
  for (const item of items) {
    outcomes.push(
      ...(await Promise.allSettled([
        run([item]).then(([value]) => {
          if (value === undefined) throw new Error('The call gave no result for its item.');
          return value;
        }),
      ])),
    );
  }
  return outcomes;
}

/**
 * Gathers the calls of one turn of the event loop, in their order, and hands the parts that `split` makes of them to
 * `send`: many small writes become one durable one. `send` answers with one outcome per call, or rejects all of them.
 */
export function groupCalls<Call, Answer>(
  split: (calls: readonly Call[]) => readonly (readonly Call[])[],
  send: (calls: readonly Call[]) => Promise<readonly (Answer | Error)[]>,
): (call: Call) => Promise<Answer> {
  interface Waiting {
    readonly call: Call;
    readonly resolve: (answer: Answer) => void;
    readonly reject: (error: unknown) => void;
  }
  let waiting: Waiting[] = [];

  async function sendPart(calls: readonly Call[], group: readonly Waiting[]): Promise<void> {
    try {
      const answers = await send(calls);
      for (const [index, { resolve, reject }] of group.entries()) {
        const answer = answers[index];
        if (answer === undefined || answer instanceof Error) reject(answer);
        else resolve(answer);
      }
    } catch (error) {
      for (const { reject } of group) reject(error);
    }
  }

  function sendAll(): void {
    const group = waiting;
    waiting = [];
    let first = 0;
    for (const calls of split(group.map(({ call }) => call))) {
      void sendPart(calls, group.slice(first, first + calls.length));
      first += calls.length;
    }
  }

  return (call) =>
    new Promise((resolve, reject) => {
      if (waiting.length === 0) setImmediate(sendAll);
      waiting.push({ call, resolve, reject });
    });
}

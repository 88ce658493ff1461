/**
 * Gathers the calls of one turn of the event loop and hands them to `send` together, in their order: many small
 * writes become one durable one. `send` answers with one outcome a call, or rejects all of them.
 */
export function groupCalls<Call, Answer>(
  send: (calls: readonly Call[]) => Promise<readonly (Answer | Error)[]>,
): (call: Call) => Promise<Answer> {
  interface Waiting {
    readonly call: Call;
    readonly resolve: (answer: Answer) => void;
    readonly reject: (error: unknown) => void;
  }
  let waiting: Waiting[] = [];

  async function flush(): Promise<void> {
    const group = waiting;
    waiting = [];
    try {
      const answers = await send(group.map(({ call }) => call));
      for (const [index, { resolve, reject }] of group.entries()) {
        const answer = answers[index];
        if (answer === undefined || answer instanceof Error) reject(answer);
        else resolve(answer);
      }
    } catch (error) {
      for (const { reject } of group) reject(error);
    }
  }

  return (call) =>
    new Promise((resolve, reject) => {
      if (waiting.length === 0) setImmediate(() => void flush());
      waiting.push({ call, resolve, reject });
    });
}

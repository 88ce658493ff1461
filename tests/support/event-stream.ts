export interface StreamEvent {
  readonly id?: string;
  readonly name: string;
  readonly data: Record<string, unknown>;
}

/** The events of a stream of server-sent events, one at a time; comments are left out. Disposing it hangs up. */
export function readEvents(
  response: Response,
): AsyncDisposable & { next(name: string): Promise<StreamEvent> } {
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';

  async function nextBlock(): Promise<string> {
    for (;;) {
      const end = text.indexOf('\n\n');
      if (end >= 0) {
        const block = text.slice(0, end);
        text = text.slice(end + 2);
        return block;
      }
      const { value, done } = await reader.read();
      if (done) throw new Error('The stream has ended.');
      text += value;
    }
  }

  return {
    /** Skips events of other names. */
    async next(name) {
      for (;;) {
        const lines = (await nextBlock()).split('\n');
        const field = (key: string) =>
          lines.find((line) => line.startsWith(`${key}: `))?.slice(key.length + 2);
        if (field('event') !== name) continue;
        const id = field('id');
        return {
          name,
          data: JSON.parse(field('data')!) as Record<string, unknown>,
          ...(id !== undefined && { id }),
        };
      }
    },
    [Symbol.asyncDispose]: () => reader.cancel(),
  };
}

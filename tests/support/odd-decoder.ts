import type { DecodeReply, ProcessSettings, RequestHeader } from '../../models/decoding/decoder-process.ts';
import { readFrames } from '../../models/decoding/frames.ts';

/*
 * A decoder process that does what the bytes say, instead of decoding them. With `-ordinary` behind a word it only
 * does so in the process for ordinary images.
 */
export type Order = 'hang' | 'crash' | 'overflow' | 'heavy' | 'hang-ordinary' | 'crash-ordinary' | 'fine';

process.once('message', ({ forHeavy }: ProcessSettings) => {
  const send = (message: object) => process.send?.({ ...message, rssBytes: 1_000_000 });
  readFrames(4, (header, bytes) => {
    const { id } = header as RequestHeader;
    const text = bytes.toString();
    const order = forHeavy && text.endsWith('-ordinary') ? 'fine' : text.replace('-ordinary', '');
    if (order === 'hang') return;
    if (order === 'crash') process.kill(process.pid, 'SIGSEGV');
    else if (order === 'overflow') {
      process.send?.({ kind: 'overflow' }, undefined, undefined, () => process.kill(process.pid, 'SIGKILL'));
    } else if (order === 'heavy' && !forHeavy) send({ kind: 'heavy', id } satisfies DecodeReply);
    else {
      // Says who decoded it.
      const image = { pixels: Buffer.from(String(process.pid)), size: 1 };
      const reply: DecodeReply = { kind: 'decoded', id, contentHash: text, image, thumbnail: null };
      setTimeout(() => send(reply), 20);
    }
  });
  send({ kind: 'ready' });
});
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));

import type { DecodeReply, DecodeRequest, ProcessSettings } from '../../models/decoding/decoder-process.ts';
import { openPipe, writeFrame } from '../../models/decoding/frames.ts';

/*
 * A decoder process that does what the bytes say, instead of decoding them. With `-ordinary` behind a word it only
 * does so in the process for ordinary images.
 */
export type Order =
  | 'hang'
  | 'crash'
  | 'garble'
  | 'overflow'
  | 'heavy'
  | 'hang-ordinary'
  | 'crash-ordinary'
  | 'fine';

/** As in decoder-process.ts, whose import would run it. */
const PIPE_FD = 3;

const { forHeavy } = JSON.parse(process.argv[2] ?? '') as ProcessSettings;
const end = () => process.kill(process.pid, 'SIGKILL');
const pipe = openPipe(PIPE_FD, (request, [bytes]) => {
  const { id } = request as DecodeRequest;
  const text = String(bytes);
  const order = forHeavy && text.endsWith('-ordinary') ? 'fine' : text.replace('-ordinary', '');
  if (order === 'hang') return;
  if (order === 'crash') process.kill(process.pid, 'SIGSEGV');
  else if (order === 'garble') pipe.write(Buffer.alloc(100, 1));
  else if (order === 'overflow') writeFrame(pipe, { kind: 'overflow' }, [], end);
  else if (order === 'heavy' && !forHeavy) send({ kind: 'heavy', id });
  // Says who decoded it.
  else setTimeout(() => send({ kind: 'decoded', id, contentHash: text }, String(process.pid), ''), 20);
});
pipe.on('close', end);
send({ kind: 'ready' });

function send(message: DecodeReply | { readonly kind: 'ready' }, ...parts: readonly string[]): void {
  writeFrame(
    pipe,
    { ...message, rssBytes: 1_000_000 },
    parts.map((part) => Buffer.from(part)),
  );
}

import { createRoute, z } from '@hono/zod-openapi';
import type { VitrineError } from '../errors/vitrine-error.ts';
import { problems } from '../routing/problem.ts';
import { type ApiRouter, createRouter } from '../routing/router.ts';
import { type Ended, type QueueMonitor, type Snapshot, toMs } from './monitor.ts';
import { queueHistory } from './schemas.ts';

export interface MonitorRouteParts {
  readonly monitor: QueueMonitor;
  /** Aborted when the server is being stopped: then every stream ends. */
  readonly stopping: AbortSignal;
}

const eventsRoute = createRoute({
  method: 'get',
  path: '/events',
  tags: ['Queue'],
  summary: 'The queue as it changes, as server-sent events',
  description: [
    '`stats`: what `GET /queue/stats` answers; `workers`: what `GET /queue/workers` answers. Both come first, and again when they change, at most once per second.',
    '`job`: a job that ended, as `GET /queue/jobs/{job_id}` answers. Its event id, sent back as `Last-Event-ID`, brings the jobs that ended since, of the last 100.',
    '`gap`: more jobs ended at this point than are kept; `GET /queue/jobs` lists them.',
    '`problem`: the queue can not be read; the stream goes on when it can.',
    'A comment comes when nothing else did for 15 seconds.',
  ].join('\n\n'),
  request: {
    headers: z.object({
      'last-event-id': z
        .string()
        .max(100)
        .optional()
        .openapi({ description: 'Sent by browsers when they connect again.' }),
    }),
  },
  responses: {
    200: { description: 'The stream', content: { 'text/event-stream': { schema: z.string() } } },
    ...problems('invalid_request'),
  },
});

const historyRoute = createRoute({
  method: 'get',
  path: '/queue/history',
  tags: ['Queue'],
  summary: 'The last hour, minute by minute',
  description:
    'Noted by the API process that answers, since it started: after a restart it begins empty. A minute in which the queue could not be read is left out.',
  responses: {
    200: { description: 'The minutes', content: { 'application/json': { schema: queueHistory } } },
    ...problems(),
  },
});

/** Also what proxies need, which close connections that are silent for a minute. */
const HEARTBEAT_MS = 15_000;

export function createMonitorRoutes({ monitor, stopping }: MonitorRouteParts): ApiRouter {
  const routes = createRouter();

  routes.openAPIRegistry.registerPath(eventsRoute);
  routes.get(eventsRoute.path, (c) => {
    const lastEventId = c.req.header('last-event-id');
    const stream = toStream((left) =>
      streamEvents(monitor, lastEventId, AbortSignal.any([stopping, c.req.raw.signal, left])),
    );
    return c.body(stream, 200, {
      'Content-Type': 'text/event-stream',
      'Cache-Control': 'no-store',
      // nginx would collect the events first.
      'X-Accel-Buffering': 'no',
    });
  });

  routes.openapi(historyRoute, (c) => c.json({ minutes: [...monitor.history()] }, 200));

  return routes;
}

/** A stream that reads the texts no faster than the client takes them, and aborts the signal when it leaves. */
function toStream(open: (left: AbortSignal) => AsyncGenerator<string>): ReadableStream<Uint8Array> {
  const left = new AbortController();
  const texts = open(left.signal);
  const encoder = new TextEncoder();
  return new ReadableStream(
    {
      async pull(controller) {
        const { value, done } = await texts.next();
        if (done) controller.close();
        else controller.enqueue(encoder.encode(value));
      },
      async cancel() {
        left.abort();
        await texts.return(undefined);
      },
    },
    { highWaterMark: 0 },
  );
}

/** Reads the snapshot only when the client has taken what was sent: a slow client misses what changed in between. */
async function* streamEvents(
  monitor: QueueMonitor,
  lastEventId: string | undefined,
  end: AbortSignal,
): AsyncGenerator<string> {
  using _watching = monitor.watch();
  let sent: Snapshot = { stats: null, workers: null, failure: null, ended: [] };
  let cursor = lastEventId;
  yield ': connected\n\n';
  while (!end.aborted) {
    const now = monitor.snapshot();
    let text = '';
    if (now.failure !== null && now.failure !== sent.failure)
      text += toEvent('problem', toNotice(now.failure));
    if (now.stats !== null && now.stats !== sent.stats) text += toEvent('stats', now.stats);
    if (now.workers !== null && now.workers !== sent.workers) text += toEvent('workers', now.workers);
    // A client that connects for the first time is sent the jobs that end from now on.
    if (cursor !== undefined) text += endedSince(now.ended, cursor).map(toEndedEvent).join('');
    if (now.stats !== null) cursor = now.ended.at(-1)?.id ?? cursor ?? '';
    sent = now;
    if (text !== '') yield text;
    if (monitor.snapshot() !== sent) continue;
    await monitor.changed(HEARTBEAT_MS, end);
    if (monitor.snapshot() === sent && !end.aborted) yield ': heartbeat\n\n';
  }
}

const GAP: Ended = { id: '', job: null };

/** What ended after the one with this id; a gap first when that one is no longer kept. */
function endedSince(ended: readonly Ended[], id: string): readonly Ended[] {
  const at = ended.findLastIndex((each) => each.id === id);
  if (at >= 0) return ended.slice(at + 1);
  const later = ended.filter((each) => toMs(each.id) > toMs(id));
  return later.length > 0 && later.length === ended.length && id !== '' ? [GAP, ...later] : later;
}

function toEndedEvent({ id, job }: Ended): string {
  return job === null ? toEvent('gap', {}) : toEvent('job', job, id);
}

function toNotice({ code, message, suggestion }: VitrineError) {
  return { code, detail: message, suggestion };
}

function toEvent(name: string, data: unknown, id?: string): string {
  return `${id === undefined ? '' : `id: ${id}\n`}event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
}

import { createAdaptorServer } from '@hono/node-server';
import { Hono } from 'hono';

// What the enqueue route is compared with: it parses the same JSON, stores nothing, and answers as much.
const app = new Hono();
app.post('/queue/enqueue', async (c) => {
  const job = (await c.req.json()) as { readonly product_id: string };
  const id = '0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b';
  const answer = {
    ...{ job_id: id, status: 'queued', position: job.product_id.length, status_url: `/queue/status/${id}` },
    ...{ replaced: false, superseded: false, spooled: false, version: 1 },
  };
  return c.json(answer, 202);
});
createAdaptorServer({ fetch: app.fetch }).listen(Number(process.env['PORT']), '127.0.0.1');

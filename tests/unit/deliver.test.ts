import { describe, expect, test } from 'vitest';
import type { WebhookMessage } from '../../src/webhooks/sender.ts';
import { createDeliveries } from '../../workers/deliver.ts';
import type { HeldDelivery } from '../../workers/held-jobs.ts';
import { newClaimedDelivery } from '../support/fake-queue.ts';
import { createFakeWorld } from '../support/fake-worker.ts';

const hold = (id: string, url = 'https://shop.example/hook'): HeldDelivery => ({
  job: newClaimedDelivery(id, url),
  abort: new AbortController(),
  heldAt: 0,
  stage: 'waiting',
  workedMs: 0,
});

/** A sender whose receivers never answer. */
function createSilentSender() {
  const sent: WebhookMessage[] = [];
  return {
    sent,
    send: (message: WebhookMessage) => {
      sent.push(message);
      return new Promise<never>(() => undefined);
    },
  };
}

describe('deliveries', () => {
  test('send the job as it ended, without the names of workers', async () => {
    const sent: WebhookMessage[] = [];
    const deliveries = createDeliveries({
      send: async (message) => {
        sent.push(message);
        return 202;
      },
    });
    const held = hold('delivery');
    expect(await deliveries.process(held)).toEqual({ outcome: 'delivered', httpStatus: 202 });
    expect(held.stage).toBe('delivering');
    expect(sent).toMatchObject([{ id: 'delivery', url: 'https://shop.example/hook' }]);
    const event = JSON.parse(sent[0]!.body) as { readonly data: object };
    expect(event).toMatchObject({
      type: 'job.completed',
      timestamp: '2026-01-01T00:00:00.000Z',
      data: { job_id: 'job-of-delivery', status: 'completed', history: [{ outcome: 'completed' }] },
    });
    expect(sent[0]!.body).not.toContain('worker');
  });

  test('put off what is more than one receiver may get at once, and serve another', async () => {
    const sender = createSilentSender();
    const deliveries = createDeliveries(sender);
    for (let n = 0; n < 8; n++) void deliveries.process(hold(`slow-${n}`));
    await expect(deliveries.process(hold('slow-8'))).rejects.toMatchObject({
      code: 'webhook_busy',
      retryAfterMs: 1_000,
    });
    void deliveries.process(hold('other', 'https://other.example/'));
    expect(sender.sent).toHaveLength(9);
  });

  test('take no more than 64 at once from all receivers', async () => {
    const sender = createSilentSender();
    const deliveries = createDeliveries(sender);
    const outcomes = Array.from({ length: 65 }, (_, n) =>
      deliveries.process(hold(`${n}`, `https://${n}.example/`)),
    );
    await expect(outcomes[64]).rejects.toMatchObject({ code: 'webhook_busy' });
    expect(sender.sent).toHaveLength(64);
  });
});

test('a worker whose receivers hang indexes images all the same', async () => {
  const sender = createSilentSender();
  const webhooks = { ...sender, async [Symbol.asyncDispose]() {} };
  const world = createFakeWorld({}, { webhooks });
  const deliveries = Array.from({ length: 64 }, (_, n) =>
    newClaimedDelivery(`${n}`, `https://${n}.example/`),
  );
  world.queue.waiting.push(...deliveries);
  world.enqueue(200);
  const { worker } = await world.start();
  await world.clock.advance(1_000);
  expect(sender.sent).toHaveLength(64);
  expect(world.queue.settlements.filter(({ kind }) => kind === 'complete')).toHaveLength(200);
  expect(world.queue.reports.at(-1)).toMatchObject({ failed: 0 });
  worker.stop();
});

import { VitrineError } from '../src/errors/vitrine-error.ts';
import { type DeliveryResult, toCallback } from '../src/queue/job.ts';
import { toWebhookEvent } from '../src/webhooks/event.ts';
import { MAX_PER_RECEIVER, type WebhookSender } from '../src/webhooks/sender.ts';
import type { HeldDelivery } from './held-jobs.ts';

/** What all receivers together get at once from one worker. */
const MAX_DELIVERIES = 64;
const FULL_WAIT_MS = 1_000;

/** Reports the ends of jobs. It needs no slot of the pipeline, and a slow receiver holds up nobody else. */
export interface Deliveries {
  /**
   * Resolves when the receiver has answered 2xx.
   * @throws VitrineError `webhook_busy` too when as many deliveries as may run at once do: the queue then hands out
   * those to this receiver at the rate at which they are settled
   */
  process(held: HeldDelivery): Promise<DeliveryResult>;
}

export function createDeliveries(webhooks: Pick<WebhookSender, 'send'>): Deliveries {
  const running = new Map<string, number>();
  let total = 0;

  function change(host: string, by: 1 | -1): void {
    total += by;
    running.set(host, (running.get(host) ?? 0) + by);
    if (running.get(host) === 0) running.delete(host);
  }

  return {
    async process(held) {
      const { id, data } = held.job;
      const { host } = toCallback(data.url);
      if (total >= MAX_DELIVERIES || (running.get(host) ?? 0) >= MAX_PER_RECEIVER) {
        throw new VitrineError('webhook_busy', 'As many deliveries as may run at once are on their way.', {
          retryAfterMs: FULL_WAIT_MS,
        });
      }
      change(host, 1);
      held.stage = 'delivering';
      try {
        const body = JSON.stringify(toWebhookEvent(data.job));
        const httpStatus = await webhooks.send({ id, url: data.url, body }, held.abort.signal);
        return { outcome: 'delivered', httpStatus };
      } finally {
        change(host, -1);
      }
    },
  };
}

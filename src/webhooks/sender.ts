import { type Dispatcher, request } from 'undici';
import packageJson from '../../package.json' with { type: 'json' };
import type { Config } from '../config/config.ts';
import { toRetryAfterMs } from '../errors/retry-after.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import { createAddressGuard } from '../images/address-guard.ts';
import { createGuardedAgent } from '../images/guarded-agent.ts';
import type { Clock } from '../observability/clock.ts';
import { toSignedHeaders } from './signature.ts';

/** What one receiver gets at once from one process. */
export const MAX_PER_RECEIVER = 8;
/** Longer waits that a receiver asks for are cut to this. */
const MAX_RETRY_AFTER_MS = 3_600_000;
/** A receiver that is too slow, or asks to slow down without saying for how long, is left alone for this. */
const DEFAULT_WAIT_MS = 60_000;
/** As much of an answer is read, to use its connection again. */
const MAX_ANSWER_BYTES = 16_384;

export interface WebhookMessage {
  readonly id: string;
  readonly url: string;
  readonly body: string;
}

/** Posts signed messages, to addresses that the guard lets through. */
export interface WebhookSender extends AsyncDisposable {
  /**
   * Resolves with the status, 200 to 299, that the receiver answered.
   * @throws VitrineError `webhooks_not_configured`, `webhook_failed`, `webhook_busy`, `webhook_gone`,
   * `webhook_address_blocked`; the signal's reason when it is aborted
   */
  send(message: WebhookMessage, signal: AbortSignal): Promise<number>;
}

export interface WebhookSenderSettings {
  readonly webhooks: Config['webhooks'];
  readonly clock: Pick<Clock, 'now'>;
}

export function createWebhookSender({ webhooks, clock }: WebhookSenderSettings): WebhookSender {
  const { secrets, allowedHosts, allowedNetworks, timeoutMs } = webhooks;
  const guard = createAddressGuard({ hosts: allowedHosts, networks: allowedNetworks });
  const agent = createGuardedAgent(guard, { timeoutMs, connectionsPerHost: MAX_PER_RECEIVER });

  /** Redirects are not followed: they would take the message to an address that nobody named. */
  async function post(message: WebhookMessage, signal: AbortSignal): Promise<Dispatcher.ResponseData> {
    const response = await request(message.url, {
      method: 'POST',
      dispatcher: agent,
      signal,
      headers: {
        'content-type': 'application/json',
        'user-agent': `Vitrine/${packageJson.version}`,
        ...toSignedHeaders(message, secrets, clock.now()),
      },
      body: message.body,
    });
    // The status says it all: nobody waits for the rest.
    response.body.dump({ limit: MAX_ANSWER_BYTES, signal }).catch(() => undefined);
    return response;
  }

  return {
    async send(message, signal) {
      if (secrets.length === 0) {
        throw new VitrineError('webhooks_not_configured', 'This worker has no secret to sign webhooks with.');
      }
      const { host } = new URL(message.url);
      // One deadline for everything: an idle timeout never fires on a receiver that sends a byte at a time.
      const deadline = AbortSignal.timeout(timeoutMs);
      const response = await post(message, AbortSignal.any([signal, deadline])).catch((error: unknown) => {
        signal.throwIfAborted();
        if (deadline.aborted) throw toBusy(`${host} did not answer within ${timeoutMs} ms.`, DEFAULT_WAIT_MS);
        throw toSendError(error, host);
      });
      const failure = toStatusError(response, host, clock.now());
      if (failure !== null) throw failure;
      return response.statusCode;
    },
    async [Symbol.asyncDispose]() {
      await agent.destroy();
    },
  };
}

function toStatusError(
  { statusCode, headers }: Dispatcher.ResponseData,
  host: string,
  nowMs: number,
): VitrineError | null {
  if (statusCode >= 200 && statusCode < 300) return null;
  const detail = `${host} answered ${statusCode}.`;
  if (statusCode === 410) return new VitrineError('webhook_gone', detail);
  const askedMs = toRetryAfterMs(headers['retry-after'], nowMs);
  if (statusCode === 429 || (statusCode === 503 && askedMs !== undefined)) {
    return toBusy(detail, Math.min(askedMs ?? DEFAULT_WAIT_MS, MAX_RETRY_AFTER_MS));
  }
  return new VitrineError('webhook_failed', detail);
}

function toSendError(error: unknown, host: string): VitrineError {
  if (error instanceof VitrineError && error.code === 'image_address_blocked') {
    return new VitrineError('webhook_address_blocked', `${host} is at a private or reserved address.`);
  }
  const code = (error as NodeJS.ErrnoException | null)?.code ?? '';
  const reasons: Readonly<Record<string, string>> = {
    ENOTFOUND: 'does not exist',
    ECONNREFUSED: 'refused the connection',
  };
  const reason = reasons[code] ?? 'broke off or could not be reached';
  return new VitrineError('webhook_failed', `${host} ${reason}.`, { cause: error });
}

function toBusy(detail: string, retryAfterMs: number): VitrineError {
  return new VitrineError('webhook_busy', detail, { retryAfterMs });
}

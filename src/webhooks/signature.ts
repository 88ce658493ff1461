import { createHmac } from 'node:crypto';

// Standard Webhooks 1.0.0: github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md

export const SECRET_PREFIX = 'whsec_';

/** What a receiver verifies a message by. */
export interface SignedHeaders {
  /** The same for each attempt: a receiver that has seen it before ignores the message. */
  readonly 'webhook-id': string;
  /** Of the attempt, in seconds: a receiver refuses an old one. */
  readonly 'webhook-timestamp': string;
  /** One signature per secret, so that a receiver may know either while they are rotated. */
  readonly 'webhook-signature': string;
}

/** @param secrets each `whsec_` and the key in base64 */
export function toSignedHeaders(
  message: { readonly id: string; readonly body: string },
  secrets: readonly string[],
  nowMs: number,
): SignedHeaders {
  const timestamp = String(Math.floor(nowMs / 1_000));
  const signed = `${message.id}.${timestamp}.${message.body}`;
  const signatures = secrets.map((secret) => {
    const key = Buffer.from(secret.slice(SECRET_PREFIX.length), 'base64');
    return `v1,${createHmac('sha256', key).update(signed).digest('base64')}`;
  });
  return {
    'webhook-id': message.id,
    'webhook-timestamp': timestamp,
    'webhook-signature': signatures.join(' '),
  };
}

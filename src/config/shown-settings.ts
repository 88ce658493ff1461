import { redact } from '../observability/redact.ts';
import { type Environment, FILE_SECRETS } from './env.ts';
import { SETTINGS, type Topic } from './settings.ts';

const SECRETS = new Set([...FILE_SECRETS, 'API_KEYS', 'VITRINE_API_KEY']);

/** A setting as an operator may see it. */
export interface ShownSetting {
  readonly name: string;
  readonly topic: Topic;
  readonly meaning: string;
  /** Null when it is unset and has no default, and for every secret. Addresses come without passwords and queries. */
  readonly value: string | null;
  readonly isDefault: boolean;
  readonly isSecret: boolean;
}

export function toShownSettings(environment: Environment): readonly ShownSetting[] {
  return Object.entries(SETTINGS).map(([name, { topic, meaning, fallback }]) => {
    const text = environment[name] || fallback;
    const isSecret = SECRETS.has(name);
    return {
      name,
      topic,
      meaning,
      value: isSecret || text === undefined ? null : redact(text),
      isDefault: text === fallback,
      isSecret,
    };
  });
}

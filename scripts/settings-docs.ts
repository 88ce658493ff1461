// Writes .env.example and the tables of docs/configuration.md from the definitions in src/config/settings.ts.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  COMPOSE_SETTINGS,
  type DocumentedSetting,
  SETTINGS,
  TOPICS,
  type Topic,
} from '../src/config/settings.ts';

const root = join(import.meta.dirname, '..');
const ENV_EXAMPLE = join(root, '.env.example');
const DOCS = join(root, 'docs', 'configuration.md');

const topics = Object.keys(TOPICS) as readonly Topic[];

function toSettings(topic: Topic): readonly (readonly [string, DocumentedSetting])[] {
  if (topic === 'compose') return Object.entries(COMPOSE_SETTINGS);
  return Object.entries(SETTINGS).filter(([, setting]) => setting.topic === topic);
}

export function toEnvExample(): string {
  const sections = topics.map((topic) => {
    const note =
      topic === 'compose'
        ? ', which needs API_KEYS, and REDIS_PASSWORD and QDRANT_API_KEY: openssl rand -hex 24'
        : '';
    const lines = toSettings(topic).map(([name, { fallback = '' }]) => `#${name}=${fallback}`);
    return `# ${TOPICS[topic]}${note}\n${lines.join('\n')}\n`;
  });
  return `# Copy this file to .env and uncomment what differs from the default. docs/configuration.md says what each setting
# means. Put a value with special characters in single quotes. Written by scripts/settings-docs.ts.

${sections.join('\n')}`;
}

function toTable(topic: Topic): string {
  const rows = toSettings(topic).map(([name, { fallback, values, meaning }]) => {
    const shown = fallback === undefined || fallback === '' ? '—' : `\`${fallback}\``;
    return `| \`${name}\` | ${shown} | ${values} | ${meaning} |`;
  });
  return `| Setting | Default | Values | Meaning |\n| --- | --- | --- | --- |\n${rows.join('\n')}`;
}

/** The document with the table of each topic between its two markers. */
export function toDocument(markdown: string): string {
  return topics.reduce((text, topic) => {
    const begin = `<!-- settings: ${topic} -->`;
    const end = '<!-- end of settings -->';
    const from = text.indexOf(begin);
    const to = text.indexOf(end, from);
    if (from === -1 || to === -1)
      throw new Error(`docs/configuration.md has no place for the settings of ${topic}.`);
    return `${text.slice(0, from)}${begin}\n\n${toTable(topic)}\n\n${text.slice(to)}`;
  }, markdown);
}

if (import.meta.main) {
  writeFileSync(ENV_EXAMPLE, toEnvExample());
  writeFileSync(DOCS, toDocument(readFileSync(DOCS, 'utf8')));
}

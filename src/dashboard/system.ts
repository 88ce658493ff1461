import { ask } from './lib/api.ts';
import { toDuration } from './lib/format.ts';
import { html } from './lib/html.ts';
import { useLoad } from './lib/load.ts';
import { Badge, Failure, Loading, type Tone } from './lib/parts.ts';
import { can } from './lib/session.ts';
import type { Health, Settings } from './lib/wire.ts';

/** Whether each part works, what it is set to, and where to read on. */
export function SystemView() {
  return html`<h1>System</h1>
    <${HealthOfParts} />
    <section aria-labelledby="read-on"><h2 id="read-on">Documentation</h2>
      <ul class="links">
        <li><a href="/docs">API documentation</a><small>every address, to read and to try</small></li>
        <li><a href="/openapi.json">OpenAPI document</a><small>for tools and generated clients</small></li>
        <li><a href="/errors">Error codes</a><small>and what to do about each</small></li>
      </ul>
    </section>
    ${can('admin') && html`<${SettingsTable} />`}`;
}

const TONES: Readonly<Record<string, Tone>> = {
  up: 'good',
  ready: 'good',
  loading: 'busy',
  down: 'bad',
  failed: 'bad',
};

function HealthOfParts() {
  // 503 has a body too: it says what is down.
  const { data, error, reload } = useLoad('health', async (signal) => {
    const response = await fetch('/health', { signal });
    if (response.status !== 503 && !response.ok) return ask<Health>('/health', { signal });
    return (await response.json()) as Health;
  });
  if (error !== undefined) return html`<${Failure} error=${error} retry=${reload} />`;
  if (data === undefined) return html`<${Loading} what="the state of each part" />`;
  const { queue, store, model } = data.dependencies;
  const parts = [
    {
      name: 'Queue',
      state: queue.state,
      what: queue.kind,
      note: toLatency(queue.latency_ms),
      error: queue.error,
    },
    {
      name: 'Vector store',
      state: store.state,
      what: store.kind,
      note: toLatency(store.latency_ms),
      error: store.error,
    },
    {
      name: 'Model',
      state: model.state,
      what: model.id ?? '',
      note: model.dimension === null ? '' : `${model.dimension} dimensions`,
      error: model.error,
    },
  ];
  return html`<section aria-labelledby="health">
    <div class="row row-between"><h2 id="health">Health</h2><button onClick=${reload}>Check again</button></div>
    <div class="cards">${parts.map(
      (part) => html`<article class="card" key=${part.name}>
        <h3>${part.name} <${Badge} tone=${TONES[part.state] ?? 'quiet'}>${part.state}<//></h3>
        <p>${part.what} <small>${part.note}</small></p>
        ${part.error !== null && html`<p class="error">${part.error.detail} ${part.error.suggestion}</p>`}
      </article>`,
    )}</div>
    <p class="muted">This server has run for ${toDuration(data.uptime_ms)}.</p>
  </section>`;
}

const toLatency = (ms: number | null): string => (ms === null ? '' : `answers in ${toDuration(ms)}`);

function SettingsTable() {
  const { data, error, reload } = useLoad('settings', (signal) => ask<Settings>('/settings', { signal }));
  if (error !== undefined) return html`<${Failure} error=${error} retry=${reload} />`;
  if (data === undefined) return html`<${Loading} what="the settings" />`;
  const topics = Map.groupBy(data.settings, ({ topic }) => topic);
  return html`<section aria-labelledby="settings"><h2 id="settings">Settings</h2>
    <p class="muted">Of the server that answers. They are environment variables, or lines in <code>.env</code>.</p>
    ${[...topics].map(
      ([topic, settings]) => html`<details key=${topic}>
        <summary>${topic} <small>${settings.filter((each) => !each.is_default).length} set</small></summary>
        <div class="table" tabindex="0" role="region" aria-label=${topic}><table><thead><tr><th>Setting</th><th>Value</th><th>Meaning</th></tr></thead>
          <tbody>${settings.map(
            ({ name, value, is_default: isDefault, is_secret: isSecret, meaning }) => html`<tr key=${name}>
              <td><code>${name}</code></td>
              <td class=${isDefault ? 'muted' : ''}>${toValue(value, isSecret, isDefault)}</td>
              <td>${toMarkup(meaning)}</td>
            </tr>`,
          )}</tbody></table></div>
      </details>`,
    )}
  </section>`;
}

/** What stands between backticks is code. */
const toMarkup = (text: string): readonly unknown[] =>
  text.split('`').map((part, index) => (index % 2 === 1 ? html`<code>${part}</code>` : part));

function toValue(value: string | null, isSecret: boolean, isDefault: boolean): string {
  if (isSecret) return isDefault ? 'not set' : 'set, and not shown';
  return value ?? 'not set';
}

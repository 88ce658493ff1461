import { signal } from '@preact/signals';
import { html } from './html.ts';
import { toApiError } from './load.ts';

interface Notice {
  readonly id: number;
  readonly text: string;
  readonly isFailure: boolean;
  /** Takes back what was done. */
  readonly undo?: (() => void) | undefined;
}

const notices = signal<readonly Notice[]>([]);
const SHOWN_MS = 8_000;
let lastId = 0;

export function notify(
  text: string,
  { undo, isFailure = false }: { undo?: () => void; isFailure?: boolean } = {},
) {
  lastId += 1;
  const id = lastId;
  notices.value = [...notices.value, { id, text, isFailure, undo }];
  setTimeout(() => dismiss(id), SHOWN_MS);
}

function dismiss(id: number): void {
  notices.value = notices.value.filter((notice) => notice.id !== id);
}

/** Runs what a person asked for; a failure of it is shown. True when it succeeded. */
export async function attempt(work: () => Promise<unknown>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    const { message, suggestion } = toApiError(error);
    notify(`${message} ${suggestion}`, { isFailure: true });
    return false;
  }
}

export function Notices() {
  return html`<div class="notices" role="status" aria-live="polite">
    ${notices.value.map(
      ({
        id,
        text,
        isFailure,
        undo,
      }) => html`<div key=${id} class=${isFailure ? 'notice notice-bad' : 'notice'}>
        <span>${text}</span>
        ${
          undo &&
          html`<button class="quiet" onClick=${() => {
            dismiss(id);
            undo();
          }}>Undo</button>`
        }
        <button class="quiet" aria-label="Dismiss" onClick=${() => dismiss(id)}>✕</button>
      </div>`,
    )}
  </div>`;
}

import { signal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { html } from './html.ts';

interface Question {
  readonly title: string;
  /** What will be lost, with its number. */
  readonly text: string;
  /** The name of the button that does it. */
  readonly action: string;
  readonly isDangerous?: boolean;
}

const asked = signal<(Question & { answer(yes: boolean): void }) | null>(null);

/** Asks before something that can't be undone. */
export function confirm(question: Question): Promise<boolean> {
  return new Promise((resolve) => {
    asked.value = {
      ...question,
      answer(yes) {
        asked.value = null;
        resolve(yes);
      },
    };
  });
}

export function ConfirmDialog() {
  const dialog = useRef<HTMLDialogElement>(null);
  const question = asked.value;
  useEffect(() => {
    if (question === null) dialog.current?.close();
    else dialog.current?.showModal();
  }, [question]);
  return html`<dialog ref=${dialog} aria-labelledby="confirm-title" onCancel=${() => asked.value?.answer(false)}>
    ${
      question !== null &&
      html`<h2 id="confirm-title">${question.title}</h2>
        <p>${question.text}</p>
        <div class="row row-end">
          <button onClick=${() => question.answer(false)}>Cancel</button>
          <button class=${question.isDangerous ? 'danger' : 'primary'} onClick=${() => question.answer(true)}>
            ${question.action}
          </button>
        </div>`
    }
  </dialog>`;
}

import { useState } from 'preact/hooks';
import type { ApiError } from './lib/api.ts';
import { html } from './lib/html.ts';
import { toApiError } from './lib/load.ts';
import { signIn } from './lib/session.ts';

/** Asks for an API key once; the browser then has a cookie. */
export function SignIn() {
  const [error, setError] = useState<ApiError | null>(null);
  const [isBusy, setBusy] = useState(false);

  async function submit(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const key = new FormData(event.currentTarget as HTMLFormElement).get('key');
    setBusy(true);
    setError(null);
    try {
      await signIn(String(key).trim());
    } catch (reason) {
      setError(toApiError(reason));
      setBusy(false);
    }
  }

  return html`<section class="card narrow">
    <h1>Sign in</h1>
    <p>This server asks for an API key. <code>vitrine keys create NAME</code> makes one.</p>
    <form onSubmit=${submit}>
      <label for="key">API key</label>
      <input id="key" name="key" type="password" autocomplete="current-password" required
        aria-describedby=${error ? 'key-error' : undefined} aria-invalid=${error !== null} />
      ${error !== null && html`<p id="key-error" class="error" role="alert">${error.message} ${error.suggestion}</p>`}
      <div class="row row-end"><button class="primary" disabled=${isBusy}>Sign in</button></div>
    </form>
  </section>`;
}

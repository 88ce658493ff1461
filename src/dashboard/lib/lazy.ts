import type { FunctionComponent } from 'preact';
import { html } from './html.ts';
import { useLoad } from './load.ts';
import { Failure, Loading } from './parts.ts';

/** A view whose modules are loaded when it is first opened. */
export function lazy(title: string, load: () => Promise<FunctionComponent>): FunctionComponent {
  let View: FunctionComponent | undefined;
  return function Lazy() {
    const { error, reload } = useLoad(title, async () => {
      View = await load();
    });
    if (View !== undefined) return html`<${View} />`;
    if (error !== undefined) return html`<h1>${title}</h1><${Failure} error=${error} retry=${reload} />`;
    return html`<${Loading} what=${title.toLowerCase()} />`;
  };
}

import { useEffect, useRef, useState } from 'preact/hooks';
import { takeBegunSearch } from './begin.ts';
import { stats } from './lib/events.ts';
import { toCount, toNumber, toPrice } from './lib/format.ts';
import { html } from './lib/html.ts';
import { useLoad } from './lib/load.ts';
import { attempt } from './lib/notices.ts';
import { Empty, Failure, Loading, Picture } from './lib/parts.ts';
import { keepPicture } from './lib/pictures.ts';
import { navigate, route, toHref } from './lib/router.ts';
import { EmptyCatalog } from './search/empty-catalog.ts';
import { Facets } from './search/facets.ts';
import { QueryPicture } from './search/query-picture.ts';
import { type Found, PAGE, search, toSearchKey } from './search/request.ts';
import { isQuery, parseSearch, type Search, toFilter, toLikeHref, toSearchHref } from './search/state.ts';

const MOST = 1_000;

/** Searches by picture, by words and by product. What is searched for stands in the address. */
export function SearchView() {
  const query = parseSearch(route.value);
  const key = toSearchHref(query);
  const [limit, setLimit] = useState(PAGE);
  const [begun] = useState(takeBegunSearch);
  const { data, error, isLoading, reload } = useLoad(
    toSearchKey(query, limit),
    (signal) => search(query, limit, signal),
    begun,
  );
  useEffect(() => setLimit(PAGE), [key]);
  const change = (changes: Partial<Search>, options = {}) =>
    navigate(toSearchHref({ ...query, ...changes }), options);

  // While nothing is indexed, the first pictures are waited for.
  const isEmpty = data !== undefined && data.facets.products === 0 && toFilter(query) === undefined;
  const completed = stats.value?.completed ?? 0;
  useEffect(() => {
    if (isEmpty && !isLoading) reload();
  }, [completed]);

  if (isEmpty && !isQuery(query)) return html`<${EmptyCatalog} />`;
  return html`
    <h1 class="unseen">Search</h1>
    <${SearchBar} query=${query} change=${change} />
    ${
      query.picture !== undefined &&
      html`<${QueryPicture} id=${query.picture} crop=${query.crop}
        onCrop=${(crop: Search['crop']) => change({ crop }, { replace: true })}
        onRemove=${() => change({ picture: undefined, crop: undefined })} />`
    }
    ${
      query.product !== undefined &&
      html`<section class="query" aria-label="Product of this search">
        <div class="query-text"><strong>Like ${query.product}</strong>
          <div class="row"><a href=${toHref(['catalog', query.product])}>Open the product</a>
            <button class="quiet" onClick=${() => change({ product: undefined })}>Remove</button></div></div>
      </section>`
    }
    ${error !== undefined && html`<${Failure} error=${error} retry=${reload} />`}
    ${error === undefined && data === undefined && html`<${Loading} what="the products" />`}
    ${
      error === undefined &&
      data !== undefined &&
      html`<div class="results" aria-busy=${isLoading}>
        <${Narrow}><${Facets} facets=${data.facets} query=${query} onChange=${change} /><//>
        <div class="found">
          <${Hits} found=${data} query=${query} />
          ${
            data.hits.length === limit &&
            limit < MOST &&
            html`<button class="more" disabled=${isLoading} onClick=${() => setLimit(Math.min(MOST, limit + PAGE))}>Show more</button>`
          }
        </div>
      </div>`
    }
  `;
}

const TYPING_MS = 250;

function SearchBar({
  query,
  change,
}: {
  query: Search;
  change: (changes: Partial<Search>, options?: { replace?: boolean }) => void;
}) {
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const onInput = (event: Event) => {
    const { value } = event.currentTarget as HTMLInputElement;
    clearTimeout(timer.current);
    timer.current = setTimeout(() => change({ text: value }, { replace: query.text !== '' }), TYPING_MS);
  };
  const onSubmit = (event: SubmitEvent) => {
    event.preventDefault();
    clearTimeout(timer.current);
    const text = new FormData(event.currentTarget as HTMLFormElement).get('q');
    change({ text: String(text) });
  };
  return html`<form class="search-bar" role="search" onSubmit=${onSubmit}>
    <label class="unseen" for="words">Search with words</label>
    <input id="words" name="q" type="search" value=${query.text} onInput=${onInput} autocomplete="off" placeholder=${isWide() ? 'Red mug, or drop a picture anywhere' : 'Red mug'} />
    <${PictureButton} id="choose" title="Choose a picture" />
    <${PictureButton} id="photo" title="Take a photo" isCamera />
  </form>`;
}

function PictureButton({ id, title, isCamera = false }: { id: string; title: string; isCamera?: boolean }) {
  const onChange = (event: Event) => {
    const input = event.currentTarget as HTMLInputElement;
    const file = input.files?.[0];
    if (file !== undefined) void searchWith(file);
    input.value = '';
  };
  return html`<span class=${isCamera ? 'file camera' : 'file'}>
    <input id=${id} class="unseen" type="file" accept="image/*" capture=${isCamera ? 'environment' : undefined} onChange=${onChange} />
    <label class="button" for=${id}>${title}</label>
  </span>`;
}

/** Searches with a picture that was dropped, pasted, chosen or taken. */
export async function searchWith(picture: Blob): Promise<void> {
  await attempt(async () => {
    const id = await keepPicture(picture);
    navigate(toSearchHref({ ...parseSearch(route.value), picture: id, crop: undefined, product: undefined }));
  });
}

const isWide = (): boolean => matchMedia('(min-width: 48rem)').matches;

/** Next to the results on a wide screen; on a phone it opens when it is asked for. */
function Narrow({ children }: { children?: unknown }) {
  return html`<details class="narrow-down" open=${isWide()}><summary>Filter</summary>${children}</details>`;
}

const MATCHES: Readonly<Record<string, string>> = {
  image: 'looks alike',
  text: 'by meaning',
  words: 'by words',
};

function Hits({ found, query }: { found: Found; query: Search }) {
  const { hits, matches, facets } = found;
  if (hits.length === 0) {
    return html`<${Empty} title="Nothing was found">
      <p>${toFilter(query) === undefined ? 'Try other words, or another picture.' : 'Remove a filter, or try other words.'}</p>
    <//>`;
  }
  const heading =
    matches === undefined ? toCount(facets.products, 'product') : `${toNumber(hits.length)} best matches`;
  return html`<h2><span role="status">${heading}</span></h2>
    <ul class="grid">${hits.map(({ product_id: id, image_id: image, payload }, index) => {
      const name = payload.name ?? id;
      const match = matches?.[index];
      return html`<li key=${`${id}/${image}`} class="hit">
        <a class="hit-link" href=${toHref(['catalog', id])}>
          <${Picture} productId=${id} imageId=${image} name="" />
          <span class="hit-name">${name}</span>
        </a>
        <span class="hit-price">${toPrice(payload.price, payload.currency)}</span>
        ${
          match !== undefined &&
          html`<small>${match.matched_by.map((by) => MATCHES[by]).join(', ')}${match.matched_by.length === 1 && match.matched_by[0] !== 'words' ? ` · ${match.score.toFixed(2)}` : ''}</small>`
        }
        <a class="like" href=${toLikeHref(id)}>More like this<span class="unseen">: ${name}</span></a>
      </li>`;
    })}</ul>`;
}

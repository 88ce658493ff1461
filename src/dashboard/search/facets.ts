import { toNumber } from '../lib/format.ts';
import { html } from '../lib/html.ts';
import type { Found } from './request.ts';
import { PRICE_RANGES, type Search } from './state.ts';

type Field = 'categories' | 'brands' | 'tags';

const FIELDS: readonly (readonly [Field, string, string])[] = [
  ['categories', 'category', 'Category'],
  ['brands', 'brand', 'Brand'],
  ['tags', 'tags', 'Tags'],
];

/** What the found products can be narrowed down to, with how many products each leaves. */
export function Facets({
  facets,
  query,
  onChange,
}: {
  facets: Found['facets'];
  query: Search;
  onChange: (change: Partial<Search>) => void;
}) {
  const isNarrowed = query.price !== undefined || FIELDS.some(([field]) => query[field].length > 0);
  return html`<div class="facets">
    ${isNarrowed && html`<button class="quiet" onClick=${() => onChange({ categories: [], brands: [], tags: [], price: undefined })}>Remove all filters</button>`}
    ${FIELDS.map(([field, name, title]) => {
      const chosen = query[field];
      const counts = facets.fields[name] ?? [];
      // A chosen value stays, also where nothing is left of it.
      const missing = chosen.filter((value) => !counts.some((each) => each.value === value));
      const values = [...counts, ...missing.map((value) => ({ value, products: 0 }))];
      if (values.length === 0) return null;
      return html`<fieldset key=${field}><legend>${title}</legend>
        ${values.map(
          ({ value, products }) => html`<${Choice} key=${value} name=${String(value)} products=${products}
            isChosen=${chosen.includes(String(value))}
            onToggle=${(isOn: boolean) =>
              onChange({
                [field]: isOn ? [...chosen, String(value)] : chosen.filter((each) => each !== value),
              })} />`,
        )}
      </fieldset>`;
    })}
    <${Prices} facets=${facets} price=${query.price} onChange=${onChange} />
  </div>`;
}

function Prices({
  facets,
  price,
  onChange,
}: {
  facets: Found['facets'];
  price: number | undefined;
  onChange: (change: Partial<Search>) => void;
}) {
  const ranges = facets.price_ranges
    .map(({ products }, index) => ({ index, products }))
    .filter(({ index, products }) => products > 0 || index === price);
  if (ranges.length === 0) return null;
  return html`<fieldset><legend>Price</legend>
    ${ranges.map(
      ({ index, products }) => html`<${Choice} key=${index} name=${toRangeText(index)} products=${products}
        isChosen=${index === price} onToggle=${(isOn: boolean) => onChange({ price: isOn ? index : undefined })} />`,
    )}
  </fieldset>`;
}

function toRangeText(index: number): string {
  const { gte, lt } = PRICE_RANGES[index] ?? {};
  if (gte === undefined) return `Under ${lt}`;
  return lt === undefined ? `${gte} and more` : `${gte} to ${lt}`;
}

function Choice({
  name,
  products,
  isChosen,
  onToggle,
}: {
  name: string;
  products: number;
  isChosen: boolean;
  onToggle: (isOn: boolean) => void;
}) {
  return html`<label class="choice">
    <input type="checkbox" checked=${isChosen} onChange=${(event: Event) => onToggle((event.currentTarget as HTMLInputElement).checked)} />
    <span>${name}</span><small>${toNumber(products)}</small>
  </label>`;
}

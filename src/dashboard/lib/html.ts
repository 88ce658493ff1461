import htm from 'htm';
import { h, type VNode } from 'preact';

/** Markup as a tagged template; the browser needs no build step for it. */
export const html = (htm as unknown as { bind(create: typeof h): unknown }).bind(h) as (
  strings: TemplateStringsArray,
  ...values: readonly unknown[]
) => VNode;

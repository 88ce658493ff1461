import type { ProductFields } from '../catalog/product-image.ts';
import type { Language } from '../config/languages.ts';

/** What a product's data says, as both stores index it. */
export interface DocumentWords {
  /** By stem: how often it occurs, times the weight of the field that it is in. */
  readonly stems: ReadonlyMap<string, number>;
  /** The words as they are written, without accents: a prefix is compared with these. */
  readonly words: ReadonlySet<string>;
}

/** What is searched for: any of the stems, or any word that begins with the prefix. */
export interface QueryWords {
  readonly stems: readonly string[];
  readonly prefix: string | null;
}

/** Turns text into words, once for both stores, so that both find the same. */
export interface WordAnalyzer {
  /** Changes when the same text would give other words: what is stored must then be made again. */
  readonly version: string;
  ofProduct(fields: ProductFields): DocumentWords;
  ofQuery(text: string): QueryWords;
}

/** Of the code in this file. */
const REVISION = 1;

const FIELD_WEIGHTS = { name: 3, brand: 2, category: 2, tags: 2, description: 1 } as const;

/** Of each field; what a description says after that is not searched. */
const MAX_WORDS = 1_000;

/** A single letter is the beginning of too much. Of a longer prefix than this, only its beginning is compared. */
export const PREFIX_LENGTHS = { min: 2, max: 15 } as const;

type Stem = (word: string) => string;

/** Each loads its module only when it is asked for. */
const STEMMERS: Readonly<Record<Exclude<Language, 'none'>, () => Promise<{ readonly stemmer: Stem }>>> = {
  arabic: () => import('@orama/stemmers/arabic'),
  armenian: () => import('@orama/stemmers/armenian'),
  bulgarian: () => import('@orama/stemmers/bulgarian'),
  danish: () => import('@orama/stemmers/danish'),
  dutch: () => import('@orama/stemmers/dutch'),
  english: () => import('@orama/stemmers/english'),
  finnish: () => import('@orama/stemmers/finnish'),
  french: () => import('@orama/stemmers/french'),
  german: () => import('@orama/stemmers/german'),
  greek: () => import('@orama/stemmers/greek'),
  hungarian: () => import('@orama/stemmers/hungarian'),
  indonesian: () => import('@orama/stemmers/indonesian'),
  irish: () => import('@orama/stemmers/irish'),
  italian: () => import('@orama/stemmers/italian'),
  lithuanian: () => import('@orama/stemmers/lithuanian'),
  norwegian: () => import('@orama/stemmers/norwegian'),
  portuguese: () => import('@orama/stemmers/portuguese'),
  romanian: () => import('@orama/stemmers/romanian'),
  russian: () => import('@orama/stemmers/russian'),
  serbian: () => import('@orama/stemmers/serbian'),
  spanish: () => import('@orama/stemmers/spanish'),
  swedish: () => import('@orama/stemmers/swedish'),
  tamil: () => import('@orama/stemmers/tamil'),
  turkish: () => import('@orama/stemmers/turkish'),
  ukrainian: () => import('@orama/stemmers/ukrainian'),
};

/** With `none`, words are compared as they are written. */
export async function loadWordAnalyzer(language: Language): Promise<WordAnalyzer> {
  const stem: Stem = language === 'none' ? (word) => word : (await STEMMERS[language]()).stemmer;
  return {
    version: `${language}/${REVISION}`,
    ofProduct(fields) {
      const stems = new Map<string, number>();
      const words = new Set<string>();
      for (const [field, weight] of Object.entries(FIELD_WEIGHTS)) {
        const value = fields[field as keyof typeof FIELD_WEIGHTS] ?? '';
        for (const word of toWords([value].flat().join(' '))) {
          const term = toStem(word, stem);
          stems.set(term, (stems.get(term) ?? 0) + weight);
          words.add(word);
        }
      }
      return { stems, words };
    },
    ofQuery(text) {
      const words = toWords(text);
      const last = words.at(-1) ?? '';
      return {
        stems: [...new Set(words.map((word) => toStem(word, stem)))],
        prefix: last.length < PREFIX_LENGTHS.min ? null : last.slice(0, PREFIX_LENGTHS.max),
      };
    },
  };
}

function toStem(word: string, stem: Stem): string {
  return stem(word) || word;
}

/** The text's words in lower case and without accents. */
function toWords(text: string): readonly string[] {
  return [...toFolded(text).matchAll(/[\p{L}\p{N}][\p{L}\p{N}\p{M}]*/gu)]
    .flatMap(([run]) => (WITHOUT_SPACES.test(run) ? toSegments(run) : run))
    .slice(0, MAX_WORDS);
}

/** Scripts that put no spaces between words. */
const WITHOUT_SPACES =
  /[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Thai}\p{sc=Lao}\p{sc=Khmer}\p{sc=Myanmar}]/u;

const segmenter = new Intl.Segmenter('en', { granularity: 'word' });

function toSegments(run: string): readonly string[] {
  return Array.from(segmenter.segment(run), ({ segment }) => segment);
}

/** Letters that Unicode doesn't take apart, as people write them who don't have them on their keyboards. */
const LETTERS: Readonly<Record<string, string>> = {
  ß: 'ss',
  æ: 'ae',
  œ: 'oe',
  ø: 'o',
  đ: 'd',
  ð: 'd',
  ł: 'l',
  þ: 'th',
  ı: 'i',
  ħ: 'h',
  ё: 'е',
};
const SPECIAL_LETTERS = new RegExp(`[${Object.keys(LETTERS).join('')}]`, 'g');

/**
 * Before stemming, so that a word has the same stem with and without its accents. Only Latin and Greek letters lose
 * their marks: in other scripts they make another letter, or are vowels.
 */
function toFolded(text: string): string {
  return text
    .normalize('NFKD')
    .toLowerCase()
    .replaceAll(/([\p{sc=Latin}\p{sc=Greek}])[\u0300-\u036f]+/gu, '$1')
    .normalize('NFC')
    .replaceAll(SPECIAL_LETTERS, (letter) => LETTERS[letter] ?? letter)
    .replaceAll(/['’]s(?![\p{L}\p{N}])/gu, '');
}

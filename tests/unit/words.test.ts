import { describe, expect, it } from 'vitest';
import { LANGUAGES } from '../../src/config/languages.ts';
import { loadWordAnalyzer } from '../../src/vectors/words.ts';

describe('words', () => {
  it.each(LANGUAGES)('are made in %s', async (language) => {
    const analyzer = await loadWordAnalyzer(language);
    expect(analyzer.version).toContain(language);
    const { stems, words } = analyzer.ofProduct({ name: 'Red mug 2' });
    expect([...words]).toEqual(['red', 'mug', '2']);
    for (const stem of analyzer.ofQuery('red mug 2').stems) expect(stems.has(stem)).toBe(true);
  });

  it.each([
    ['english', 'running shoes', 'run shoe'],
    ['german', 'Häuser', 'Haus'],
    ['french', 'chaussures bleues', 'chaussure bleue'],
    ['spanish', 'zapatos rojos', 'zapato rojo'],
    ['russian', 'синяя', 'синий'],
    ['none', 'Mugs', 'mugs'],
  ] as const)('of %s have the same stems: %s, %s', async (language, one, other) => {
    const analyzer = await loadWordAnalyzer(language);
    expect(analyzer.ofQuery(one).stems).toEqual(analyzer.ofQuery(other).stems);
  });

  it.each(LANGUAGES)('have the same stems with and without accents in %s', async (language) => {
    const analyzer = await loadWordAnalyzer(language);
    for (const [accented, plain] of [
      ['Crème brûlée', 'creme brulee'],
      ['Straße Œuvre Smørrebrød Łódź', 'strasse oeuvre smorrebrod lodz'],
      ['ﬁne ＡＢＣ', 'fine abc'],
    ] as const)
      expect(analyzer.ofQuery(accented)).toEqual(analyzer.ofQuery(plain));
  });

  it('count more in the name than in the description', async () => {
    const analyzer = await loadWordAnalyzer('english');
    const { stems } = analyzer.ofProduct({
      name: 'Mug',
      brand: 'Acme',
      category: 'Mugs',
      tags: ['mug', 'red'],
      description: 'A mug. A red mug.',
    });
    expect(stems.get('mug')).toBe(3 + 2 + 2 + 1 + 1);
    expect(stems.get('red')).toBe(2 + 1);
    expect(stems.get('acm')).toBe(2);
  });

  it('of a query have the last one as a prefix, when it is long enough', async () => {
    const { ofQuery } = await loadWordAnalyzer('english');
    expect(ofQuery('red mugs')).toEqual({ stems: ['red', 'mug'], prefix: 'mugs' });
    expect(ofQuery('size m')).toEqual({ stems: ['size', 'm'], prefix: null });
    expect(ofQuery('  ')).toEqual({ stems: [], prefix: null });
    expect(ofQuery('donaudampfschifffahrt').prefix).toBe('donaudampfschif');
    expect(ofQuery('mug mug').stems).toEqual(['mug']);
  });

  it('of a text without end are bounded, and quickly made', async () => {
    const { ofProduct } = await loadWordAnalyzer('english');
    const long = Array.from({ length: 100_000 }, (_, index) => `word${index}`).join(' ');
    expect(ofProduct({ description: long }).words.size).toBe(1_000);
    const start = performance.now();
    ofProduct({ name: 'a'.repeat(200_000), description: '\u0301'.repeat(200_000) });
    expect(performance.now() - start).toBeLessThan(3_000);
  });
});

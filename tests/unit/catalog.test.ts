import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type FeedEntry, isFault } from '../../src/catalog/feed.ts';
import { openCatalog } from '../../src/catalog/read-catalog.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vitrine-catalog-'));
});
afterEach(() => rm(folder, { recursive: true }));

async function read(name: string, content: string | Uint8Array): Promise<readonly FeedEntry[]> {
  const path = join(folder, name);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, content);
  return all(path);
}

async function all(path: string): Promise<readonly FeedEntry[]> {
  return Array.fromAsync((await openCatalog(path)).entries());
}

const images = (entries: readonly FeedEntry[]) =>
  entries.flatMap((entry) => (isFault(entry) ? [] : [entry.image]));
const faults = (entries: readonly FeedEntry[]) =>
  entries.filter(isFault).map(({ where, fault }) => `${where}: ${fault}`);

describe('a CSV catalog', () => {
  test('reads every column into the product image, with paths from the file’s own folder', async () => {
    const entries = await read(
      'sub/catalog.csv',
      'product_id,image_id,name,description,category,brand,price,currency,tags,image_path,metadata\n' +
        'A-1,front,"Mug, red","says ""hi""\nin two lines",mug,Alder,16.50,eur,kitchen;red,pics/a.png,"{""season"":""summer""}"\n',
    );
    expect(images(entries)).toEqual([
      {
        productId: 'A-1',
        imageId: 'front',
        image: { kind: 'path', path: join(folder, 'sub/pics/a.png') },
        product: {
          name: 'Mug, red',
          description: 'says "hi"\nin two lines',
          category: 'mug',
          brand: 'Alder',
          price: 16.5,
          currency: 'EUR',
          tags: ['kitchen', 'red'],
          metadata: { season: 'summer' },
        },
      },
    ]);
  });

  test.each([
    ['commas', ','],
    ['semicolons', ';'],
    ['tabs', '\t'],
  ])('is read with a byte order mark, Windows line ends and %s', async (_name, separator) => {
    const lines = [
      ['SKU', 'Title', '"Image, Link; main"', 'image_link'],
      ['7', 'Chair', 'x', 'https://example.com/7.jpg'],
    ];
    const entries = await read(
      'shop.csv',
      `\uFEFF${lines.map((line) => line.join(separator)).join('\r\n')}\r\n`,
    );
    expect(images(entries)).toEqual([
      {
        productId: '7',
        imageId: 'main',
        image: { kind: 'url', url: 'https://example.com/7.jpg' },
        product: { name: 'Chair' },
      },
    ]);
  });

  test('takes the bytes of data: URLs', async () => {
    const url = 'data:image/png;base64,YWI=';
    const entries = await read('c.csv', `id,image_url\n1,"${url}"\n2,"data:image/svg+xml,<svg/>"\n`);
    expect(images(entries)[0]?.image).toEqual({ kind: 'inline', base64: 'YWI=' });
    expect(faults(entries)).toEqual(['line 3: a data: URL must be in base64.']);
    const either = await read('d.csv', `id,image\n1,"${url}"\n`);
    expect(images(either)[0]?.image).toEqual({ kind: 'inline', base64: 'YWI=' });
  });

  test('prefers a column of the very name to an alias', async () => {
    const entries = await read('c.csv', 'id,product_id,image_path\n1,P-1,a.jpg\n');
    expect(images(entries)[0]?.productId).toBe('P-1');
  });

  test('reports bad lines by number and takes the good ones around them', async () => {
    const entries = await read(
      'c.csv',
      'product_id,price,image_path\nA,1,a.jpg\n,1,b.jpg\nC,cheap,c.jpg\nD,1,\nE,1,e.jpg,more\nA,1,again.jpg\nG,2,g.jpg\n',
    );
    expect(images(entries).map((image) => image.productId)).toEqual(['A', 'G']);
    expect(faults(entries)).toEqual([
      'line 3: it has no product_id.',
      'line 4: price must be a number such as 19.90.',
      'line 5: it has neither image_path nor image_url.',
      'line 6: it has 4 values, the header has 3.',
      'line 7: product A has an image main already (line 2); each picture needs its own image_id.',
    ]);
  });

  test.each([
    ['19.9', 19.9, undefined],
    ['"19,90"', 19.9, undefined],
    ['"1.299,00"', 1299, undefined],
    ['"1,299.00"', 1299, undefined],
    ['"12,500"', 12_500, undefined],
    ['0.125', 0.125, undefined],
    ['19.905', 19.905, undefined],
    ['"0,125"', 0.125, undefined],
    ['"1,234.50"', 1234.5, undefined],
    ['"1.234,50"', 1234.5, undefined],
    ['"1,234,567"', 1_234_567, undefined],
    ['"1,23,456.50"', 123_456.5, undefined],
    ["1'299.00", 1299, undefined],
    ['1 299.00', 1299, undefined],
    ['EUR 7', 7, 'EUR'],
    ['7.25 usd', 7.25, 'USD'],
    ['', undefined, undefined],
  ])('reads the price %s', async (text, price, currency) => {
    const entries = await read('c.csv', `product_id,price,image_path\nA,${text},a.jpg\n`);
    expect(images(entries)[0]?.product).toEqual({
      ...(price === undefined ? {} : { price }),
      ...(currency === undefined ? {} : { currency }),
    });
  });

  test.each([
    ['the other prices show a point', ['"1,234"', '19.90', '5.50', '"7,50"'], {}, 1234],
    ['the other prices show a comma', ['"1,234"', '"19,90"', '"1.000,00"', '3.5'], {}, 1.234],
    ['the other prices show thousands', ['1.234', '1.234.567'], {}, 1234],
    ['nothing is said', ['1.234', '7'], {}, 1.234],
    ['a comma is asked for', ['1.234', '19.90'], { decimal: 'comma' }, 1234],
    ['a point is asked for', ['1.234', '"19,90"'], { decimal: 'point' }, 1.234],
  ] as const)(
    'reads a price with three digits after its only mark as one, when %s',
    async (_name, prices, options, price) => {
      const path = join(folder, 'c.csv');
      const rows = prices.map((text, index) => `P${index},${text},a.jpg`);
      await writeFile(path, ['product_id,price,image_path', ...rows].join('\n'));
      const [first] = images(await Array.fromAsync((await openCatalog(path, options)).entries()));
      expect(first?.product.price).toBe(price);
    },
  );

  test.each(['1,2,3', '12.34.56', '1.2,3,4', '1,234.567,8', '-5'])('refuses the price %s', async (text) => {
    const entries = await read('c.csv', `product_id,price,image_path\nA,"${text}",a.jpg\n`);
    expect(faults(entries)).toEqual(['line 2: price must be a number such as 19.90.']);
  });

  test('takes file URLs of this machine, and reports one of another host as a bad line', async () => {
    const entries = await read(
      'c.csv',
      'product_id,image_path\nA,file:///srv/a.jpg\nB,file://host/b.jpg\nC,c.jpg\n',
    );
    expect(images(entries).map(({ image }) => image)).toEqual([
      { kind: 'path', path: '/srv/a.jpg' },
      { kind: 'path', path: join(folder, 'c.jpg') },
    ]);
    expect(faults(entries)).toEqual(['line 3: image_path must be a path or a file:/// URL of this machine.']);
  });

  test('is refused with a sentence when its header has no column for the product or the image', async () => {
    await expect(read('c.csv', 'image_path,name\na.jpg,x\n')).rejects.toThrow(/no column product_id/);
    await expect(read('c.csv', 'product_id,image_id\na,main\n')).rejects.toThrow(
      /no column image_path or image_url/,
    );
  });

  test('is refused with a sentence when a quote is never closed', async () => {
    await expect(read('c.csv', 'product_id,image_path\n"A,a.jpg\nB,b.jpg\n')).rejects.toMatchObject({
      code: 'invalid_request',
    });
  });

  test('with only a header, or nothing, has no entries', async () => {
    expect(await read('c.csv', 'product_id,image_path\n')).toEqual([]);
    expect(await read('empty.csv', '')).toEqual([]);
  });
});

describe('a JSON lines catalog', () => {
  test('keeps types and reports bad lines by number', async () => {
    const entries = await read(
      'c.jsonl',
      '\uFEFF{"product_id":12,"image_path":"a.png","price":3.5,"tags":["x","y"],"metadata":{"a":{"b":1}}}\n\nnot json\n[1]\n{"product_id":{"x":1},"image_url":"https://example.com/b"}\n{"product_id":"u","image_url":"ftp://x/y"}\n{"product_id":"__proto__","image_url":"https://example.com/p"}',
    );
    expect(images(entries)).toEqual([
      {
        productId: '12',
        imageId: 'main',
        image: { kind: 'path', path: join(folder, 'a.png') },
        product: { price: 3.5, tags: ['x', 'y'], metadata: { a: { b: 1 } } },
      },
      {
        productId: '__proto__',
        imageId: 'main',
        image: { kind: 'url', url: 'https://example.com/p' },
        product: {},
      },
    ]);
    expect(faults(entries)).toEqual([
      'line 3: it is not JSON.',
      'line 4: it is not a JSON object.',
      'line 5: product_id must be text.',
      'line 6: image_url must begin with http://, https:// or data:.',
    ]);
  });
});

describe('a folder of images', () => {
  test('takes products from file names and categories from folders, in order, and nothing else', async () => {
    for (const name of ['top.jpg', 'mug/b.PNG', 'mug/a.webp', 'mug/notes.txt', '.hidden/c.jpg', 'lamp/a.jpg'])
      await read(name, 'x').catch(() => {});
    const entries = await all(folder);
    expect(images(entries).map(({ productId, product }) => [productId, product.category])).toEqual([
      ['a', 'lamp'],
      ['b', 'mug'],
      ['top', undefined],
    ]);
    expect(faults(entries)).toEqual([
      'mug/a.webp: product a has an image main already (lamp/a.jpg); each picture needs its own image_id.',
    ]);
  });

  test('may be one image', async () => {
    expect(images(await read('one.jpeg', 'x'))[0]).toMatchObject({
      productId: 'one',
      image: { kind: 'path', path: join(folder, 'one.jpeg') },
    });
  });
});

test('what is no catalog is refused with a sentence', async () => {
  await expect(openCatalog(join(folder, 'none.csv'))).rejects.toThrow(/There is nothing at/);
  await writeFile(join(folder, 'x.pdf'), '');
  await expect(openCatalog(join(folder, 'x.pdf'))).rejects.toThrow(/neither a catalog nor an image/);
});

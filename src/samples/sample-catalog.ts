import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import sharp from 'sharp';
import { drawBag } from './bag.ts';
import { drawBottle } from './bottle.ts';
import { drawChair } from './chair.ts';
import { createRandom, type Drawing, n, pick, type Style, shade } from './drawing.ts';
import { drawLamp } from './lamp.ts';
import { drawMug } from './mug.ts';
import { drawShoe } from './shoe.ts';
import { drawTShirt } from './t-shirt.ts';
import { drawWatch } from './watch.ts';

interface Category {
  readonly name: string;
  readonly title: string;
  readonly code: string;
  readonly draw: (style: Style) => Drawing;
  readonly price: number;
  readonly designs: readonly [string, string, string];
  readonly tags: readonly string[];
}

const CATEGORIES: readonly Category[] = [
  {
    name: 'mug',
    title: 'mug',
    code: 'MUG',
    draw: drawMug,
    price: 14,
    designs: ['straight', 'tapered', 'bellied'],
    tags: ['kitchen', 'ceramic'],
  },
  {
    name: 't-shirt',
    title: 'T-shirt',
    code: 'TSH',
    draw: drawTShirt,
    price: 25,
    designs: ['classic', 'V-neck', 'relaxed'],
    tags: ['clothing', 'cotton'],
  },
  {
    name: 'chair',
    title: 'chair',
    code: 'CHR',
    draw: drawChair,
    price: 119,
    designs: ['dining', 'kitchen', 'studio'],
    tags: ['furniture', 'home'],
  },
  {
    name: 'lamp',
    title: 'table lamp',
    code: 'LMP',
    draw: drawLamp,
    price: 64,
    designs: ['cone', 'drum', 'dome'],
    tags: ['lighting', 'home'],
  },
  {
    name: 'bag',
    title: 'handbag',
    code: 'BAG',
    draw: drawBag,
    price: 89,
    designs: ['city', 'weekend', 'box'],
    tags: ['accessories', 'leather'],
  },
  {
    name: 'shoe',
    title: 'trainer',
    code: 'SHO',
    draw: drawShoe,
    price: 79,
    designs: ['low', 'high', 'mid'],
    tags: ['clothing', 'sport'],
  },
  {
    name: 'bottle',
    title: 'drinking bottle',
    code: 'BTL',
    draw: drawBottle,
    price: 22,
    designs: ['slim', 'wide', 'waisted'],
    tags: ['kitchen', 'outdoor'],
  },
  {
    name: 'watch',
    title: 'wristwatch',
    code: 'WCH',
    draw: drawWatch,
    price: 149,
    designs: ['steel', 'square', 'black'],
    tags: ['accessories', 'gift'],
  },
];

const COLORS: readonly { readonly name: string; readonly main: string; readonly accent: string }[] = [
  { name: 'red', main: '#c8423b', accent: '#f4e3c8' },
  { name: 'blue', main: '#3565b5', accent: '#f2c14e' },
  { name: 'green', main: '#3f8f5f', accent: '#f3efe2' },
  { name: 'yellow', main: '#e3b436', accent: '#35506b' },
  { name: 'orange', main: '#dd7a35', accent: '#2f4858' },
  { name: 'purple', main: '#7a529f', accent: '#f0d6e8' },
  { name: 'pink', main: '#dd8ba4', accent: '#8f2d4f' },
  { name: 'teal', main: '#2d8d93', accent: '#f6d8ae' },
  { name: 'brown', main: '#8c5d3d', accent: '#e8d5b7' },
  { name: 'navy', main: '#2a3a5e', accent: '#d96c4f' },
  { name: 'grey', main: '#858b93', accent: '#e0523f' },
  { name: 'cream', main: '#e5d9bf', accent: '#7a8f6b' },
];

const BRANDS = ['Alder', 'Brisk', 'Corvo', 'Ember', 'Fjord'] as const;
/** Pixels per side of a picture. */
const PICTURE_SIZE = 480;
const COLUMNS = [
  'product_id',
  'image_id',
  'name',
  'description',
  'category',
  'brand',
  'price',
  'currency',
  'tags',
  'image_path',
] as const;

export interface Sample {
  readonly product_id: string;
  readonly image_id: string;
  readonly name: string;
  readonly description: string;
  readonly category: string;
  readonly brand: string;
  readonly price: number;
  readonly currency: string;
  readonly tags: readonly string[];
}

/** One product in every colour of each category, with its picture; half of them PNG and half JPEG. Always the same. */
export async function* drawSamples(): AsyncGenerator<{
  sample: Sample;
  picture: Buffer;
  type: 'png' | 'jpg';
}> {
  for (const [index, category] of CATEGORIES.entries()) {
    for (const [variant, { main, accent }] of COLORS.entries()) {
      const random = createRandom(index * COLORS.length + variant);
      const type = variant % 2 === 0 ? 'png' : 'jpg';
      const drawing = category.draw({ color: main, accent, variant, random });
      const raster = sharp(Buffer.from(toPicture(drawing, random)));
      const encoded = type === 'png' ? raster.png({ compressionLevel: 6 }) : raster.jpeg({ quality: 88 });
      yield { sample: toSample(category, variant, random), picture: await encoded.toBuffer(), type };
    }
  }
}

/**
 * Writes the samples into the folder: the pictures, and `catalog.csv` which describes them.
 * @returns the path of catalog.csv and how many products it has
 */
export async function createSampleCatalog(
  folder: string,
): Promise<{ readonly csv: string; readonly products: number }> {
  const lines: string[] = [];
  for await (const { sample, picture, type } of drawSamples()) {
    const path = `images/${sample.category}/${sample.product_id.toLowerCase()}.${type}`;
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), picture);
    const fields = {
      ...sample,
      description: `"${sample.description}"`,
      tags: sample.tags.join(';'),
      image_path: path,
    };
    lines.push(
      COLUMNS.map((column) => (column === 'price' ? fields.price.toFixed(2) : fields[column])).join(','),
    );
  }
  const csv = join(folder, 'catalog.csv');
  await writeFile(csv, `${COLUMNS.join(',')}\n${lines.join('\n')}\n`);
  return { csv, products: lines.length };
}

function toSample(category: Category, variant: number, random: () => number): Sample {
  const color = COLORS[variant]?.name ?? '';
  const price = Number((category.price * (0.8 + random() * 0.5)).toFixed(2));
  const brand = pick(BRANDS, Math.floor(random() * BRANDS.length));
  const design = pick(category.designs, variant);
  return {
    product_id: `${category.code}-${String(variant + 1).padStart(3, '0')}`,
    image_id: 'main',
    name: `${color.charAt(0).toUpperCase()}${color.slice(1)} ${category.title}`,
    description: `A ${design} ${category.title} in ${color}, drawn for the sample catalog`,
    category: category.name,
    brand,
    price,
    currency: 'EUR',
    tags: [...category.tags, color],
  };
}

/** The drawing as a photograph would have it: on a lit background, a little off the middle, with a shadow. */
function toPicture({ svg, shadow }: Drawing, random: () => number): string {
  const tint = pick(['#eef0f2', '#f3efe8', '#e9eef0', '#f4f2f4'], Math.floor(random() * 4));
  const scale = 0.86 + random() * 0.12;
  const x = 300 * (1 - scale) + (random() - 0.5) * 36;
  const y = 300 * (1 - scale) + (random() - 0.5) * 26;
  const tilt = (random() - 0.5) * 5;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${PICTURE_SIZE}" height="${PICTURE_SIZE}" viewBox="0 0 600 600">
    <defs><radialGradient id="studio" cx="${n(0.35 + random() * 0.2)}" cy=".3" r=".95"><stop offset="0" stop-color="${shade(tint, 0.6)}"/><stop offset="1" stop-color="${shade(tint, -0.1)}"/></radialGradient>
      <radialGradient id="ground"><stop offset="0" stop-color="#1c1e22" stop-opacity=".42"/><stop offset=".6" stop-color="#1c1e22" stop-opacity=".16"/><stop offset="1" stop-color="#1c1e22" stop-opacity="0"/></radialGradient></defs>
    <rect width="600" height="600" fill="url(#studio)"/>
    <g transform="translate(${n(x)} ${n(y)}) scale(${scale.toFixed(3)}) rotate(${tilt.toFixed(2)} 300 300)">
      <ellipse cx="${n(shadow.x)}" cy="${n(shadow.y)}" rx="${n(shadow.rx)}" ry="${n(Math.max(12, shadow.rx * 0.12))}" fill="url(#ground)"/>
      ${svg}
    </g></svg>`;
}

import sharp from 'sharp';
import type { NewJob } from '../../src/queue/port.ts';
import { newJob } from './jobs.ts';

/** A plain square with a dot, PNG: enough of an image to be embedded, different for each seed. */
export async function drawImage(seed: number, side = 64): Promise<Buffer> {
  const hue = (seed * 47) % 360;
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${side}" height="${side}">
    <rect width="100%" height="100%" fill="hsl(${hue},60%,80%)"/>
    <circle cx="${10 + ((seed * 13) % 40)}" cy="${10 + ((seed * 29) % 40)}" r="${6 + (seed % 9)}" fill="hsl(${hue},70%,30%)"/>
  </svg>`;
  return sharp(Buffer.from(svg)).png().toBuffer();
}

/** A job for the main image of a product, its bytes inline. */
export function newInlineJob(productId: string, bytes: Uint8Array): NewJob {
  const job = newJob(productId);
  const image = { kind: 'inline' as const, base64: Buffer.from(bytes).toString('base64') };
  return { ...job, data: { ...job.data, image } };
}

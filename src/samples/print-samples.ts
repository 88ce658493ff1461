import { once } from 'node:events';
import { drawSamples } from './sample-catalog.ts';

// A process of its own: it decodes SVG, which a process that decodes the images of others must not be able to.
for await (const { sample, picture } of drawSamples()) {
  const line = `${JSON.stringify({ ...sample, image_base64: picture.toString('base64') })}\n`;
  if (!process.stdout.write(line)) await once(process.stdout, 'drain');
}

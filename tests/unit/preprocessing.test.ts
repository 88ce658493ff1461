import { describe, expect, it } from 'vitest';
import { parsePreprocessing } from '../../models/files/model-folder.ts';

/** As published with openai/clip-vit-base-patch32, in its older and its newer form. */
const clip = {
  do_center_crop: true,
  do_normalize: true,
  do_resize: true,
  image_mean: [0.48145466, 0.4578275, 0.40821073],
  image_std: [0.26862954, 0.26130258, 0.27577711],
  resample: 3,
  crop_size: 224,
  size: 224,
};
const siglip = {
  do_normalize: true,
  do_rescale: true,
  do_resize: true,
  image_mean: [0.5, 0.5, 0.5],
  image_std: [0.5, 0.5, 0.5],
  resample: 3,
  rescale_factor: 0.00392156862745098,
  size: { height: 224, width: 224 },
};
const parse = (config: object) => parsePreprocessing(config, 'a-model');

describe('parsePreprocessing', () => {
  it('reads a centre crop, with sizes as numbers or as objects', () => {
    const expected = { size: 224, fit: 'crop', cropFrom: 224, kernel: 'cubic', mean: clip.image_mean };
    expect(parse(clip)).toMatchObject(expected);
    const newer = { ...clip, crop_size: { height: 224, width: 224 }, size: { shortest_edge: 224 } };
    expect(parse(newer)).toMatchObject(expected);
    expect(parse({ ...newer, size: { shortest_edge: 256 } })).toMatchObject({ size: 224, cropFrom: 256 });
  });

  it('reads a size without a crop as stretching', () => {
    expect(parse(siglip)).toMatchObject({ size: 224, fit: 'stretch', std: [0.5, 0.5, 0.5] });
  });

  it('lets vitrine_fit override both', () => {
    expect(parse({ ...clip, vitrine_fit: 'pad' })).toMatchObject({ size: 224, fit: 'pad' });
    expect(parse({ ...siglip, vitrine_fit: 'crop' })).toMatchObject({ fit: 'crop', cropFrom: 224 });
  });

  it.each([
    [1, 'lanczos3'],
    [2, 'linear'],
    [3, 'cubic'],
    [undefined, 'linear'],
  ])('reads the resampling filter %s', (resample, kernel) => {
    expect(parse({ ...clip, resample })).toMatchObject({ kernel });
  });

  it('leaves values from 0 to 1 as they are without normalisation', () => {
    expect(parse({ ...clip, do_normalize: false })).toMatchObject({ mean: [0, 0, 0], std: [1, 1, 1] });
  });

  it.each([
    ['no size', { size: undefined }, 'size'],
    ['a size that is no square', { size: { height: 224, width: 112 } }, 'size'],
    ['another scale', { rescale_factor: 1 }, 'rescale_factor'],
    ['no scale', { do_rescale: false }, 'rescale_factor'],
    ['an unknown filter', { resample: 0 }, 'resample'],
    ['two channels', { image_mean: [0.5, 0.5] }, 'image_mean'],
  ])('refuses %s', (_, change, words) => {
    expect(() => parse({ ...siglip, ...change })).toThrow(
      expect.objectContaining({ code: 'model_unavailable', message: expect.stringContaining(words) }),
    );
  });
});

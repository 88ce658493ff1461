import sharp from 'sharp';

type Change = (bytes: Uint8Array) => Promise<Uint8Array>;

/** Nine tenths of each side, taken at a share of what can be cut away. */
const crop =
  (share: number): Change =>
  async (bytes) => {
    const { width, height } = (await sharp(bytes).metadata()).autoOrient;
    const [w, h] = [Math.round(width * 0.9), Math.round(height * 0.9)];
    const region = {
      left: Math.round((width - w) * share),
      top: Math.round((height - h) * share),
      width: w,
      height: h,
    };
    return sharp(bytes).autoOrient().extract(region).jpeg({ quality: 90 }).toBuffer();
  };

const halve: Change = async (bytes) => {
  const { width } = (await sharp(bytes).metadata()).autoOrient;
  return sharp(bytes)
    .autoOrient()
    .resize({ width: Math.round(width / 2) })
    .jpeg({ quality: 90 })
    .toBuffer();
};

const recolour =
  (change: { readonly brightness?: number; readonly saturation?: number; readonly hue?: number }): Change =>
  (bytes) =>
    sharp(bytes).autoOrient().modulate(change).jpeg({ quality: 90 }).toBuffer();

/** What shops do to a picture: each is still the same picture to a person. */
export const CHANGES: Readonly<Record<string, Change>> = {
  're-encoded at quality 40': (bytes) => sharp(bytes).autoOrient().jpeg({ quality: 40 }).toBuffer(),
  'half as large': halve,
  'cropped by 10%, centre': crop(0.5),
  'cropped by 10%, corner': crop(0),
  'brighter by 10%': recolour({ brightness: 1.1 }),
  'saturated by 10%': recolour({ saturation: 1.1 }),
  'hue turned by 10°': recolour({ hue: 10 }),
};

import { pino } from 'pino';
import { createDecoder, type Decoder, type DecoderSettings } from '../../models/decoding/decoder.ts';
import type { Preprocessing } from '../../models/embedder.ts';
import { parseConfig } from '../../src/config/config.ts';

export const PREPROCESSING: Preprocessing = {
  size: 64,
  fit: 'pad',
  cropFrom: 64,
  kernel: 'cubic',
  mean: [0, 0, 0],
  std: [1, 1, 1],
};

/** A decoder with the default settings. */
export function createTestDecoder(settings: Partial<DecoderSettings> = {}): Decoder {
  return createDecoder({ ...parseConfig({}).images, logger: pino({ level: 'silent' }), ...settings });
}

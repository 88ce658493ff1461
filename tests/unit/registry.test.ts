import { describe, expect, it } from 'vitest';
import { toModelFolder, toOnnxPath } from '../../models/files/model-folder.ts';
import { MODELS, TEXT_MODEL_IDS } from '../../models/registry.ts';

describe('the registry', () => {
  it('has the models that docs/models.md names', () => {
    expect(MODELS.map((model) => model.id)).toEqual([
      'clip-vit-base-patch32',
      'clip-vit-base-patch16',
      'siglip-base-patch16-224',
      'siglip2-base-patch16-224',
      'marqo-fashion-siglip',
      'dinov2-small',
      'mobileclip-s0',
    ]);
    expect(TEXT_MODEL_IDS).not.toContain('dinov2-small');
    expect(TEXT_MODEL_IDS).toContain('clip-vit-base-patch32');
  });

  it.each(MODELS.map((model) => [model.id, model] as const))(
    '%s lists everything that loading needs',
    (id, model) => {
      const paths = model.files.map((file) => file.path);
      expect(new Set(paths).size).toBe(paths.length);
      expect(paths).toContain('config.json');
      expect(paths).toContain(toOnnxPath(model.vision, model.dtype));
      if (model.text !== null) {
        expect(paths).toContain(toOnnxPath(model.text, model.dtype));
        expect(paths).toContain('tokenizer.json');
      }
      for (const { sha256 } of model.files) if (sha256 !== undefined) expect(sha256).toMatch(/^[\da-f]{64}$/);
      expect(toModelFolder(id, '/models')).toBe(`/models/${id}`);
      expect(model.sources.length).toBeGreaterThan(0);
      expect(model.preprocessing.cropFrom).toBeGreaterThanOrEqual(model.preprocessing.size);
    },
  );
});

import { expect, test } from 'vitest';
import { type Device, type DeviceSetting, openOnDevice } from '../../models/embedding/device.ts';
import { VitrineError } from '../../src/errors/vitrine-error.ts';

/** Opens on the devices that work, and fails as ONNX Runtime does on the others. */
const openOn =
  (...working: readonly Device[]) =>
  async (device: Device) => {
    if (working.includes(device)) return device;
    const cause = new Error('libcuda.so.1: cannot open shared object file\nat a line of C++');
    throw new VitrineError('model_unavailable', 'The model could not be loaded.', { cause });
  };

test.each<[DeviceSetting, readonly Device[], boolean, Device, string]>([
  ['cpu', ['cpu', 'cuda'], true, 'cpu', 'EMBEDDING_DEVICE=cpu'],
  ['auto', ['cpu', 'cuda'], false, 'cpu', 'CUDA is not installed'],
  ['auto', ['cpu', 'cuda'], true, 'cuda', 'CUDA is installed'],
  ['auto', ['cpu'], true, 'cpu', 'CUDA is installed but fails: libcuda.so.1: cannot open shared object file'],
  ['webgpu', ['cpu', 'webgpu'], false, 'webgpu', 'EMBEDDING_DEVICE=webgpu'],
])(
  '%s, where %j work and CUDA is installed: %s, chooses %s',
  async (setting, working, isInstalled, ...expected) => {
    const chosen = await openOnDevice(setting, openOn(...working), () => isInstalled);
    expect([chosen.opened, chosen.device]).toEqual([expected[0], expected[0]]);
    expect(chosen.why).toMatch(new RegExp(`${RegExp.escape(expected[1])}$`));
  },
);

test('a device that is named and fails is an error that says why, and falls back to nothing', async () => {
  await expect(openOnDevice('cuda', openOn('cpu'))).rejects.toMatchObject({
    code: 'device_unavailable',
    message: "cuda can't be used: libcuda.so.1: cannot open shared object file",
    suggestion: expect.stringContaining('docs/models.md'),
  });
});

test('a model that fails on the processor is not blamed on the device', async () => {
  await expect(openOnDevice('auto', openOn(), () => true)).rejects.toMatchObject({
    code: 'model_unavailable',
  });
});

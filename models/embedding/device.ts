import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { Config } from '../../src/config/config.ts';
import { VitrineError } from '../../src/errors/vitrine-error.ts';

export type DeviceSetting = Config['model']['device'];
/** What ONNX Runtime may compute on, as it names it. */
export type Device = Exclude<DeviceSetting, 'auto'>;

export interface Chosen<T> {
  readonly opened: T;
  readonly device: Device;
  /** For people. */
  readonly why: string;
}

/**
 * Opens something on the device that EMBEDDING_DEVICE names. `auto` takes CUDA where its libraries are, and falls back
 * to the processor; other devices compute less exactly or slower, so that somebody has to ask for them.
 * @throws VitrineError `device_unavailable` when the named device can't be used; what `open` throws on the processor
 */
export async function openOnDevice<T>(
  setting: DeviceSetting,
  open: (device: Device) => Promise<T>,
  isCudaInstalled: () => boolean = hasCudaLibraries,
): Promise<Chosen<T>> {
  const choose = async (device: Device, why: string): Promise<Chosen<T>> => ({
    opened: await open(device),
    device,
    why,
  });
  if (setting === 'cpu') return choose('cpu', 'EMBEDDING_DEVICE=cpu');
  if (setting === 'auto') {
    if (!isCudaInstalled()) return choose('cpu', 'EMBEDDING_DEVICE=auto, and CUDA is not installed');
    try {
      return await choose('cuda', 'EMBEDDING_DEVICE=auto, and CUDA is installed');
    } catch (error) {
      return choose('cpu', `EMBEDDING_DEVICE=auto, and CUDA is installed but fails: ${toReason(error)}`);
    }
  }
  try {
    return await choose(setting, `EMBEDDING_DEVICE=${setting}`);
  } catch (cause) {
    throw new VitrineError('device_unavailable', `${setting} can't be used: ${toReason(cause)}`, { cause });
  }
}

/** What ONNX Runtime says, which the failure of the model wraps. */
function toReason(error: unknown): string {
  const cause = error instanceof VitrineError ? error.cause : error;
  const [first = ''] = (cause instanceof Error ? cause.message : String(cause)).split('\n');
  return first.slice(0, 200);
}

/** Only the install script of onnxruntime-node brings them, and Vitrine doesn't run it. */
function hasCudaLibraries(): boolean {
  // It is a dependency of transformers.js, and not of Vitrine.
  const transformers = createRequire(import.meta.url).resolve('@xenova/transformers');
  const bin = join(dirname(createRequire(transformers).resolve('onnxruntime-node')), '..', 'bin');
  return readdirSync(bin).some((version) =>
    existsSync(join(bin, version, process.platform, process.arch, 'libonnxruntime_providers_cuda.so')),
  );
}

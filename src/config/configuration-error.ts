import { VitrineError } from '../errors/vitrine-error.ts';

export interface SettingFault {
  /** The setting's name. */
  readonly path: string;
  readonly message: string;
}

export function toConfigurationError(faults: readonly SettingFault[]): VitrineError {
  const detail = faults.map(({ path, message }) => `${path} ${message}`).join('; ');
  return new VitrineError('invalid_configuration', `${detail}.`, { faults });
}

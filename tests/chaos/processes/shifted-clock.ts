// Loaded before a worker (`node --import`): its wall clock is off by `?shift_ms=`, and stays so.
const shiftMs = Number(new URL(import.meta.url).searchParams.get('shift_ms'));
const RealDate = Date;

globalThis.Date = class ShiftedDate extends RealDate {
  constructor(...args: [] | [number | string | Date]) {
    super(args.length === 0 ? RealDate.now() + shiftMs : args[0]);
  }
  static override now(): number {
    return RealDate.now() + shiftMs;
  }
} as DateConstructor;

/** What a program of this folder prints, as JSON. */
export interface Measured {
  readonly images: number;
  readonly seconds: number;
  /** Of all processors, for each image; what redis-server and the store's double use is not in it. */
  readonly cpuMs: number;
}

export const perSecond = ({ images, seconds }: Measured): number => images / seconds;

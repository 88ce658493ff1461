/** The queue's keys. All share one hash tag, so that scripts may touch them together in a Redis Cluster. */
export interface QueueKeys {
  /** In the order in which lua/base.lua names them. */
  readonly fixed: readonly string[];
  readonly jobs: string;
  readonly leases: string;
  readonly slots: string;
  readonly products: string;
  /** The ZSETs that hold job ids until the jobs have ended; dead letters too. */
  readonly places: readonly string[];
  readonly workers: string;
  worker(id: string): string;
  remembered(key: string): string;
}

export function createQueueKeys(prefix: string): QueueKeys {
  const key = (name: string) => `{${prefix}}:${name}`;
  const places = [
    'waiting:high',
    'waiting:normal',
    'waiting:low',
    'suspects',
    'parked',
    'delayed',
    'dead',
  ].map(key);
  const [jobs, leases, slots, products] = [key('jobs'), key('leases'), key('slots'), key('products')];
  const others = [key('meta'), key('rates'), key('dead-codes')];
  return {
    fixed: [
      jobs,
      leases,
      key('claims'),
      key('claims-due'),
      key('data'),
      slots,
      products,
      ...others,
      ...places,
      key('ended'),
      key('absorbed'),
    ],
    jobs,
    leases,
    slots,
    products,
    places,
    workers: key('workers'),
    worker: (id) => key(`worker:${id}`),
    remembered: (name) => key(`remembered:${name}`),
  };
}

/** The queue's keys. All share one hash tag, so that scripts may touch them together in a Redis Cluster. */
export interface QueueKeys {
  /** In the order in which lua/prelude.lua names them. */
  readonly fixed: readonly string[];
  readonly jobs: string;
  readonly slots: string;
  readonly products: string;
  /** The ZSETs that hold job ids. */
  readonly places: readonly string[];
  readonly workers: string;
  worker(id: string): string;
  claim(claimId: string): string;
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
    'leased',
    'ended',
    'dead',
    'absorbed',
  ].map(key);
  const [jobs, slots, products] = [key('jobs'), key('slots'), key('products')];
  return {
    fixed: [jobs, key('data'), slots, products, key('meta'), key('rates'), key('dead-codes'), ...places],
    jobs,
    slots,
    products,
    places,
    workers: key('workers'),
    worker: (id) => key(`worker:${id}`),
    claim: (claimId) => key(`claim:${claimId}`),
    remembered: (name) => key(`remembered:${name}`),
  };
}

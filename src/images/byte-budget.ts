/** Bounds what all running fetches hold in memory together. */
export interface ByteBudget {
  /** Counts the bytes of one fetch until it is disposed. */
  open(onOverrun: () => void): Disposable & { add(bytes: number): void };
}

interface Account {
  bytes: number;
  onOverrun(): void;
}

/** When there are more bytes than allowed, the fetch that began first is ended: the slow make room for the quick. */
export function createByteBudget(maxBytes: number): ByteBudget {
  /** In the order in which they began. */
  const accounts = new Set<Account>();
  let total = 0;

  function close(account: Account): void {
    if (accounts.delete(account)) total -= account.bytes;
  }

  return {
    open(onOverrun) {
      const account: Account = { bytes: 0, onOverrun };
      accounts.add(account);
      return {
        add(bytes) {
          if (!accounts.has(account)) return;
          account.bytes += bytes;
          total += bytes;
          for (const oldest of accounts) {
            if (total <= maxBytes) return;
            close(oldest);
            oldest.onOverrun();
          }
        },
        [Symbol.dispose]: () => close(account),
      };
    },
  };
}

/** How many pictures that were searched with are kept in this browser. */
const KEPT = 30;
const STORE = 'pictures';

/** Keeps the picture in this browser, so that Back and a reload find it again. Returns its id. */
export async function keepPicture(picture: Blob): Promise<string> {
  const random = crypto.getRandomValues(new Uint32Array(2));
  // Ids begin with the time: the oldest goes first.
  const id = `${Date.now().toString(36)}-${[...random].map((part) => part.toString(36)).join('')}`;
  const store = await open('readwrite');
  store.put(picture, id);
  const ids = (await done(store.getAllKeys())) as string[];
  for (const old of ids.toSorted().slice(0, -KEPT)) store.delete(old);
  return id;
}

/** Undefined for a picture of another browser, or one that is no longer kept. */
export async function readPicture(id: string): Promise<Blob | undefined> {
  return (await done((await open('readonly')).get(id))) as Blob | undefined;
}

async function open(mode: IDBTransactionMode): Promise<IDBObjectStore> {
  const request = indexedDB.open('vitrine', 1);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE);
  const database = await done(request);
  return database.transaction(STORE, mode).objectStore(STORE);
}

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** The first picture of what was dropped or pasted. */
export function findPicture(data: DataTransfer | null): File | undefined {
  return [...(data?.files ?? [])].find((file) => file.type.startsWith('image/'));
}

/** @throws Error when the answer is no 200 */
export async function postSearch(url: string, body: object): Promise<void> {
  const response = await fetch(`${url}/search`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`A search was answered with ${response.status}: ${text}`);
  JSON.parse(text);
}

export async function timeMs(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}

export const toFixed = (value: number): number => Number(value.toFixed(2));

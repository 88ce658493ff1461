/**
 * Frees the memory of bytes that nobody reads any more, at once. Left to V8, they count as part of its small heap: it then
 * collects the garbage of all of it several times per second. Bytes that share their memory with others are left alone;
 * freed ones have the length 0.
 */
export function freeBytes({ buffer, byteLength }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && byteLength > 0 && byteLength === buffer.byteLength) buffer.transfer(0);
}

import { describe, expect, it } from 'vitest';
import { parseRedisUrl } from '../../src/config/redis-target.ts';
import { VitrineError } from '../../src/errors/vitrine-error.ts';

describe('the address of Redis', () => {
  it.each([
    ['redis://localhost', { host: 'localhost', port: 6379, db: 0 }],
    ['redis://127.0.0.1:7000/2', { host: '127.0.0.1', port: 7000, db: 2 }],
    ['redis://[::1]:7000/', { host: '::1', port: 7000, db: 0 }],
    ['redis://:pass@host', { host: 'host', password: 'pass' }],
    ['redis://user@host', { host: 'host', username: 'user' }],
    ['redis://us%3Aer:p%40ss@host', { username: 'us:er', password: 'p@ss' }],
    ['rediss://host', { host: 'host', tls: {} }],
  ])('%s names one server', (url, options) => {
    expect(parseRedisUrl(url)).toMatchObject({ kind: 'single', options });
  });

  it('names a master and its Sentinels', () => {
    expect(parseRedisUrl('rediss+sentinel://user:pass@a,b:7000/main/1')).toMatchObject({
      kind: 'sentinel',
      options: {
        name: 'main',
        db: 1,
        sentinels: [
          { host: 'a', port: 26379 },
          { host: 'b', port: 7000 },
        ],
        username: 'user',
        sentinelPassword: 'pass',
        enableTLSForSentinelMode: true,
      },
    });
  });

  it('names the nodes of a Cluster', () => {
    expect(parseRedisUrl('redis+cluster://:pass@a:7000,b')).toEqual({
      kind: 'cluster',
      nodes: [
        { host: 'a', port: 7000 },
        { host: 'b', port: 6379 },
      ],
      options: { password: 'pass' },
    });
  });

  it.each([
    'http://host',
    'redis://',
    'redis://host:99999',
    'redis://host:port',
    'redis://host/first',
    'redis://host/1/2',
    'redis://a,b',
    'redis://user:s3cr%ET@host',
    'redis+sentinel://a:1,b:2',
    'redis+cluster://a/1',
    'redis+cluster://a,',
    'redis+other://a',
  ])('refuses %s without repeating it', (url) => {
    const error = (() => {
      try {
        return parseRedisUrl(url);
      } catch (thrown) {
        return thrown;
      }
    })() as VitrineError;
    expect(error).toBeInstanceOf(VitrineError);
    expect(error.code).toBe('invalid_configuration');
    expect(error.message).not.toContain('s3cr');
  });
});

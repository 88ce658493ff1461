import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseEnv } from 'node:util';
import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { parseConfig, SETTING_NAMES } from '../../src/config/config.ts';

interface Service {
  readonly image: string;
  readonly build?: string;
  readonly cap_add?: readonly string[];
  readonly cap_drop: readonly string[];
  readonly command?: readonly string[];
  readonly deploy?: object;
  readonly environment: Record<string, string>;
  readonly healthcheck?: object;
  readonly mem_limit: string;
  readonly networks: readonly string[];
  readonly pids_limit: number;
  readonly ports?: readonly string[];
  readonly read_only: boolean;
  readonly restart: string;
  readonly security_opt: readonly string[];
  readonly stop_grace_period: string;
  readonly tmpfs: readonly string[];
  readonly volumes?: readonly string[];
}

const root = join(import.meta.dirname, '..', '..');
const read = (file: string): string => readFileSync(join(root, file), 'utf8');

const composeText = read('docker-compose.yml');
const compose = parse(composeText, { merge: true }) as { readonly services: Record<string, Service> };
const { redis, qdrant, api, worker } = compose.services;
const dockerfile = read('Dockerfile');

/** `${NAME}` with what stands behind the name, such as `:-default` and `:?message`. */
const variables = Array.from(composeText.matchAll(/\$\{(\w+)(?::([-?])([^}]*))?\}/g), (match) => ({
  name: match[1] ?? '',
  operator: match[2],
  operand: match[3] ?? '',
}));

/** All of .env.example as if every line were uncommented. */
const example = parseEnv(read('.env.example').replaceAll(/^#(?=[A-Z_]+=)/gm, ''));

describe('docker-compose.yml', () => {
  it('is what the Compose Specification allows', () => {
    const ajv = new Ajv2020({ strict: false });
    addFormats.default(ajv);
    for (const format of ['duration', 'expose', 'ports', 'subnet_ip_address']) ajv.addFormat(format, true);
    const validate = ajv.compile(JSON.parse(read('tests/fixtures/compose-spec/compose-spec.json')));
    validate(compose);
    expect(validate.errors).toBeNull();
    expect(validate({ services: { redis: { ...redis, memory: '1gb' } } })).toBe(false);
  });

  it('uses only variables that are in .env.example, with the same defaults', () => {
    expect(variables.length).toBeGreaterThan(0);
    for (const { name, operator, operand } of variables) {
      expect(example, name).toHaveProperty(name);
      // IMAGES_DIR has a volume's name for default, which is nothing a user would set.
      if (operator === '-' && name !== 'IMAGES_DIR') expect(example[name], name).toBe(operand);
    }
  });

  it('refuses to start without the secrets, and holds none', () => {
    for (const name of ['REDIS_PASSWORD', 'QDRANT_API_KEY', 'API_KEYS']) {
      const uses = variables.filter((variable) => variable.name === name);
      expect(uses.length, name).toBeGreaterThan(0);
      expect(
        uses.every(({ operator }) => operator === '?'),
        name,
      ).toBe(true);
      expect(example[name], name).toBe('');
    }
  });

  it('runs a Redis that keeps every job', () => {
    expect(redis?.image).toMatch(/^redis:[7-9]\.\d+\.\d+-alpine$/);
    const command = redis?.command ?? [];
    const optionOf = (name: string): string | undefined => command[command.indexOf(name) + 1];
    expect(optionOf('--maxmemory-policy')).toBe('noeviction');
    expect(optionOf('--appendonly')).toBe('yes');
    expect(optionOf('--requirepass')).toMatch(/^\$\{REDIS_PASSWORD:\?/);
    expect(redis?.volumes).toContain('redis-data:/data');
  });

  it('pins Qdrant, and keeps its data in a volume', () => {
    expect(qdrant?.image).toMatch(/^qdrant\/qdrant:v1\.19\.\d+$/);
    expect(qdrant?.volumes).toContain('qdrant-data:/qdrant/storage');
  });

  it('lets the API and the workers share the thumbnails', () => {
    for (const service of [api, worker]) {
      expect(service?.volumes).toContain('thumbnails:/thumbnails');
      expect(service?.environment).toMatchObject({ THUMBNAIL_CACHE_DIR: '/thumbnails' });
    }
    expect(dockerfile).toMatch(/install -d -o node -g node .*\/thumbnails/);
  });

  it('publishes the API alone, on the loopback address by default', () => {
    expect(api?.ports).toHaveLength(1);
    expect(api?.ports?.[0]).toMatch(/^\$\{API_BIND:-127\.0\.0\.1\}:\$\{PORT:-8000\}:8000$/);
    for (const service of [redis, qdrant, worker]) expect(service).not.toHaveProperty('ports');
  });

  it('runs as many workers as WORKER_REPLICAS says, and lets --scale change it', () => {
    expect(worker?.deploy).toEqual({ replicas: expect.stringContaining('WORKER_REPLICAS:-2') });
    expect(worker).not.toHaveProperty('container_name');
    expect(worker?.command).toEqual(['node', 'workers/main.ts']);
    expect(worker?.image).toBe(api?.image);
  });

  it('restarts what ends, has health checks, and stays in its own network', () => {
    for (const [name, service] of Object.entries(compose.services)) {
      expect(service.restart, name).toBe('unless-stopped');
      expect(service.networks, name).toEqual(['vitrine']);
    }
    expect(redis?.healthcheck).toHaveProperty('test');
    expect(qdrant?.healthcheck).toHaveProperty('test');
    expect(worker?.healthcheck).toEqual({ disable: true });
  });

  it('keeps every container from writing, from capabilities, and from more memory and processes than it may', () => {
    for (const [name, service] of Object.entries(compose.services)) {
      expect(service, name).toMatchObject({
        read_only: true,
        tmpfs: ['/tmp'],
        cap_drop: ['ALL'],
        security_opt: ['no-new-privileges:true'],
        pids_limit: expect.any(Number),
        mem_limit: expect.stringMatching(/^\$\{[A-Z]+_MEMORY_LIMIT:-\dg\}$/),
      });
      expect(service, name).not.toHaveProperty('privileged');
    }
    // What the entrypoint of Redis needs to become the user redis; nobody else adds any.
    expect(redis?.cap_add).toEqual(['CHOWN', 'DAC_OVERRIDE', 'SETGID', 'SETUID']);
    for (const service of [qdrant, api, worker]) expect(service).not.toHaveProperty('cap_add');
  });

  it('gives Redis room for a second copy of its memory while it rewrites its log', () => {
    const gigabytes = (size: string | undefined) => Number(/^(\d+)gb?$/.exec(size ?? '')?.[1]);
    expect(gigabytes(example['REDIS_MEMORY_LIMIT'])).toBe(2 * gigabytes(example['REDIS_MAXMEMORY']));
  });

  it('lets a stopping worker take longer than its grace period', () => {
    const seconds = Number(example['STOP_GRACE_PERIOD']?.replace(/s$/, ''));
    expect(seconds * 1000).toBeGreaterThan(parseConfig({}).worker.shutdownGraceMs);
    expect(worker?.stop_grace_period).toContain('STOP_GRACE_PERIOD');
  });

  it('starts the API and the workers with settings that are valid', () => {
    const environment = Object.fromEntries(
      Object.entries(api?.environment ?? {}).map(([name, value]) => [
        name,
        value.replaceAll(/\$\{(\w+)[^}]*\}/g, (_, variable: string) =>
          variable === 'API_KEYS' ? `admin:admin:${'x'.repeat(43)}` : 'secret',
        ),
      ]),
    );
    const config = parseConfig(environment);
    expect(Object.keys(environment).filter((name) => !SETTING_NAMES.includes(name))).toEqual([]);
    expect(config.queue.redis).toEqual({
      kind: 'single',
      options: { host: 'redis', port: 6379, db: 0, password: 'secret' },
    });
    expect(config.store.qdrantUrl).toBe('http://qdrant:6333');
    expect(config.images.roots).toEqual(['/images']);
  });
});

describe('Dockerfile', () => {
  it('runs the Node of package-lock.json as a user without rights', () => {
    const images = Array.from(dockerfile.matchAll(/^FROM (\S+)/gm), (match) => match[1]);
    const { packages } = JSON.parse(read('package-lock.json'));
    expect(new Set(images)).toEqual(new Set([`node:${packages['node_modules/node'].version}-slim`]));
    expect(dockerfile).toMatch(/^USER node$/m);
    expect(dockerfile.indexOf('USER node')).toBeLessThan(
      dockerfile.indexOf('CMD ["node", "--disable-warning=ExperimentalWarning", "src/main.ts"]'),
    );
  });

  it('copies only what .dockerignore lets in', () => {
    const allowed = read('.dockerignore')
      .split('\n')
      .flatMap((line) => (line.startsWith('!') ? [line.slice(1)] : []));
    const copied = Array.from(dockerfile.matchAll(/^COPY (?!--from)(.+)$/gm), (match) =>
      (match[1] ?? '').split(' ').slice(0, -1),
    ).flat();
    expect([...new Set(copied)].toSorted()).toEqual(allowed.toSorted());
  });
});

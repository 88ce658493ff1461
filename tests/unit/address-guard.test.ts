import { describe, expect, it } from 'vitest';
import { createAddressGuard, isPublicAddress } from '../../src/images/address-guard.ts';

describe('isPublicAddress', () => {
  it.each(['93.184.215.14', '1.1.1.1', '2606:4700:4700::1111', '::ffff:1.1.1.1', '64:ff9b::101:101'])(
    'takes %s',
    (address) => {
      expect(isPublicAddress(address)).toBe(true);
    },
  );

  it.each([
    ['loopback', '127.0.0.1'],
    ['loopback', '127.255.255.254'],
    ['loopback', '::1'],
    ['this host', '0.0.0.0'],
    ['this host', '::'],
    ['private', '10.1.2.3'],
    ['private', '172.31.255.255'],
    ['private', '192.168.1.1'],
    ['unique local', 'fd12:3456::1'],
    ['unique local (AWS metadata)', 'fd00:ec2::254'],
    ['link-local (metadata)', '169.254.169.254'],
    ['link-local', 'fe80::1'],
    ['link-local with zone', 'fe80::1%eth0'],
    ['site-local of old', 'fec0::1'],
    ['carrier-grade NAT', '100.64.0.1'],
    ['carrier-grade NAT (Alibaba metadata)', '100.100.100.200'],
    ['Azure wire server', '168.63.129.16'],
    ['multicast', '224.0.0.1'],
    ['multicast', 'ff02::1'],
    ['broadcast', '255.255.255.255'],
    ['reserved', '240.0.0.1'],
    ['protocol assignments', '192.0.0.8'],
    ['documentation', '203.0.113.5'],
    ['documentation', '2001:db8::1'],
    ['benchmarking', '198.18.0.1'],
    ['mapped', '::ffff:127.0.0.1'],
    ['mapped', '::ffff:a9fe:a9fe'],
    ['IPv4-compatible', '::127.0.0.1'],
    ['translated (SIIT)', '::ffff:0:127.0.0.1'],
    ['6to4', '2002:7f00:1::'],
    ['6to4 of a public address', '2002:101:101::'],
    ['NAT64', '64:ff9b::7f00:1'],
    ['NAT64, local use', '64:ff9b:1::1.1.1.1'],
    ['Teredo', '2001:0:53aa:64c:0:5efe:80ff:fffe'],
    ['ISATAP', '2606:4700::5efe:7f00:1'],
    ['discard-only', '100::1'],
    ['no address', 'example.com'],
  ])('refuses %s: %s', (_, address) => {
    expect(isPublicAddress(address)).toBe(false);
  });
});

describe('createAddressGuard', () => {
  it('names hosts with and without a port, whatever their case and final dot', () => {
    const guard = createAddressGuard({
      hosts: ['Images.internal', 'cdn.local:8443', '[::1]:9000', '10.0.0.7', 'bücher.example', '::2'],
      networks: [],
    });
    expect(guard.isNamed('images.INTERNAL.', 1)).toBe(true);
    expect(guard.isNamed('cdn.local', 8443)).toBe(true);
    expect(guard.isNamed('cdn.local', 443)).toBe(false);
    expect(guard.isNamed('[::1]', 9000)).toBe(true);
    expect(guard.isNamed('[::1]', 80)).toBe(false);
    expect(guard.isNamed('10.0.0.7', 80)).toBe(true);
    expect(guard.isNamed('xn--bcher-kva.example', 443)).toBe(true);
    expect(guard.isNamed('[::2]', 80)).toBe(true);
    expect(guard.isNamed('evil-images.internal', 80)).toBe(false);
  });

  it('lets networks through, mapped addresses of them too, and nothing else', () => {
    const guard = createAddressGuard({ hosts: [], networks: ['10.20.0.0/16', 'fd00:1::/32'] });
    expect(() => guard.check('10.20.255.1')).not.toThrow();
    expect(() => guard.check('::ffff:10.20.255.1')).not.toThrow();
    expect(() => guard.check('fd00:1::5')).not.toThrow();
    expect(() => guard.check('10.21.0.1')).toThrow('private or reserved');
    expect(() => guard.check('fd00:2::5')).toThrow('private or reserved');
    expect(() => guard.check('8.8.8.8')).not.toThrow();
  });
});

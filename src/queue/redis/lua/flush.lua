-- Removes every job; the totals, the order and the pause stay. Gives how many there were.
local known = redis.call('HLEN', JOBS) - redis.call('LLEN', HOMES.a)
redis.call('UNLINK', JOBS, LEASES, CLAIMS, CLAIMS_DUE, DATA, SLOTS, PRODUCTS, RATES, DEAD_CODES, unpack(KEYS, FIRST_HOME, LAST_HOME))
redis.call('HDEL', META, 'turn')
return known

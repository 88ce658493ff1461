-- Removes every job; the totals, the order and the pause stay. Gives how many there were.
local known = redis.call('HLEN', JOBS) - redis.call('ZCARD', HOMES.a)
redis.call('UNLINK', JOBS, DATA, SLOTS, PRODUCTS, RATES, DEAD_CODES, unpack(KEYS, 8, FIXED_KEYS))
redis.call('HDEL', META, 'turn')
return known

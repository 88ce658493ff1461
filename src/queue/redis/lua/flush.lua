-- Removes every job and resets the totals; the pause and the sequence stay. A new epoch hides the remembered answers.
-- Reply: how many jobs there were.
local known = redis.call('HLEN', key.jobs) - redis.call('ZCARD', key.aliases)
for name, set in pairs(key) do
  if name ~= 'meta' and name ~= 'heartbeats' then redis.call('UNLINK', set) end
end
redis.call('HDEL', key.meta, 'completed', 'failed', 'cancelled', 'dead_dropped', 'dead_inline_bytes')
redis.call('HDEL', key.meta, 'turn', 'repair_cursor')
redis.call('HINCRBY', key.meta, 'epoch', 1)
return known

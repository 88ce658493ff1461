-- KEYS: the index of workers, then the key of each worker to look at. ARGV: the id of each.
-- Gives {now, {id, when it was seen and its report, or '' when it is gone} ...}.
local clock = redis.call('TIME')
local reply = { tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000) }
for i = 1, #ARGV do
  local seen = redis.call('GET', KEYS[i + 1])
  reply[i + 1] = { ARGV[i], seen or '' }
end
for i = 1, #ARGV do
  if reply[i + 1][2] == '' then redis.call('ZREM', KEYS[1], ARGV[i]) end
end
return reply

-- KEYS: the worker's own, the index of workers. ARGV: id, report as JSON, life in ms ('0' removes it).
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
if ARGV[3] == '0' then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
else
  redis.call('SET', KEYS[1], string.format('%.0f', now) .. ' ' .. ARGV[2], 'PX', ARGV[3])
  redis.call('ZADD', KEYS[2], now, ARGV[1])
end
return 1

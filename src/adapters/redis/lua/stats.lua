-- Gives high, normal, low, suspects, parked, delayed, running, dead, completed, failed, cancelled, completed and
-- ended attempts of the last minute, dead letters of the last five minutes, age of the oldest claimable (ms or
-- -1), paused.
promote()
local reply = {}
for place in ('hnlspdrf'):gmatch('.') do reply[#reply + 1] = redis.call('ZCARD', HOMES[place]) end
local totals = redis.call('HMGET', META, 'completed', 'failed', 'cancelled', 'paused')
for i = 1, 3 do reply[#reply + 1] = tonumber(totals[i] or 0) end
local done, all = rates()
reply[#reply + 1] = done
reply[#reply + 1] = all
reply[#reply + 1] = redis.call('ZCOUNT', HOMES.f, micros - 300 * 1000000, '+inf')
local oldest
for place in ('hnls'):gmatch('.') do
  local head = redis.call('ZRANGE', HOMES[place], 0, 0, 'WITHSCORES')
  if head[2] then oldest = math.min(oldest or math.huge, tonumber(head[2])) end
end
reply[#reply + 1] = oldest and math.max(0, now - math.floor(oldest / 1000)) or -1
reply[#reply + 1] = totals[4] and 1 or 0
return reply

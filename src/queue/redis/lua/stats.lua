-- Gives high, normal, low, delayed, running, dead, completed, failed, cancelled, completed and
-- ended attempts of the last minute, dead letters of the last five minutes, age of the oldest claimable (ms or
-- -1), paused.
promote()
local reply = {}
for place in ('hnld'):gmatch('.') do reply[#reply + 1] = redis.call('ZCARD', HOMES[place]) end
reply[#reply + 1] = redis.call('HLEN', LEASES)
reply[#reply + 1] = redis.call('ZCARD', HOMES.f)
-- Suspects and follow-ups are few; they wait with the others of their priority.
for place in ('sp'):gmatch('.') do
  local ids = redis.call('ZRANGE', HOMES[place], 0, -1)
  load(ids)
  for i = 1, #ids do
    local s = jobs[ids[i]]
    if s then reply[s.priority] = reply[s.priority] + 1 end
  end
end
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

-- What the outside is told of jobs.

-- Places in the order in which they are served; every eighth turn goes to the oldest of all, which is left out.
local function position(id, s)
  local place = s.place
  if place ~= 'h' and place ~= 'n' and place ~= 'l' and place ~= 's' then return -1 end
  local ahead = redis.call('ZRANK', HOMES[place], id)
  if not ahead then return -1 end
  if place == 'n' or place == 'l' then ahead = ahead + redis.call('ZCARD', HOMES.h) end
  if place == 'l' then ahead = ahead + redis.call('ZCARD', HOMES.n) end
  return ahead + 1
end

local STATUS = {
  h = 'queued', n = 'queued', l = 'queued', s = 'queued', p = 'queued', d = 'delayed', r = 'processing',
  c = 'completed', f = 'failed', x = 'cancelled',
}
local function statusOf(s)
  if s.place == 'p' and s.availableAt > now then return 'delayed' end
  return STATUS[s.place]
end

-- A job as the reply of a script.
local function view(id, s)
  return { id, statusOf(s), position(id, s), encode(s) }
end

-- Attempts of the last minute: completed, and ended in any way.
local function rates()
  local done, all = 0, 0
  local raws = redis.call('HVALS', RATES)
  for i = 1, #raws do
    local v = cmsgpack.unpack(raws[i])
    if v[1] > second - 60 and v[1] <= second then
      done, all = done + v[2], all + v[3]
    end
  end
  return done, all
end

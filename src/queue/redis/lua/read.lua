-- Reads jobs and numbers.
-- ARGV: 'job' and an id; reply: { id, record, state, position, completed per second, 1 while paused }, or nothing.
-- ARGV: 'list', a status or 'deliveries', a limit, an error code or '', place and id of the last job seen (both '' at
-- first); reply: { total, place and id to go on after or '' at the end, then id, record, state, position of each }.
-- ARGV: 'product', its id and a limit; reply: id, record and state of each job that has not ended, and of each dead letter.
-- ARGV: 'stats'; reply: one JSON object, in which an empty list is {}.
local SETS = {
  queued = { LINES[1], LINES[2], LINES[3], key.suspects, key.followups },
  delayed = { key.delayed, key.parked },
  processing = { key.processing },
  completed = { key.completed },
  failed = { key.failed },
  cancelled = { key.cancelled },
  deliveries = { key.deliveries },
}

-- Attempts of the last minute: completed, and ended in any way.
local function countRecent()
  local completed, ended, second = 0, 0, math.floor(now / 1000)
  for _, text in ipairs(redis.call('HVALS', key.rates)) do
    local at, done, all = text:match('^(%d+):(%d+):(%d+)$')
    if tonumber(at) > second - RATE_WINDOW_S then completed, ended = completed + done, ended + all end
  end
  return completed, ended
end

local function readJob(id)
  promoteDelayed()
  local job = load(id)
  if job and job.alias_of then
    id = job.alias_of
    job = load(id)
  end
  if not job then return nil end
  local rate = countRecent() / RATE_WINDOW_S
  return { id, loaded[id].text, loaded[id].state or '{}', positionOf(id, job), tostring(rate), redis.call('HEXISTS', key.meta, 'paused') }
end

-- Lists ---------------------------------------------------------------------------------------------------------------

local function isBefore(a, b)
  if a.place == b.place then return a.id > b.id end
  return a.place > b.place
end

-- The first entries after the cursor, greatest place first.
local function pageOf(found, cursor, count)
  local page = {}
  table.sort(found, isBefore)
  for _, entry in ipairs(found) do
    if #page < count and (not cursor or isBefore(cursor, entry)) then page[#page + 1] = entry end
  end
  return page
end

-- The jobs of some sets after the cursor, greatest place first.
local function after(sets, cursor, count)
  local found = {}
  for _, set in ipairs(sets) do
    local place = cursor and digits(cursor.place)
    local above = cursor and redis.call('ZCOUNT', set, '(' .. place, '+inf') or 0
    local same = cursor and redis.call('ZCOUNT', set, place, place) or 0
    local members = redis.call('ZRANGE', set, above, above + same + count - 1, 'REV', 'WITHSCORES')
    for i = 1, #members, 2 do found[#found + 1] = { id = members[i], place = tonumber(members[i + 1]) } end
  end
  return pageOf(found, cursor, count)
end

-- The running jobs after the cursor, the longest running first. There are no more than workers can hold.
local function runningAfter(cursor, count)
  local found = {}
  for _, id in ipairs(redis.call('ZRANGE', key.processing, 0, -1)) do
    local job = load(id)
    if job then found[#found + 1] = { id = id, place = -tonumber(job.place) } end
  end
  return pageOf(found, cursor, count)
end

-- The dead letters of a code after the cursor, the last one first.
local function failedAfter(code, cursor, count)
  local found, prefix = {}, code .. NUL
  local first = cursor and '(' .. prefix .. digits(cursor.place) .. NUL .. cursor.id or '(' .. code .. '\1'
  local members = redis.call('ZRANGE', key.failed_by_code, first, '[' .. prefix, 'BYLEX', 'REV', 'LIMIT', 0, count)
  for i, member in ipairs(members) do
    local place, id = member:sub(#prefix + 1):match('^(%d+)%z(.*)$')
    found[i] = { place = tonumber(place), id = id }
  end
  return found
end

local function totalOf(status, code)
  if code ~= '' then return redis.call('ZLEXCOUNT', key.failed_by_code, '[' .. code .. NUL, '(' .. code .. '\1') end
  local total = 0
  for _, set in ipairs(SETS[status]) do total = total + redis.call('ZCARD', set) end
  return total
end

local function list(status, limit, code, place, id)
  local cursor, found = place ~= '' and { place = tonumber(place), id = id } or nil, nil
  if status == 'processing' then
    found = runningAfter(cursor, limit + 1)
  elseif code ~= '' then
    found = failedAfter(code, cursor, limit + 1)
  else
    found = after(SETS[status], cursor, limit + 1)
  end
  local hasMore = #found > limit
  found[limit + 1] = nil
  local reply = { totalOf(status, code), '', '' }
  if hasMore then reply[2], reply[3] = digits(found[limit].place), found[limit].id end
  for _, entry in ipairs(found) do
    local job = load(entry.id)
    if job then
      append(reply, entry.id, loaded[entry.id].text)
      append(reply, loaded[entry.id].state or '{}', positionOf(entry.id, job))
    end
  end
  return reply
end

local function listProduct(product, limit)
  promoteDelayed()
  local prefix = cjson.encode(product) .. NUL
  local last = '(' .. prefix:sub(1, -2) .. '\1'
  local reply = {}
  for _, member in ipairs(redis.call('ZRANGE', key.images, '[' .. prefix, last, 'BYLEX', 'LIMIT', 0, limit)) do
    local id = member:match('([^%z]*)$')
    local job = load(id)
    if job then
      append(reply, id, loaded[id].text)
      append(reply, loaded[id].state or '{}')
    end
  end
  return reply
end

-- Numbers -------------------------------------------------------------------------------------------------------------

-- Suspects and follow-ups are few; they wait with the others of their priority.
local function countWaiting()
  local waiting = {}
  for priority, rank in pairs(RANKS) do waiting[priority] = redis.call('ZCARD', LINES[rank]) end
  for _, set in ipairs({ key.suspects, key.followups }) do
    for _, id in ipairs(redis.call('ZRANGE', set, 0, -1)) do
      local job = load(id)
      if job then waiting[job.priority] = waiting[job.priority] + 1 end
    end
  end
  return waiting
end

local function oldestWaitingMs()
  local oldest
  for _, set in ipairs({ LINES[1], LINES[2], LINES[3], key.suspects }) do
    local place = redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')[2]
    if place then oldest = math.min(oldest or math.huge, tonumber(place)) end
  end
  return oldest and math.max(0, now - math.floor(oldest / 1000)) or nil
end

local function listHosts()
  local hosts, pairsOfHosts = {}, redis.call('HGETALL', key.hosts)
  for i = 1, #pairsOfHosts, 2 do
    local name, host = pairsOfHosts[i], cjson.decode(pairsOfHosts[i + 1])
    local waiting = redis.call('ZLEXCOUNT', key.parked_by_host, '[' .. name .. NUL, '(' .. name .. '\1')
    local nextInMs = math.max(0, math.ceil(host.next_at - now))
    hosts[#hosts + 1] = { host = name, waiting = waiting, nextInMs = nextInMs, perSecond = host.per_second }
  end
  table.sort(hosts, function(a, b) return a.waiting > b.waiting end)
  for i = MAX_LISTED_HOSTS + 1, #hosts do hosts[i] = nil end
  return hosts
end

local function stats()
  promoteDelayed()
  local completed, ended = countRecent()
  local meta = redis.call('HMGET', key.meta, 'completed', 'failed', 'cancelled', 'dead_dropped', 'paused')
  return cjson.encode({
    waiting = countWaiting(),
    delayed = totalOf('delayed', ''),
    processing = totalOf('processing', ''),
    dead = totalOf('failed', ''),
    completed = tonumber(meta[1]) or 0,
    failed = tonumber(meta[2]) or 0,
    cancelled = tonumber(meta[3]) or 0,
    deadDropped = tonumber(meta[4]) or 0,
    completedPerSecond = completed / RATE_WINDOW_S,
    failureRate = ended == 0 and 0 or 1 - completed / ended,
    recentlyDead = redis.call('ZCOUNT', key.failed, digits(micros - RECENTLY_DEAD_MS * 1000), '+inf'),
    durations = redis.call('LRANGE', key.durations, 0, -1),
    oldestWaitingMs = oldestWaitingMs(),
    hosts = listHosts(),
    paused = meta[5] and true or false,
  })
end

if ARGV[1] == 'job' then return readJob(ARGV[2]) end
if ARGV[1] == 'list' then return list(ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6]) end
if ARGV[1] == 'product' then return listProduct(ARGV[2], tonumber(ARGV[3])) end
return stats()

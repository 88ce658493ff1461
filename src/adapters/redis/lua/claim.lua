-- KEYS: the fixed ones, then the claim's own. ARGV: worker, claim id, max, lease ms, suspect (0 or 1),
-- every how many turns the oldest job is taken, the error of a job whose payload is gone.
-- Gives {suspects waiting, {id, key, payload, version, priority, attempt, max attempts, crashes, age ms} ...}.
local worker, token, max, leaseMs = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local suspect, agedTurn = ARGV[5] == '1', tonumber(ARGV[6])
local claimKey = KEYS[FIXED_KEYS + 1]

-- The payloads of loaded jobs; false where one is gone.
local function payloadsOf(ids)
  local found, apart = {}, {}
  for i = 1, #ids do
    local s = jobs[ids[i]]
    found[i] = s and dataOf(s) ~= '' and s.data
    if s and s.apart == 1 then apart[#apart + 1] = ids[i] end
  end
  if #apart > 0 then
    local stored, next = collect('HMGET', DATA, apart), 1
    for i = 1, #ids do
      if ids[i] == apart[next] then
        found[i] = stored[next]
        next = next + 1
      end
    end
  end
  return found
end

local function answer(ids, data)
  local reply = { redis.call('ZCARD', HOMES.s) }
  for i = 1, #ids do
    local id = ids[i]
    local s = job(id)
    if s and s.place == 'r' and s.token == token and data[i] then
      reply[#reply + 1] = { id, s.key, data[i], s.version, s.priority, s.attempts, s.maxAttempts, s.crashes,
        now - s.firstClaimedAt }
    end
  end
  return reply
end

local first = redis.call('GET', claimKey)
if first then
  local ids = cmsgpack.unpack(first)
  load(ids)
  return answer(ids, payloadsOf(ids))
end

promote()
if redis.call('HGET', META, 'paused') then return { redis.call('ZCARD', HOMES.s) } end

-- How many of each line are picked: they are its first ones.
local taken = { h = 0, n = 0, l = 0 }

local function orderOfHead(lines, i)
  return tonumber(redis.call('ZSCORE', HOMES[LINES[i]], lines[i][taken[LINES[i]] + 1]))
end

-- The next jobs: by priority, but every so many turns the one that has waited longest, so that none starves.
local function pick()
  if suspect then return redis.call('ZRANGE', HOMES.s, 0, 0) end
  local lines = {}
  for i = 1, 3 do lines[i] = redis.call('ZRANGE', HOMES[LINES[i]], 0, max - 1) end
  local turn = tonumber(redis.call('HGET', META, 'turn') or 0)
  local picked = {}
  while #picked < max do
    turn = turn + 1
    local from
    for i = 1, 3 do
      if lines[i][taken[LINES[i]] + 1] then
        if not from then
          from = i
        elseif turn % agedTurn == 0 and orderOfHead(lines, i) < orderOfHead(lines, from) then
          from = i
        end
      end
    end
    if not from then break end
    local place = LINES[from]
    taken[place] = taken[place] + 1
    picked[#picked + 1] = lines[from][taken[place]]
  end
  if #picked > 0 then count('turn', #picked) end
  return picked
end

local function lease(s)
  if s.used then
    s.place, s.token, s.worker, s.startedAt, s.attempts = 'r', token, worker, now, s.attempts + 1
    if s.firstClaimedAt == 0 then s.firstClaimedAt = now end
    s.leaseUntil = now + leaseMs
    return s
  end
  return {
    used = true, place = 'r', priority = s.priority, apart = s.apart, cancel = 0, maxAttempts = s.maxAttempts,
    attempts = 1, crashes = 0, version = s.version, order = s.order, enqueuedAt = s.enqueuedAt, availableAt = 0,
    firstClaimedAt = now, startedAt = now, endedAt = 0, processingMs = -1, key = s.key, product = s.product,
    image = s.image, token = token, settledToken = '', worker = worker, error = '', result = '', history = '',
    data = s.data, leaseUntil = now + leaseMs,
  }
end

local picked = pick()
if #picked == 0 then return { redis.call('ZCARD', HOMES.s) } end
load(picked)
if not suspect then
  for i = 1, #picked do homes[picked[i]] = nil end
end
local data = payloadsOf(picked)
local claimed, claimedData = {}, {}
for i = 1, #picked do
  local id = picked[i]
  -- A stray entry of a job that is elsewhere leads to nothing.
  local s = jobs[id]
  if s and s.place ~= 's' and not taken[s.place] then s = nil end
  if s and data[i] then
    change(id, lease(s))
    claimed[#claimed + 1] = id
    claimedData[#claimed] = data[i]
  elseif s then
    s.error = ARGV[7]
    setSlot(s, '', nil)
    finish(id, s, 'f')
  end
end
-- The first of a line leave it together, which costs less than one by one.
for place, n in pairs(taken) do
  if n > 0 then redis.call('ZREMRANGEBYRANK', HOMES[place], 0, n - 1) end
end
commit()
redis.call('SET', claimKey, cmsgpack.pack(claimed), 'PX', leaseMs)
return answer(claimed, claimedData)

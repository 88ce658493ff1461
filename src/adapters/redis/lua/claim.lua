-- KEYS: the fixed ones, then the claim's own. ARGV: worker, claim id, max, lease ms, suspect (0 or 1),
-- every how many turns the oldest job is taken, the error of a job whose payload is gone.
-- Gives suspects waiting, then of each job id, key, payload, version, priority, attempt, max attempts, crashes, age
-- in ms: flat, as all of a large claim is made at once.
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

local reply = {}
local function tell(id, key, payload, version, priority, attempts, maxAttempts, crashes, age)
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4], reply[n + 5] = id, key, payload, version, priority
  reply[n + 6], reply[n + 7], reply[n + 8], reply[n + 9] = attempts, maxAttempts, crashes, age
end

local function tellUsed(id, s, payload)
  tell(id, s.key, payload, s.version, s.priority, s.attempts, s.maxAttempts, s.crashes, now - s.firstClaimedAt)
end

local first = redis.call('GET', claimKey)
if first then
  local ids = cmsgpack.unpack(first)
  load(ids)
  local data = payloadsOf(ids)
  reply[1] = redis.call('ZCARD', HOMES.s)
  for i = 1, #ids do
    local s = jobs[ids[i]]
    if s and s.place == 'r' and s.token == token and data[i] then tellUsed(ids[i], s, data[i]) end
  end
  return reply
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
  s.used = true
  s.place, s.token, s.worker, s.startedAt = 'r', token, worker, now
  s.attempts, s.leaseUntil = s.attempts + 1, now + leaseMs
  if s.firstClaimedAt == 0 then s.firstClaimedAt = now end
  return s
end

local picked = pick()
if #picked == 0 then return { redis.call('ZCARD', HOMES.s) } end
local raws = collect('HMGET', JOBS, picked)

-- A job that was never claimed goes from bytes to bytes: most do, and it costs half.
local states, leased, leaseUntil = {}, {}, string.format('%.0f', now + leaseMs)
local function leaseFresh(id, raw)
  local _, place, priority, apart, maxAttempts, version, order, enqueuedAt, _, key, product, image, at =
    struct.unpack(FRESH, raw)
  local data = raw:sub(at + LENGTH)
  if not taken[place] or apart == 1 or data == '' then return false end
  local n = #states
  states[n + 1], states[n + 2] = id, struct.pack(USED_PACKED, 'U', 'r', priority, 0, 0, maxAttempts, 1, 0, version,
    order, enqueuedAt, 0, now, now, 0, -1, #key, key, #product, product, #image, image, #token, token, 0, '',
    #worker, worker, 0, '', 0, '', 0, '', #data, data)
  leased[n + 1], leased[n + 2] = leaseUntil, id
  tell(id, key, data, version, priority, 1, maxAttempts, 0, 0)
  return true
end

-- Any other job.
local function leaseOther(id, raw)
  local s = admit(id, raw)
  -- It leaves its line with all that are picked.
  if not suspect then homes[id] = nil end
  -- A stray entry of a job that is elsewhere leads to nothing.
  if not s or (s.place ~= 's' and not taken[s.place]) then return false end
  local payload = payloadsOf({ id })[1]
  if not payload then
    s.error = ARGV[7]
    setSlot(s, '', nil)
    finish(id, s, 'f')
    return false
  end
  change(id, lease(s))
  tellUsed(id, s, payload)
  return true
end

local claimed = {}
reply[1] = 0
for i = 1, #picked do
  local id, raw = picked[i], raws[i]
  if raw and raw:byte(1) == 70 and leaseFresh(id, raw) or leaseOther(id, raw) then claimed[#claimed + 1] = id end
end
for place, n in pairs(taken) do
  if n > 0 then redis.call('ZREMRANGEBYRANK', HOMES[place], 0, n - 1) end
end
commit()
send('HSET', JOBS, states)
send('ZADD', HOMES.r, leased)
redis.call('SET', claimKey, cmsgpack.pack(claimed), 'PX', leaseMs)
reply[1] = redis.call('ZCARD', HOMES.s)
return reply

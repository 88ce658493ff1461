-- ARGV: worker, claim id, max, lease ms, suspect (0 or 1),
-- every how many turns the oldest job is taken, the error of a job whose payload is gone.
-- Gives suspects waiting and the time, then of each job its id, its record as it was in line, and its payload where
-- that is apart ('' where it isn't): flat, as all of a large claim is made at once.
local worker, token, max, leaseMs = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local suspect, agedTurn = ARGV[5] == '1', tonumber(ARGV[6])

local told = {}
local function tell(id, raw, data)
  local n = #told
  told[n + 1], told[n + 2], told[n + 3] = id, raw, data
end

local function answer()
  return { redis.call('ZCARD', HOMES.s), now, told }
end

-- The payload of a record that is kept apart; '' when it isn't, false when it is gone.
local function payloadApart(id, raw)
  return raw:byte(-1) == 0 and redis.call('HGET', DATA, id) or raw:byte(-1) ~= 0 and ''
end

local first = redis.call('HGET', CLAIMS, token)
if first then
  local ids = decodeClaim(first).ids
  local raws, rawLeases = collect('HMGET', JOBS, ids), collect('HMGET', LEASES, ids)
  for i = 1, #ids do
    if raws[i] and rawLeases[i] and decodeLease(rawLeases[i]).token == token then
      local data = payloadApart(ids[i], raws[i])
      if data then tell(ids[i], raws[i], data) end
    end
  end
  return answer()
end

promote()
if redis.call('HGET', META, 'paused') then return answer() end

-- How many of each line are picked: they are its first ones.
local taken = { h = 0, n = 0, l = 0 }

local function orderOfHead(place, line)
  return tonumber(redis.call('ZSCORE', HOMES[place], line[taken[place] + 1]))
end

-- The next jobs: by priority, but every so many turns the one that has waited longest, so that none starves.
local function pick()
  if suspect then return redis.call('ZRANGE', HOMES.s, 0, 0) end
  local lines, live = {}, {}
  for _, place in ipairs(LINES) do
    lines[place] = redis.call('ZRANGE', HOMES[place], 0, max - 1)
    if #lines[place] > 0 then live[#live + 1] = place end
  end
  local picked = {}
  if #live == 1 then
    picked = lines[live[1]]
    taken[live[1]] = #picked
  elseif #live > 1 then
    local turn = tonumber(redis.call('HGET', META, 'turn') or 0)
    while #picked < max do
      turn = turn + 1
      local from
      for _, place in ipairs(live) do
        if lines[place][taken[place] + 1] then
          if not from then
            from = place
          elseif turn % agedTurn == 0 and orderOfHead(place, lines[place]) < orderOfHead(from, lines[from]) then
            from = place
          end
        end
      end
      if not from then break end
      taken[from] = taken[from] + 1
      picked[#picked + 1] = lines[from][taken[from]]
    end
  end
  count('turn', #picked)
  return picked
end

local picked = pick()
if #picked == 0 then return answer() end
local raws, rawLeases = collect('HMGET', JOBS, picked), collect('HMGET', LEASES, picked)

local claimed, leases = {}, {}
local lease = encodeLease({ cancel = 0, startedAt = now, leaseUntil = now + leaseMs, token = token, worker = worker })
for i = 1, #picked do
  local id, raw = picked[i], raws[i]
  local place = raw and not rawLeases[i] and raw:sub(1, 1)
  -- A stray entry of a job that is elsewhere leads to nothing.
  if place and (place == 's' or taken[place]) then
    local data = payloadApart(id, raw)
    if data then
      local n = #claimed
      claimed[n + 1] = id
      leases[n * 2 + 1], leases[n * 2 + 2] = id, lease
      tell(id, raw, data)
    else
      local s = admit(id, raw)
      s.error = ARGV[7]
      setSlot(s, '', nil)
      finish(id, s, 'f')
    end
  end
end
for place, n in pairs(taken) do
  if n > 0 then redis.call('ZREMRANGEBYRANK', HOMES[place], 0, n - 1) end
end
if suspect then send('ZREM', HOMES.s, claimed) end
commit()
if #claimed > 0 then
  send('HSET', LEASES, leases)
  saveClaim(token, { ids = claimed, keepUntil = now + leaseMs })
  redis.call('ZADD', CLAIMS_DUE, now + leaseMs, token)
end
return answer()

-- Leases jobs to a worker: first those of slowed hosts whose turn has come, then the lines by priority.
-- KEYS: the last one keeps this claim's ids, for a repeated call. ARGV: worker, claim id, greatest number of jobs,
-- greatest number of payload bytes, lease ms, 1 to claim a suspect.
-- Reply: { suspects waiting, ms until something is due (-1: nothing is), then of each job id, record, state, payload }.
local CLAIM = KEYS[#KEYS]
local worker, token = ARGV[1], ARGV[2]
local max, maxBytes, leaseMs, suspect = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1'
-- Jobs of slowed hosts that one call takes out of the lines; with more, it asks to be called again at once.
local PARKED_PER_CALL, HOSTS_PER_CALL = 500, 50

redis.call('ZADD', key.heartbeats, now, worker)

local earlier = redis.call('GET', CLAIM)
if earlier then
  local reply = { redis.call('ZCARD', key.suspects), -1 }
  for _, id in ipairs(cjson.decode(earlier)) do
    local job, data = load(id), redis.call('HGET', key.data, id)
    if job and data and job.token == token then
      append(reply, id, loaded[id].text)
      append(reply, loaded[id].state, data)
    end
  end
  return reply
end

local lease = { state = 'processing', token = token, worker = worker, started_at = now, lease_until = now + leaseMs,
  place = digits(micros) }
local leaseText = cjson.encode(lease)
local fresh = {}
local claimed, data, bytes, isFull, again = {}, {}, 0, false, promoteDelayed()

-- Leases a job, unless it is unreadable. Returns false when the claim can hold no more bytes.
local function take(id, job)
  local payload = redis.call('HGET', key.data, id)
  if not payload then
    bury(id)
    return true
  end
  if #claimed > 0 and bytes + #payload > maxBytes then
    isFull = true
    return false
  end
  if job then
    job.line_place = rawget(job, 'place')
    for field, value in pairs(lease) do job[field] = value end
    job.waits_for, job.available_at, job.stage = nil, nil, nil
    save(id, job)
  end
  claimed[#claimed + 1], data[#data + 1], bytes = id, payload, bytes + #payload
  return true
end

local function takeSuspect()
  local id = redis.call('ZRANGE', key.suspects, 0, 0)[1]
  local job = id and loadFrom(key.suspects, id)
  if job then take(id, job) end
end

-- Slowed hosts -------------------------------------------------------------------------------------------------------

local hosts, anyHost = {}, redis.call('HLEN', key.hosts) > 0
local function slowedHost(name)
  if not anyHost or not name then return nil end
  if hosts[name] == nil then hosts[name] = loadHost(name) or false end
  local host = hosts[name]
  -- A host that has nothing waiting and has not complained for a while gets its full speed back.
  local isQuiet = host and micros - tonumber(host.slowed_at) > HOST_FORGET_AFTER_MS * 1000
  if isQuiet and not redis.call('ZSCORE', key.host_turns, name) then
    redis.call('HDEL', key.hosts, name)
    hosts[name] = false
  end
  return hosts[name] or nil
end

local function park(id, job, host)
  job.state, job.waits_for = 'delayed', 'host'
  save(id, job)
  redis.call('ZADD', key.host_turns, 'NX', host.next_at, job.host)
end

-- Takes as many parked jobs of a host as its rate allows by now.
local function takeParked(name, host)
  local interval = 1000 / host.per_second
  local start = math.max(host.next_at, now - HOST_BURST_MS)
  local allowed = math.min(max - #claimed, math.floor((now - start) / interval) + 1)
  local prefix = name .. NUL
  local last = '(' .. name .. '\1'
  local members = redis.call('ZRANGE', key.parked_by_host, '[' .. prefix, last, 'BYLEX', 'LIMIT', 0, allowed)
  local used = 0
  for _, member in ipairs(members) do
    local id = member:sub(#prefix + 19)
    local job = loadFrom(key.parked, id)
    if not job then
      redis.call('ZREM', key.parked_by_host, member)
    elseif job.crashes then
      job.state, job.waits_for = 'queued', nil
      save(id, job)
      used = used + 1
    elseif take(id, job) then
      used = used + 1
    else
      break
    end
  end
  host.next_at = start + used * interval
  saveHost(name, host)
  if #members < allowed then
    redis.call('ZREM', key.host_turns, name)
  else
    redis.call('ZADD', key.host_turns, host.next_at, name)
  end
end

local function takeFromHosts()
  local due = redis.call('ZRANGE', key.host_turns, '-inf', now, 'BYSCORE', 'LIMIT', 0, HOSTS_PER_CALL)
  for _, name in ipairs(due) do
    if isFull or #claimed >= max then return end
    local host = loadHost(name) or newHost()
    takeParked(name, host)
    hosts[name] = host
  end
end

-- Lines --------------------------------------------------------------------------------------------------------------

-- The first jobs of a line. What was taken is gone from it, so that it is read from its start again.
local heads = {}
local function readHead(line)
  flush()
  local found, head = redis.call('ZRANGE', line, 0, max - 1, 'WITHSCORES'), { at = 1, ids = {}, places = {} }
  for i = 1, #found, 2 do
    head.ids[#head.ids + 1], head.places[#head.places + 1] = found[i], tonumber(found[i + 1])
  end
  head.texts, head.states = send('HMGET', key.jobs, head.ids), send('HMGET', key.states, head.ids)
  head.isLast = #head.ids < max
  heads[line] = head
  return head
end

-- By priority, but every so many turns the one that has waited longest, so that none starves.
local function pickLine(turn)
  local picked, oldest
  for _, line in ipairs(LINES) do
    local head = heads[line] or readHead(line)
    if head.at > #head.ids and not head.isLast then head = readHead(line) end
    local place = head.places[head.at]
    if place and (not picked or turn % AGED_TURN == 0 and place < oldest) then picked, oldest = line, place end
  end
  return picked
end

local function takeFromLines(turn)
  local parked = 0
  while #claimed < max and not isFull do
    local line = pickLine(turn + 1)
    if not line then break end
    local head = heads[line]
    local at = head.at
    local id, text, state = head.ids[at], head.texts[at], head.states[at]
    head.at = at + 1
    if text and not state and not anyHost then
      if take(id) then
        fresh[id] = text
        put('HSET', key.states, id, leaseText)
        put('ZREM', line, id)
        put('ZADD', key.processing, lease.lease_until, id)
        turn = turn + 1
      end
    else
      if not loaded[id] then admit(id, text, state) end
      local job = loadFrom(line, id)
      local host = job and slowedHost(job.host)
      if host then
        park(id, job, host)
        parked = parked + 1
      elseif job and take(id, job) then
        turn = turn + 1
      end
    end
    if parked == PARKED_PER_CALL then
      again = true
      break
    end
  end
  redis.call('HSET', key.meta, 'turn', turn % AGED_TURN)
end

local paused, turn = unpack(redis.call('HMGET', key.meta, 'paused', 'turn'))
if not paused and suspect then
  takeSuspect()
elseif not paused then
  if anyHost then takeFromHosts() end
  takeFromLines(tonumber(turn) or 0)
end
flush()
if #claimed > 0 then redis.call('SET', CLAIM, cjson.encode(claimed), 'PX', leaseMs) end

local function nextDueMs()
  if again then return 0 end
  local delayed = redis.call('ZRANGE', key.delayed, 0, 0, 'WITHSCORES')[2]
  local turn = redis.call('ZRANGE', key.host_turns, 0, 0, 'WITHSCORES')[2]
  local due = math.min(delayed and math.floor(delayed / 1000) or math.huge, turn and tonumber(turn) or math.huge)
  return due == math.huge and -1 or math.max(0, math.ceil(due - now))
end
local reply = { redis.call('ZCARD', key.suspects), nextDueMs() }
for i, id in ipairs(claimed) do
  append(reply, id, fresh[id] or loaded[id].text)
  append(reply, fresh[id] and leaseText or loaded[id].state, data[i])
end
return reply

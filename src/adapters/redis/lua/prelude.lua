-- What every queue script begins with: a unit of work over the queue's keys.
--
-- A job is read once, changed as a Lua table, and written by commit(), the last thing a script does. So no write
-- comes before something that may fail, and the ZSET a job is in always follows from its state.
--
-- A job is in one place: h, n, l wait by priority; s waits to be run alone (it has crashed a worker); p waits for
-- the running job of its key to end; d waits for its time; r runs; c completed; f is a dead letter; x is
-- cancelled; a is no job but the id of an enqueue that another job absorbed.
local JOBS, DATA, SLOTS, PRODUCTS, META, RATES, DEAD_CODES = unpack(KEYS, 1, 7)
local HOMES = {
  h = KEYS[8], n = KEYS[9], l = KEYS[10], s = KEYS[11], p = KEYS[12], d = KEYS[13], r = KEYS[14],
  c = KEYS[15], x = KEYS[15], f = KEYS[16], a = KEYS[17],
}
local FIXED_KEYS = 17
local LINES = { 'h', 'n', 'l' }
local PENDING = { h = true, n = true, l = true, s = true, p = true, d = true, r = true }
local MAX_HISTORY = 10
local SEPARATOR = '\0'

-- The server's clock, always: a worker's may be wrong.
local clock = redis.call('TIME')
local second = tonumber(clock[1])
local micros = second * 1000000 + tonumber(clock[2])
local now = math.floor(micros / 1000)

-- A job as bytes. One that was never claimed (F) leaves out what has not happened to it: most jobs wait, and their
-- memory is what the queue takes. A small payload stands at the end; a large one is kept apart, in DATA, so that it is
-- not written anew with each change of state.
local SMALL = 1024
local FRESH = '<c1c1BBI4I8I8I8I8I2c0I4c0I4c0'
local USED = '<c1c1BBBI4I4I4I8I8I8I8I8I8I8i8I2c0I4c0I4c0I4c0I4c0I4c0I4c0I4c0I4c0'
-- With the payload at the end.
local FRESH_PACKED, USED_PACKED = FRESH .. 'I4c0', USED .. 'I4c0'
local LENGTH = 4
local UNCLAIMED = {
  __index = {
    attempts = 0, crashes = 0, firstClaimedAt = 0, startedAt = 0, endedAt = 0, token = '', settledToken = '',
    worker = '', cancel = 0, processingMs = -1, error = '', result = '', history = '', apart = 0,
  },
}

-- Tables are made with all their fields at once: growing one by one costs several times as much.
local function decode(raw)
  if raw:byte(1) == 70 then
    local _, place, priority, apart, maxAttempts, version, order, enqueuedAt, availableAt, key, product, image, at =
      struct.unpack(FRESH, raw)
    return setmetatable({
      place = place, priority = priority, apart = apart, maxAttempts = maxAttempts, version = version, order = order,
      enqueuedAt = enqueuedAt, availableAt = availableAt, key = key, product = product, image = image,
      raw = raw, at = at,
    }, UNCLAIMED)
  end
  local _, place, priority, apart, cancel, maxAttempts, attempts, crashes, version, order, enqueuedAt, availableAt,
    firstClaimedAt, startedAt, endedAt, processingMs, key, product, image, token, settledToken, worker, failure,
    result, history, at = struct.unpack(USED, raw)
  return {
    used = true, place = place, priority = priority, apart = apart, cancel = cancel, maxAttempts = maxAttempts,
    attempts = attempts, crashes = crashes, version = version, order = order, enqueuedAt = enqueuedAt,
    availableAt = availableAt, firstClaimedAt = firstClaimedAt, startedAt = startedAt, endedAt = endedAt,
    processingMs = processingMs, key = key, product = product, image = image, token = token,
    settledToken = settledToken, worker = worker, error = failure, result = result, history = history,
    raw = raw, at = at,
  }
end

-- The payload that stands with its job. Only cut out when it is wanted: Redis's Lua reads all of each new string.
local function dataOf(s)
  if s.data == nil then s.data = s.raw and s.raw:sub(s.at + LENGTH) or '' end
  return s.data
end

local function encode(s)
  local data = dataOf(s)
  if not s.used then
    return struct.pack(FRESH_PACKED, 'F', s.place, s.priority, s.apart, s.maxAttempts, s.version, s.order, s.enqueuedAt,
      s.availableAt, #s.key, s.key, #s.product, s.product, #s.image, s.image, #data, data)
  end
  return struct.pack(USED_PACKED, 'U', s.place, s.priority, s.apart, s.cancel, s.maxAttempts, s.attempts, s.crashes,
    s.version, s.order, s.enqueuedAt, s.availableAt, s.firstClaimedAt, s.startedAt, s.endedAt, s.processingMs,
    #s.key, s.key, #s.product, s.product, #s.image, s.image, #s.token, s.token, #s.settledToken, s.settledToken,
    #s.worker, s.worker, #s.error, s.error, #s.result, s.result, #s.history, s.history, #data, data)
end

-- Calls in parts: Lua's stack holds some 8,000 values. Parts are even, so that pairs stay together.
local PART = 4000
local function send(command, key, values)
  for first = 1, #values, PART do
    redis.call(command, key, unpack(values, first, math.min(first + PART - 1, #values)))
  end
end

local function collect(command, key, values)
  if #values == 0 then return {} end
  if #values <= PART then return redis.call(command, key, unpack(values)) end
  local replies = {}
  for first = 1, #values, PART do
    local part = redis.call(command, key, unpack(values, first, math.min(first + PART - 1, #values)))
    for i = 1, #part do replies[first + i - 1] = part[i] end
  end
  return replies
end

-- Jobs by id: the state, or false where there is none.
local jobs, homes, changed, deadMembers = {}, {}, {}, {}

local function deadMember(id, s)
  return cjson.decode(s.error).code .. SEPARATOR .. string.format('%016.0f', s.order) .. SEPARATOR .. id
end

local function admit(id, raw)
  local s = raw and decode(raw) or false
  jobs[id] = s
  if s then
    homes[id] = HOMES[s.place]
    if s.place == 'f' then deadMembers[id] = deadMember(id, s) end
  end
  return s
end

local function job(id)
  local s = jobs[id]
  if s == nil then s = admit(id, redis.call('HGET', JOBS, id)) end
  return s
end

local function load(ids)
  local raws = collect('HMGET', JOBS, ids)
  for i = 1, #ids do
    if jobs[ids[i]] == nil then admit(ids[i], raws[i]) end
  end
end

local function change(id, s)
  jobs[id] = s
  changed[id] = true
end

-- Payloads that are kept apart: a string is stored, false is removed.
local payloads = {}

local function setPayload(id, s, payload)
  local apart = #payload > SMALL
  if apart then
    payloads[id] = payload
  elseif s.apart == 1 then
    payloads[id] = false
  end
  s.apart, s.data = apart and 1 or 0, apart and '' or payload
end

-- Slots: which job of a key waits (w) and which runs (r); '' for none. Stored is the id of the only job, whose state
-- tells which of both it is, so that a claim changes no slot; or the ids of the running one and its follow-up.
local slots, changedSlots = {}, {}

local function admitSlot(key, raw)
  local slot = { w = '', r = '', stored = false }
  if raw then
    slot.stored = true
    local at = raw:find(SEPARATOR, 1, true)
    local s = not at and job(raw)
    if at then
      slot.r, slot.w = raw:sub(1, at - 1), raw:sub(at + 1)
    elseif s and s.place == 'r' then
      slot.r = raw
    else
      slot.w = raw
    end
  end
  slots[key] = slot
  return slot
end

local function encodeSlot(waiting, running)
  if running == '' then return waiting end
  return waiting == '' and running or running .. SEPARATOR .. waiting
end

local function slotOf(key)
  return slots[key] or admitSlot(key, redis.call('HGET', SLOTS, key))
end

local function loadSlots(keys)
  local raws = collect('HMGET', SLOTS, keys)
  for i = 1, #keys do
    if slots[keys[i]] == nil then admitSlot(keys[i], raws[i]) end
  end
end

-- The slots of loaded jobs, in one call.
local function loadSlotsOf(ids)
  local keys = {}
  for i = 1, #ids do
    if jobs[ids[i]] then keys[#keys + 1] = jobs[ids[i]].key end
  end
  loadSlots(keys)
end

local function setSlot(s, waiting, running)
  local slot = slotOf(s.key)
  if waiting ~= nil then slot.w = waiting end
  if running ~= nil then slot.r = running end
  slot.product = s.product
  changedSlots[s.key] = slot
end

-- Numbers that grow: each is later than the last one, and than the clock's microseconds when that is possible.
local lastOrder
local function nextOrder()
  if lastOrder == nil then lastOrder = tonumber(redis.call('HGET', META, 'last') or 0) end
  lastOrder = math.max(lastOrder + 1, micros)
  return lastOrder
end

local counts = {}
local function count(name, by)
  counts[name] = (counts[name] or 0) + by
end

-- Where a job waits that nothing else holds back.
local function lineOf(s)
  if s.availableAt > now then return 'd' end
  if s.crashes > 0 then return 's' end
  return LINES[s.priority]
end

-- The history is its attempts one after the other: start, end, outcome, worker, error.
local ATTEMPT = '<I8I8BI2c0I4c0'
local OUTCOMES = { 'completed', 'retried', 'failed', 'released', 'cancelled', 'crashed' }
local OUTCOME_CODES = {}
for code, outcome in ipairs(OUTCOMES) do OUTCOME_CODES[outcome] = code end

local function attemptsIn(history)
  local attempts, at = {}, 1
  while at <= #history do
    local attempt = {}
    attempt[1], attempt[2], attempt[4], attempt[3], attempt[5], at = struct.unpack(ATTEMPT, history, at)
    attempt[4] = OUTCOMES[attempt[4]]
    attempts[#attempts + 1] = attempt
    attempt.stop = at
  end
  return attempts
end

local function withAttempt(history, startedAt, worker, outcome, failure)
  history = history
    .. struct.pack(ATTEMPT, startedAt, now, OUTCOME_CODES[outcome], #worker, worker, #failure, failure)
  -- No attempt takes fewer than 23 bytes.
  if #history <= MAX_HISTORY * 23 then return history end
  local attempts = attemptsIn(history)
  local surplus = #attempts - MAX_HISTORY
  return surplus > 0 and history:sub(attempts[surplus].stop) or history
end

local function record(s, outcome, failure)
  s.history = withAttempt(s.history, s.startedAt, s.worker, outcome, failure or '')
end

-- Ends a job that waits or runs: c, f or x. Its slot is the caller's affair.
local ENDINGS = { c = 'completed', f = 'failed', x = 'cancelled' }
local function finish(id, s, place)
  s.used = true
  s.place, s.endedAt, s.token, s.availableAt = place, now, '', 0
  if place == 'f' then
    s.order = nextOrder()
  else
    setPayload(id, s, '')
  end
  count(ENDINGS[place], 1)
  change(id, s)
end

-- The running job of a key has left: its follow-up may be claimed. Gives the follow-up's id, or ''.
local function vacate(s)
  local slot = slotOf(s.key)
  setSlot(s, nil, '')
  if slot.w ~= '' then
    local follower = job(slot.w)
    follower.place = lineOf(follower)
    change(slot.w, follower)
  end
  return slot.w
end

-- A running job goes back to wait, unless it was cancelled or a newer one waits for it to go.
local function requeue(id, s)
  s.token = ''
  local follower = vacate(s)
  if s.cancel == 1 or follower ~= '' then
    finish(id, s, 'x')
    return follower
  end
  s.place = lineOf(s)
  setSlot(s, id, nil)
  change(id, s)
  return ''
end

-- Per-second counts of the last minute, in a ring.
local RING = 64
local ended, completed = 0, 0
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

local function score(s)
  local place = s.place
  if place == 'd' then return s.availableAt end
  if place == 'r' then return s.leaseUntil end
  if place == 'c' or place == 'x' or place == 'a' then return s.endedAt end
  return s.order
end

local function append(lists, key, a, b)
  local list = lists[key]
  if list == nil then
    list = {}
    lists[key] = list
  end
  list[#list + 1] = a
  if b ~= nil then list[#list + 1] = b end
end

local function commitJobs()
  local packed, gone, out, into, deadIn, deadOut = {}, {}, {}, {}, {}, {}
  for id in pairs(changed) do
    local s, from = jobs[id], homes[id]
    local to = s and HOMES[s.place]
    if s then
      packed[#packed + 1] = id
      packed[#packed + 1] = encode(s)
      local at = score(s)
      if at ~= nil then append(into, to, at, id) end
    else
      gone[#gone + 1] = id
    end
    if from and from ~= to then append(out, from, id) end
    local member = s and s.place == 'f' and deadMember(id, s) or nil
    local before = deadMembers[id]
    if before and before ~= member then deadOut[#deadOut + 1] = before end
    if member and before ~= member then
      deadIn[#deadIn + 1] = 0
      deadIn[#deadIn + 1] = member
    end
    homes[id] = to or nil
  end
  for key, members in pairs(out) do send('ZREM', key, members) end
  for key, members in pairs(into) do send('ZADD', key, members) end
  send('ZREM', DEAD_CODES, deadOut)
  send('ZADD', DEAD_CODES, deadIn)
  send('HDEL', JOBS, gone)
  send('HSET', JOBS, packed)
end

local function commit()
  commitJobs()
  local packed, gone = {}, {}
  for id, payload in pairs(payloads) do
    if payload then
      packed[#packed + 1] = id
      packed[#packed + 1] = payload
    else
      gone[#gone + 1] = id
    end
  end
  send('HSET', DATA, packed)
  send('HDEL', DATA, gone)

  local held, freed, arrived, left = {}, {}, {}, {}
  for key, slot in pairs(changedSlots) do
    if slot.w ~= '' or slot.r ~= '' then
      held[#held + 1] = key
      held[#held + 1] = encodeSlot(slot.w, slot.r)
      if not slot.stored then
        arrived[#arrived + 1] = 0
        arrived[#arrived + 1] = slot.product .. SEPARATOR .. key
      end
    elseif slot.stored then
      freed[#freed + 1] = key
      left[#left + 1] = slot.product .. SEPARATOR .. key
    end
  end
  send('HSET', SLOTS, held)
  send('HDEL', SLOTS, freed)
  send('ZADD', PRODUCTS, arrived)
  send('ZREM', PRODUCTS, left)

  if lastOrder ~= nil then redis.call('HSET', META, 'last', lastOrder) end
  for name, by in pairs(counts) do redis.call('HINCRBY', META, name, by) end
  if ended > 0 then
    local field, v = second % RING, { second, 0, 0 }
    local raw = redis.call('HGET', RATES, field)
    if raw then
      local stored = cmsgpack.unpack(raw)
      if stored[1] == second then v = stored end
    end
    redis.call('HSET', RATES, field, cmsgpack.pack({ second, v[2] + completed, v[3] + ended }))
  end
end

-- Moves delayed jobs whose time has come into line, and writes that at once: what follows reads the lines.
local function promote()
  local due = redis.call('ZRANGE', HOMES.d, '-inf', now, 'BYSCORE', 'LIMIT', 0, 1000)
  if #due == 0 then return end
  load(due)
  for i = 1, #due do
    local s = jobs[due[i]]
    if s and s.place == 'd' then
      s.order = s.availableAt * 1000
      s.availableAt = 0
      s.place = lineOf(s)
      change(due[i], s)
    end
  end
  commitJobs()
  changed = {}
end

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

-- A job as the reply of a script; -1 and '' stand for null.
local function view(id, s)
  return {
    id, s.key, s.product, s.image, statusOf(s), s.priority, s.version, position(id, s),
    s.attempts, s.maxAttempts, s.crashes, s.enqueuedAt, s.availableAt, s.startedAt, s.endedAt,
    s.processingMs, s.worker, s.error, s.result, s.cancel, attemptsIn(s.history),
  }
end

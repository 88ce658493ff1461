-- A unit of work over jobs. A job is read once, changed as a Lua table, and written by commit(), the last thing a
-- script does. So no write comes before something that may fail, and the place of a job always follows from its state.

local LINES, WAITING = { 'h', 'n', 'l' }, { 'h', 'n', 'l', 's', 'p', 'd' }
local PENDING = { h = true, n = true, l = true, s = true, p = true, d = true, r = true }

local function countPending()
  local pending = redis.call('HLEN', LEASES)
  for _, place in ipairs(WAITING) do pending = pending + redis.call('ZCARD', HOMES[place]) end
  return pending
end

-- Jobs by id: the state, or false where there is none.
local jobs, homes, changed, deadMembers = {}, {}, {}, {}

local function deadMember(id, s)
  return cjson.decode(s.error).code .. SEPARATOR .. string.format('%016.0f', s.order) .. SEPARATOR .. id
end

local function admit(id, raw, rawLease)
  local s = raw and decode(raw, rawLease) or false
  jobs[id] = s
  if s then
    homes[id] = s.place == 'r' and LEASES or HOMES[s.place]
    if s.place == 'f' then deadMembers[id] = deadMember(id, s) end
  end
  return s
end

local function job(id)
  local s = jobs[id]
  if s == nil then s = admit(id, redis.call('HGET', JOBS, id), redis.call('HGET', LEASES, id)) end
  return s
end

local function load(ids)
  local raws, rawLeases = collect('HMGET', JOBS, ids), collect('HMGET', LEASES, ids)
  for i = 1, #ids do
    if jobs[ids[i]] == nil then admit(ids[i], raws[i], rawLeases[i]) end
  end
end

local function change(id, s)
  jobs[id] = s
  changed[id] = true
end

-- Payloads that are kept apart: a string is stored, false is removed.
local payloads = {}

local function setPayload(id, s, data, apart)
  if apart ~= '' then
    payloads[id] = apart
  elseif s.data == '' then
    payloads[id] = false
  end
  s.data = data
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

-- The jobs that tell what a slot means are read together.
local function admitSlots(keys, raws)
  local ids = {}
  for i = 1, #keys do
    local id = raws[i] and not raws[i]:find(SEPARATOR, 1, true) and raws[i]
    if id and jobs[id] == nil then ids[#ids + 1] = id end
  end
  load(ids)
  for i = 1, #keys do
    if slots[keys[i]] == nil then admitSlot(keys[i], raws[i]) end
  end
end

local function loadSlots(keys)
  admitSlots(keys, collect('HMGET', SLOTS, keys))
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

-- Where a job waits that nothing else holds back.
local function lineOf(s)
  if s.availableAt > now then return 'd' end
  if s.crashes > 0 then return 's' end
  return LINES[s.priority]
end

local function record(s, outcome, failure)
  s.history = withAttempt(s.history, s.startedAt, s.worker, outcome, failure)
end

-- Ends a job that waits or runs: c, f or x. Its slot is the caller's affair.
local ENDINGS = { c = 'completed', f = 'failed', x = 'cancelled' }
local function finish(id, s, place)
  s.place, s.endedAt, s.availableAt = place, now, 0
  if place == 'f' then
    s.order = nextOrder()
  else
    setPayload(id, s, '', '')
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

-- Attempts that this script ends, and how many of them completed.
local ended, completed = 0, 0

local function score(s)
  return s.place == 'd' and s.availableAt or s.order
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
  local records, leases, gone, out, into, endings, deadIn, deadOut = {}, {}, {}, {}, {}, {}, {}, {}
  for id in pairs(changed) do
    local s, from, to = jobs[id], homes[id], nil
    if not s then
      gone[#gone + 1] = id
    elseif s.place == 'r' then
      to = LEASES
      leases[#leases + 1] = id
      leases[#leases + 1] = encodeLease(s)
    else
      to = HOMES[s.place]
      records[#records + 1] = id
      records[#records + 1] = encode(s)
      if not LISTS[to] then
        append(into, to, score(s), id)
      elseif from ~= to then
        append(endings, to, id)
      end
    end
    if from and from ~= to and not LISTS[from] then append(out, from, id) end
    local member = s and s.place == 'f' and deadMember(id, s) or nil
    local before = deadMembers[id]
    if before and before ~= member then deadOut[#deadOut + 1] = before end
    if member and before ~= member then
      deadIn[#deadIn + 1] = 0
      deadIn[#deadIn + 1] = member
    end
    homes[id] = to
  end
  for key, members in pairs(out) do send(key == LEASES and 'HDEL' or 'ZREM', key, members) end
  for key, members in pairs(into) do send('ZADD', key, members) end
  for key, members in pairs(endings) do send('RPUSH', key, members) end
  send('ZREM', DEAD_CODES, deadOut)
  send('ZADD', DEAD_CODES, deadIn)
  send('HDEL', JOBS, gone)
  send('HSET', JOBS, records)
  send('HSET', LEASES, leases)
end

-- A running job with a follow-up says so in its lease: what completes it looks at nothing else.
local function markFollowed()
  for _, slot in pairs(changedSlots) do
    local running = slot.w ~= '' and slot.r ~= '' and job(slot.r)
    if running and running.place == 'r' and not running.followed then
      running.followed = true
      change(slot.r, running)
    end
  end
end

local function commit()
  markFollowed()
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
  commitTotals(completed, ended)
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

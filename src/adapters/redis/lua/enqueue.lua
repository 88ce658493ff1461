-- ARGV: greatest number of pending jobs (0: no limit), number of calls, then for each call its number of jobs,
-- then for each job: id, key, product, image, payload, priority, greatest attempts, version or '', delay kind
-- ('', 'in', 'at'), delay in ms.
-- Gives for each call 0 when it was refused as too many, or a list of
-- {id, status, position, replaced, superseded, version}.
local WIDTH = 10
local maxPending, calls = tonumber(ARGV[1]), tonumber(ARGV[2])
local first = 3 + calls

local ids, keys = {}, {}
for at = first, #ARGV, WIDTH do
  ids[#ids + 1] = ARGV[at]
  keys[#keys + 1] = ARGV[at + 1]
end
load(ids)
loadSlots(keys)

local function isStale(version, other)
  return version ~= nil and other and version < other.version
end

-- The jobs of the key: the waiting one, and the running one unless it is being cancelled.
local function holders(key)
  local slot = slotOf(key)
  local waiting = slot.w ~= '' and job(slot.w) or nil
  local running = slot.r ~= '' and job(slot.r) or nil
  return waiting, running, running and running.cancel == 0 and running or nil, slot
end

local function countNew(from, amount)
  local new, seen = 0, {}
  for i = 0, amount - 1 do
    local at = from + i * WIDTH
    local id, key = ARGV[at], ARGV[at + 1]
    local waiting, _, live = holders(key)
    if not job(id) and not waiting and not seen[key] and not isStale(tonumber(ARGV[at + 7]), live) then
      new = new + 1
      seen[key] = true
    end
  end
  return new
end

local function availableAt(kind, delay)
  if kind == 'in' and delay > 0 then return now + delay end
  if kind == 'at' and delay > now then return delay end
  return 0
end

local function absorb(id, target, version, replaced, superseded)
  change(id, { key = target, product = '', image = '', version = version, priority = 0, place = 'a', order = 0,
    attempts = replaced, maxAttempts = superseded, crashes = 0, enqueuedAt = now, availableAt = 0,
    firstClaimedAt = 0, startedAt = 0, endedAt = now, token = '', settledToken = '', worker = '', cancel = 0,
    processingMs = -1, error = '', result = '', history = {} })
  return { target, replaced, superseded, version }
end

local function add(at)
  local id, key = ARGV[at], ARGV[at + 1]
  local known = job(id)
  if known then
    if known.place == 'a' then return { known.key, known.attempts, known.maxAttempts, known.version } end
    return { id, 0, 0, known.version }
  end
  local priority, explicit = tonumber(ARGV[at + 5]), tonumber(ARGV[at + 7])
  local waiting, running, live, slot = holders(key)
  if isStale(explicit, waiting) then return absorb(id, slot.w, waiting.version, 0, 1) end
  if isStale(explicit, live) then return absorb(id, slot.r, live.version, 0, 1) end

  local order = nextOrder()
  local version = explicit
  if version == nil then
    version = math.max(order, waiting and waiting.version + 1 or 0, running and running.version + 1 or 0)
  end
  local s = waiting
  if s then
    s.priority = math.min(s.priority, priority)
    s.attempts, s.error, s.firstClaimedAt = 0, '', 0
    if s.place == 'd' then s.order = order end
  else
    s = { key = key, product = ARGV[at + 2], image = ARGV[at + 3], priority = priority, order = order,
      attempts = 0, crashes = 0, enqueuedAt = now, firstClaimedAt = 0, startedAt = 0, endedAt = 0, token = '',
      settledToken = '', worker = '', cancel = 0, processingMs = -1, error = '', result = '', history = {} }
  end
  local holder = waiting and slot.w or id
  s.version, s.maxAttempts = version, tonumber(ARGV[at + 6])
  s.availableAt = availableAt(ARGV[at + 8], tonumber(ARGV[at + 9]))
  s.place = running and 'p' or lineOf(s)
  payloads[holder] = ARGV[at + 4]
  change(holder, s)
  if waiting then return absorb(id, holder, version, 1, 0) end
  setSlot(s, id, nil)
  return { id, 0, 0, version }
end

local pending = 0
if maxPending > 0 then
  for place in pairs(PENDING) do pending = pending + redis.call('ZCARD', HOMES[place]) end
end

local answers, at = {}, first
for call = 1, calls do
  local amount = tonumber(ARGV[2 + call])
  local new = maxPending > 0 and countNew(at, amount) or 0
  if new > 0 and pending + new > maxPending then
    answers[call] = 0
  else
    pending = pending + new
    local answer = {}
    for i = 0, amount - 1 do answer[i + 1] = add(at + i * WIDTH) end
    answers[call] = answer
  end
  at = at + amount * WIDTH
end
commit()

for call = 1, calls do
  local answer = answers[call]
  if answer ~= 0 then
    for i = 1, #answer do
      local id, replaced, superseded, version = unpack(answer[i])
      local s = job(id)
      -- Only a purged dead letter is gone before those that it absorbed.
      answer[i] = { id, s and statusOf(s) or 'failed', s and position(id, s) or -1, replaced, superseded, version }
    end
  end
end
return answers

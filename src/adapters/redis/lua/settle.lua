-- ARGV, for each settlement: id, token, kind, processing ms, delay ms, error or result as JSON.
-- Gives 1 settled or 0 lost for each.
local WIDTH = 6
local ids = {}
for at = 1, #ARGV, WIDTH do ids[#ids + 1] = ARGV[at] end
local raws = collect('HMGET', JOBS, ids)

-- The slots of the jobs, read together. The key of a job that was claimed follows what has a fixed length.
local KEY_AT = struct.size('<c1c1BBBI4I4I4I8I8I8I8I8I8I8i8') + 1
local keys = {}
for i = 1, #ids do
  keys[i] = raws[i] and raws[i]:byte(1) == 85 and struct.unpack('<I2c0', raws[i], KEY_AT) or ''
end
local rawSlots = collect('HMGET', SLOTS, keys)

-- A job that completes, with no follow-up, goes from bytes to bytes: most do, and it costs half.
local nowText = string.format('%.0f', now)
local states, left, gone, freed, forgotten, done = {}, {}, {}, {}, {}, {}
local function completePlain(i, at)
  local id, raw, token = ids[i], raws[i], ARGV[at + 1]
  if ARGV[at + 2] ~= 'complete' or rawSlots[i] ~= id then return false end
  local _, place, priority, apart, cancel, maxAttempts, attempts, crashes, version, order, enqueuedAt, availableAt,
    firstClaimedAt, startedAt, _, _, key, product, image, held, _, worker, _, _, history = struct.unpack(USED, raw)
  if place ~= 'r' or held ~= token or apart == 1 then return false end
  history = withAttempt(history, startedAt, worker, 'completed', '')
  local result, n = ARGV[at + 5], #states
  states[n + 1], states[n + 2] = id, struct.pack(USED_PACKED, 'U', 'c', priority, 0, cancel, maxAttempts, attempts, crashes,
    version, order, enqueuedAt, availableAt, firstClaimedAt, startedAt, now, tonumber(ARGV[at + 3]), #key, key,
    #product, product, #image, image, 0, '', #token, token, #worker, worker, 0, '', #result, result,
    #history, history, 0, '')
  left[n + 1], left[n + 2] = nowText, id
  gone[#gone + 1], freed[#freed + 1], forgotten[#forgotten + 1] = id, key, product .. SEPARATOR .. key
  done[id] = token
  return true
end

local settle = {}

function settle.complete(id, s, at)
  s.result, s.error = ARGV[at + 5], ''
  record(s, 'completed')
  vacate(s)
  finish(id, s, 'c')
  completed, ended = completed + 1, ended + 1
end

function settle.fail(id, s, at)
  s.error = ARGV[at + 5]
  record(s, 'failed', s.error)
  vacate(s)
  finish(id, s, s.cancel == 1 and 'x' or 'f')
  ended = ended + 1
end

function settle.retry(id, s, at)
  if s.attempts >= s.maxAttempts then return settle.fail(id, s, at) end
  s.error = ARGV[at + 5]
  record(s, 'retried', s.error)
  local delay = tonumber(ARGV[at + 4])
  s.availableAt = delay > 0 and now + delay or 0
  -- A delayed job gets its turn when its time comes.
  s.order = nextOrder()
  requeue(id, s)
  ended = ended + 1
end

function settle.release(id, s)
  record(s, 'released')
  s.attempts = s.attempts - 1
  if s.attempts == 0 and s.crashes == 0 then s.firstClaimedAt = 0 end
  s.availableAt = 0
  requeue(id, s)
end

function settle.cancel(id, s)
  record(s, 'cancelled')
  vacate(s)
  finish(id, s, 'x')
end

local seen, answers = {}, {}
for i = 1, #ids do
  local id, at = ids[i], (i - 1) * WIDTH + 1
  local token, kind = ARGV[at + 1], ARGV[at + 2]
  if done[id] then
    -- The same job once more in one call.
    answers[i] = done[id] == token and 1 or 0
  elseif not seen[id] and completePlain(i, at) then
    answers[i] = 1
  else
    seen[id] = true
    local s = jobs[id]
    if s == nil then s = admit(id, raws[i]) end
    if s and s.place == 'r' and s.token == token then
      if slots[s.key] == nil then admitSlot(s.key, rawSlots[i]) end
      s.settledToken = token
      if tonumber(ARGV[at + 3]) >= 0 then s.processingMs = tonumber(ARGV[at + 3]) end
      settle[kind](id, s, at)
      answers[i] = 1
    else
      answers[i] = s and s.settledToken == token and 1 or 0
    end
  end
end
if #gone > 0 then
  completed, ended = completed + #gone, ended + #gone
  count('completed', #gone)
end
commit()
send('HSET', JOBS, states)
send('ZREM', HOMES.r, gone)
send('ZADD', HOMES.c, left)
send('HDEL', SLOTS, freed)
send('ZREM', PRODUCTS, forgotten)
return answers

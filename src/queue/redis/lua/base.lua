-- What every queue script begins with: the queue's keys, the clock, and jobs as text.
--
-- A job is in one place: h, n, l wait by priority; s waits to be run alone (it has crashed a worker); p waits for
-- the running job of its key to end; d waits for its time; r runs, and has a lease; c completed; f is a dead letter;
-- x is cancelled; a is no job but the id of an enqueue that another job absorbed. The other places are ZSETs; what
-- ended is in a list, in the order in which it ended, only to be forgotten in time.
local JOBS, LEASES, CLAIMS, CLAIMS_DUE, DATA, SLOTS, PRODUCTS, META, RATES, DEAD_CODES = unpack(KEYS, 1, 10)
local FIRST_HOME, LAST_HOME = 11, 19
local HOMES = {
  h = KEYS[11], n = KEYS[12], l = KEYS[13], s = KEYS[14], p = KEYS[15], d = KEYS[16], f = KEYS[17],
  c = KEYS[18], x = KEYS[18], a = KEYS[19],
}
local LISTS = { [KEYS[18]] = true, [KEYS[19]] = true }
local SEPARATOR = '\0'

-- The server's clock, always: a worker's may be wrong.
local clock = redis.call('TIME')
local second = tonumber(clock[1])
local micros = second * 1000000 + tonumber(clock[2])
local now = math.floor(micros / 1000)

-- A version or an order as text: Lua itself would write 14 digits.
local function digits(number)
  return string.format('%.0f', number)
end

-- A job's record is text: its fields in this order, a separator between them, none of which holds one (names and
-- errors are JSON). Zeroes of a job that was never claimed are left out: most jobs wait, and their memory is what the
-- queue takes. A large payload is kept apart, in DATA, so that it is not written anew with each change of state.
-- redis-records.ts reads and writes records too.
local FIELDS = 23
local RECORD = '^' .. string.rep('([^%z]*)%z', FIELDS - 1) .. '(.*)'

local function encode(s)
  return table.concat({
    s.place, s.endedAt, s.priority, s.maxAttempts, digits(s.version), digits(s.order), s.enqueuedAt, s.availableAt,
    s.key, s.product, s.image, s.cancel, s.attempts, s.crashes, s.firstClaimedAt, s.startedAt, s.processingMs,
    s.settledToken, s.worker, s.error, s.result, s.history, s.data,
  }, SEPARATOR)
end

-- A running job is its record as it was in line, and a lease beside it: a claim writes no record anew, and the leases
-- of one claim are the same text. A lease tells until when it holds, whether the job is to be cancelled, and whether a
-- follow-up waits for its end.
--
-- CLAIMS has the ids of each claim, and until when it is remembered, as a repeated call gets the same answer; CLAIMS_DUE
-- has when to look at it: when the first of its leases may expire. So neither the renewal nor the end of a job moves
-- anything in a ZSET.
local knownLeases = {}
local function decodeLease(raw)
  local lease = knownLeases[raw]
  if not lease then
    local cancel, followed, startedAt, leaseUntil, token, worker =
      raw:match('^(%d)(%d)%z(%d+)%z(%d+)%z([^%z]*)%z(.*)$')
    lease = {
      cancel = tonumber(cancel), followed = followed == '1', startedAt = tonumber(startedAt),
      leaseUntil = tonumber(leaseUntil), token = token, worker = worker,
    }
    knownLeases[raw] = lease
  end
  return lease
end

local function encodeLease(s)
  return table.concat({ s.cancel .. (s.followed and 1 or 0), s.startedAt, s.leaseUntil, s.token, s.worker }, SEPARATOR)
end

local function decodeClaim(raw)
  if not raw then return { ids = {}, keepUntil = 0 } end
  local keepUntil, ids = cmsgpack.unpack(raw)
  return { ids = ids, keepUntil = keepUntil }
end

local function saveClaim(token, claim)
  redis.call('HSET', CLAIMS, token, cmsgpack.pack(claim.keepUntil, claim.ids))
end

local function number(text)
  return tonumber(text) or 0
end

local function decode(raw, rawLease)
  local place, endedAt, priority, maxAttempts, version, order, enqueuedAt, availableAt, key, product, image, cancel,
    attempts, crashes, firstClaimedAt, startedAt, processingMs, settledToken, worker, failure, result, history, data =
    raw:match(RECORD)
  local s = {
    place = place, endedAt = number(endedAt), priority = number(priority), maxAttempts = number(maxAttempts),
    version = number(version), order = number(order), enqueuedAt = number(enqueuedAt),
    availableAt = number(availableAt), key = key, product = product, image = image, cancel = number(cancel),
    attempts = number(attempts), crashes = number(crashes), firstClaimedAt = number(firstClaimedAt),
    startedAt = number(startedAt), processingMs = tonumber(processingMs) or -1, settledToken = settledToken,
    worker = worker, error = failure, result = result, history = history, data = data,
  }
  if rawLease then
    local lease = decodeLease(rawLease)
    s.place, s.availableAt, s.attempts = 'r', 0, s.attempts + 1
    s.cancel, s.followed = lease.cancel, lease.followed
    s.startedAt, s.leaseUntil, s.token, s.worker = lease.startedAt, lease.leaseUntil, lease.token, lease.worker
    if s.firstClaimedAt == 0 then s.firstClaimedAt = lease.startedAt end
  end
  return s
end

-- The history is the last attempts, a line of JSON each: start, end, outcome, worker, error.
local MAX_HISTORY = 10
local function withAttempt(history, startedAt, worker, outcome, failure)
  local parts = { startedAt, now, cjson.encode(outcome), cjson.encode(worker), failure }
  history = (history == '' and '' or history .. '\n') .. '[' .. table.concat(parts, ',') .. ']'
  local _, breaks = history:gsub('\n', '')
  return breaks < MAX_HISTORY and history or history:sub(history:find('\n', 1, true) + 1)
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

local totals = {}
local function count(name, by)
  totals[name] = (totals[name] or 0) + by
end

-- Per-second counts of the last minute, in a ring.
local RING = 64
local function commitTotals(completed, ended)
  for name, by in pairs(totals) do
    if by > 0 then redis.call('HINCRBY', META, name, by) end
  end
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

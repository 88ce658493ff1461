-- Ends leases. ARGV: 'settle', then for each: id, token, kind, processing ms (-1: none), delay ms, error or result as
-- JSON. Reply: 1 settled or 0 lost for each. A repeated call is answered by the token that the job keeps.
-- Or renews leases, and records that the worker is alive. ARGV: 'renew', worker, lease ms, then for each: id, token, stage.
-- Reply: 1 renewed, 2 to be cancelled or 0 lost for each.
local anyHost = redis.call('HLEN', key.hosts) > 0
local completed, ended, durations = 0, 0, {}

-- Rates and times are those of images.
local function countAttempt(job, isCompleted)
  if job.delivers then return end
  ended = ended + 1
  if not isCompleted then return end
  completed = completed + 1
  durations[#durations + 1] = job.processing_ms
end

local settle = {}

local function leave(id, job, state)
  finish(id, job, state)
  freeFollowUp(id, job)
end

-- The attempt that succeeds is not added to the history: the record itself says all of it.
function settle.complete(id, job, result)
  job.result, job.error, job.leased_ms, job.deferred_at = result, nil, nil, nil
  leave(id, job, 'completed')
  countAttempt(job, true)
end

function settle.fail(id, job, failure)
  job.error = failure
  endAttempt(job, 'failed', now, failure)
  leave(id, job, job.cancel and 'cancelled' or 'failed')
  countAttempt(job, false)
end

function settle.retry(id, job, failure, delayMs)
  if (job.attempts or 0) + 1 >= job.max_attempts then return settle.fail(id, job, failure) end
  job.error = failure
  endAttempt(job, 'retried', now, failure)
  -- It goes to the end of the line, once its time has come.
  job.place = nextSequence()
  if delayMs > 0 then job.available_at, job.place = now + delayMs, placeAt(now + delayMs, job) end
  requeue(id, job)
  countAttempt(job, false)
end

function settle.release(id, job)
  endAttempt(job, 'released', now)
  requeue(id, job)
end

function settle.defer(id, job, failure, delayMs)
  if job.host then slowDown(job.host, tonumber(job.place), delayMs) end
  job.error, job.deferred_at = failure, job.deferred_at or now
  endAttempt(job, 'deferred', now, failure)
  if job.host then
    job.waits_for = 'host'
  elseif delayMs > 0 then
    job.available_at, job.place = now + delayMs, placeAt(now + delayMs, job)
  end
  requeue(id, job)
end

-- Its payload is not JSON, as the claim found: nobody has tried it.
function settle.unreadable(id, job, failure)
  job.error = failure
  leave(id, job, 'failed')
end

function settle.cancel(id, job)
  endAttempt(job, 'cancelled', now)
  leave(id, job, 'cancelled')
end

-- Attempts that ended are counted per second, for the last minute, and how long the last successes took.
local function countAttempts()
  if ended == 0 then return end
  local second = math.floor(now / 1000)
  local field = second % RATE_WINDOW_S
  local text = redis.call('HGET', key.rates, field)
  local at, done, all = string.match(text or '', '^(%d+):(%d+):(%d+)$')
  if tonumber(at) ~= second then done, all = 0, 0 end
  redis.call('HSET', key.rates, field, second .. ':' .. (done + completed) .. ':' .. (all + ended))
  send('LPUSH', key.durations, durations)
  redis.call('LTRIM', key.durations, 0, DURATIONS_KEPT - 1)
end

-- Most leases end so: a job is completed at its first attempt, and neither another job of its image nor an address waits
-- for that. What follows is what settle.complete would do, without the job in hand. Jobs of one claim mostly have the same
-- state: it is read once.
local FIRST_LEASE = { state = 1, token = 1, worker = 1, started_at = 1, lease_until = 1, place = 1, stage = 1 }
local leases, isCompleted = {}, {}

-- Of a first lease its token, and the beginning of the state that follows; empty for any other state.
local function toFirstLease(stateText)
  local ok, lease = pcall(cjson.decode, stateText)
  if not ok or type(lease) ~= 'table' or lease.state ~= 'processing' then return {} end
  for field in pairs(lease) do
    if not FIRST_LEASE[field] then return {} end
  end
  local state = { state = 'completed', worker = lease.worker, started_at = lease.started_at, settled_token = lease.token }
  return { token = lease.token, state = cjson.encode(state):sub(1, -2) }
end

local function completeFirst(id, text, stateText, token, processingMs, result)
  if not text or not stateText or anyHost or loaded[id] or isCompleted[id] then return false end
  leases[stateText] = leases[stateText] or toFirstLease(stateText)
  local lease, ok, record = leases[stateText], pcall(cjson.decode, text)
  if lease.token ~= token or not ok or type(record) ~= 'table' then return false end
  if not record.key or record.callbacks then return false end
  local place = nextSequence()
  local outcome = '","processing_ms":' .. processingMs .. ',"result":' .. result .. '}'
  put('HSET', key.states, id, lease.state .. ',"place":"' .. place .. outcome)
  put('HDEL', key.data, id)
  put('ZREM', key.processing, id)
  put('ZREM', key.images, imagePrefix(record, 'live') .. id)
  put('ZADD', key.completed, place, id)
  count('completed', 1)
  countAttempt({ processing_ms = processingMs }, true)
  isCompleted[id] = true
  return true
end

-- Calls `change` with the texts of the job of each lease, and what ARGV has for it, which begins with its id and token.
local function eachLease(first, width, change)
  local ids, answers = {}, {}
  for at = first, #ARGV, width do ids[#ids + 1] = ARGV[at] end
  local texts, states = send('HMGET', key.jobs, ids), send('HMGET', key.states, ids)
  for i in ipairs(ids) do
    local at = first + (i - 1) * width
    answers[i] = change(texts[i], states[i], unpack(ARGV, at, at + width - 1))
  end
  return answers
end

-- The job of a lease, and whether it still runs under that lease.
local function loadLeased(text, stateText, id, token)
  if isCompleted[id] then flush() elseif not loaded[id] then admit(id, text, stateText) end
  local job = load(id)
  return job, job and job.state == 'processing' and job.token == token
end

local function endLease(text, stateText, id, token, kind, processingMs, delayMs, outcome)
  if kind == 'complete' and completeFirst(id, text, stateText, token, processingMs, outcome) then return 1 end
  local job, holds = loadLeased(text, stateText, id, token)
  if not job and kind == 'unreadable' then bury(id) end
  if not holds then return job and job.settled_token == token and 1 or 0 end
  job.settled_token = token
  if processingMs ~= '-1' then job.processing_ms = tonumber(processingMs) end
  if anyHost and job.host and (kind == 'complete' or kind == 'fail') then speedUp(job.host, tonumber(job.place)) end
  settle[kind](id, job, outcome ~= '' and cjson.decode(outcome) or nil, tonumber(delayMs))
  return 1
end

local leaseUntil = ARGV[1] == 'renew' and now + tonumber(ARGV[3])
local function renew(text, stateText, id, token, stage)
  local job, holds = loadLeased(text, stateText, id, token)
  if not holds then return 0 end
  -- The state keeps the first end of the lease; what counts is the sorted set.
  put('ZADD', key.processing, leaseUntil, id)
  if job.stage ~= stage then
    job.stage = stage
    save(id, job)
  end
  return job.cancel and 2 or 1
end

local answers
if leaseUntil then
  redis.call('ZADD', key.heartbeats, now, ARGV[2])
  answers = eachLease(4, 3, renew)
else
  answers = eachLease(2, 6, endLease)
  countAttempts()
end
flush()
if mayHaveWork then wakeWorkers() end
return answers

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

-- Calls `change` with what ARGV has for each lease, which begins with id and token, and with its job.
local function eachLease(first, width, change)
  local ids, answers = {}, {}
  for at = first, #ARGV, width do ids[#ids + 1] = ARGV[at] end
  prefetch(ids)
  for i, id in ipairs(ids) do
    local at, job = first + (i - 1) * width, load(id)
    local holds = job and job.state == 'processing' and job.token == ARGV[at + 1]
    answers[i] = change(id, job, holds, unpack(ARGV, at + 1, at + width - 1))
  end
  return answers
end

local function endLease(id, job, holds, token, kind, processingMs, delayMs, outcome)
  if not job and kind == 'unreadable' then bury(id) end
  if not holds then return job and job.settled_token == token and 1 or 0 end
  job.settled_token = token
  if processingMs ~= '-1' then job.processing_ms = tonumber(processingMs) end
  if anyHost and job.host and (kind == 'complete' or kind == 'fail') then speedUp(job.host, tonumber(job.place)) end
  settle[kind](id, job, outcome ~= '' and cjson.decode(outcome) or nil, tonumber(delayMs))
  return 1
end

local leaseUntil = ARGV[1] == 'renew' and now + tonumber(ARGV[3])
local function renew(id, job, holds, _, stage)
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

-- Ends leases. ARGV, for each: id, token, kind, processing ms (-1: none), delay ms, error or result as JSON.
-- Reply: 1 settled or 0 lost for each. A repeated call is answered by the token that the record keeps.
local WIDTH = 6
local anyHost = redis.call('HLEN', key.hosts) > 0
local completed, ended, durations = 0, 0, {}

local settle = {}

local function leave(id, job, state)
  finish(id, job, state)
  freeFollowUp(id, job)
end

-- The attempt that succeeds is not added to the history: the record itself says all of it.
function settle.complete(id, job, result)
  job.result, job.error, job.leased_ms, job.deferred_at = result, nil, nil, nil
  leave(id, job, 'completed')
  completed, ended = completed + 1, ended + 1
  durations[#durations + 1] = job.processing_ms
end

function settle.fail(id, job, failure)
  job.error = failure
  endAttempt(job, 'failed', now, failure)
  leave(id, job, job.cancel and 'cancelled' or 'failed')
  ended = ended + 1
end

function settle.retry(id, job, failure, delayMs)
  if (job.attempts or 0) + 1 >= job.max_attempts then return settle.fail(id, job, failure) end
  job.error = failure
  endAttempt(job, 'retried', now, failure)
  -- It goes to the end of the line, once its time has come.
  job.place = nextSequence()
  if delayMs > 0 then job.available_at, job.place = now + delayMs, placeAt(now + delayMs, job) end
  requeue(id, job)
  ended = ended + 1
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

local answers, ids = {}, {}
for at = 1, #ARGV, WIDTH do ids[#ids + 1] = ARGV[at] end
prefetch(ids)
for at = 1, #ARGV, WIDTH do
  local id, token, kind = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local job = load(id)
  if not job and kind == 'unreadable' then bury(id) end
  if job and job.state == 'processing' and job.token == token then
    local processingMs, outcome = tonumber(ARGV[at + 3]), ARGV[at + 5] ~= '' and cjson.decode(ARGV[at + 5]) or nil
    job.settled_token = token
    if processingMs >= 0 then job.processing_ms = processingMs end
    if anyHost and job.host and (kind == 'complete' or kind == 'fail') then speedUp(job.host, tonumber(job.place)) end
    settle[kind](id, job, outcome, tonumber(ARGV[at + 4]))
    answers[#answers + 1] = 1
  else
    answers[#answers + 1] = job and job.settled_token == token and 1 or 0
  end
end
countAttempts()
flush()
if mayHaveWork then wakeWorkers() end
return answers

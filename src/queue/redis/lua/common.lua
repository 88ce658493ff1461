-- Shared by all scripts: the clock, and a job as a record. scripts.ts puts `key` (the names in KEYS) and the constants
-- of the port before it.
--
-- JOBS holds each job as JSON, DATA its payload, which no script reads. These fields are always there: state, key,
-- product, image, priority, max_attempts, version, sequence, enqueued_at. The others are absent until they apply.
-- Version, sequence and place have 16 digits, more than cjson writes: in the JSON they are strings, here numbers.
-- `place` orders the jobs of a state: the microsecond at which its turn came or will come, or at which it was claimed
-- (`line_place` has its place in line then) or ended; absent when that is its sequence. {alias_of, version, sequence, superseded} stands for an id whose data another job took.
--
-- Which sorted sets a job is in follows from its record: see placeOf and entriesOf. Everything is changed by save.

local clock = redis.call('TIME')
local micros = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local now = math.floor(micros / 1000)

local NUL = '\0'
local RANKS = { high = 1, normal = 2, low = 3 }
local LINES = { key['queued:high'], key['queued:normal'], key['queued:low'] }
local WAITING = { LINES[1], LINES[2], LINES[3], key.suspects, key.followups, key.delayed, key.parked }
local ENDS = { completed = key.completed, failed = key.failed, cancelled = key.cancelled }

local function digits(number)
  return string.format('%.0f', number)
end

-- Numbers that only grow: the clock's microseconds, or one more than the last.
local function nextSequence()
  local sequence = math.max(tonumber(redis.call('HGET', key.meta, 'sequence') or 0) + 1, micros)
  redis.call('HSET', key.meta, 'sequence', digits(sequence))
  return sequence
end

-- Records -------------------------------------------------------------------------------------------------------------

local function encode(job)
  local version, sequence, place, linePlace = job.version, job.sequence, job.place, job.line_place
  job.version, job.sequence = digits(version), digits(sequence)
  job.place, job.line_place = place ~= sequence and digits(place) or nil, linePlace and digits(linePlace)
  local text = cjson.encode(job)
  job.version, job.sequence, job.place, job.line_place = version, sequence, place, linePlace
  return text
end

-- The job, or nil when the text is not a record.
local function decode(text)
  local ok, job = pcall(cjson.decode, text)
  if not ok or type(job) ~= 'table' then return nil end
  job.version, job.sequence = tonumber(job.version), tonumber(job.sequence)
  job.place, job.line_place = tonumber(job.place) or job.sequence, tonumber(job.line_place)
  local isAlias = type(job.alias_of) == 'string'
  local isJob = type(job.state) == 'string' and type(job.key) == 'string' and type(job.product) == 'string'
    and RANKS[job.priority]
  return job.version and job.sequence and (isAlias or isJob) and job or nil
end

local function hasEnded(job)
  return ENDS[job.state] ~= nil
end

-- The sorted set that a job waits, runs or has ended in, and its score there.
local function placeOf(job)
  if job.alias_of then return key.aliases, job.place end
  if job.state == 'processing' then return key.processing, job.lease_until end
  if hasEnded(job) then return ENDS[job.state], job.place end
  if job.waits_for == 'host' then return key.parked, job.place end
  if job.waits_for == 'image' then return key.followups, job.place end
  if job.state == 'delayed' then return key.delayed, job.place end
  if job.crashes then return key.suspects, job.place end
  return LINES[RANKS[job.priority]], job.place
end

-- IMAGES finds the jobs of a product image that have not ended, and apart from them its dead letters.
local function imagePrefix(job, kind)
  return cjson.encode(job.product) .. NUL .. job.key .. NUL .. kind .. NUL
end

-- PARKED_BY_HOST has each host's jobs in the order in which they are claimed.
local function hostEntry(id, job)
  return job.host .. NUL .. RANKS[job.priority] .. string.format('%016.0f', job.place) .. NUL .. id
end

-- All that finds a job: sorted set → { score, member }.
local function entriesOf(id, job)
  local set, score = placeOf(job)
  local entries = { [set] = { score, id } }
  if job.alias_of then return entries end
  if job.state == 'failed' then
    entries[key.images] = { 0, imagePrefix(job, 'dead') .. id }
    if job.inline_bytes then entries[key.failed_inline] = { job.place, id } end
  elseif not hasEnded(job) then
    entries[key.images] = { 0, imagePrefix(job, 'live') .. id }
    if job.waits_for == 'host' then entries[key.parked_by_host] = { 0, hostEntry(id, job) } end
  end
  return entries
end

-- What is stored of the jobs that this script has loaded or saved.
local stored, latest = {}, {}

local function admit(id, text)
  local job = text and decode(text) or nil
  stored[id] = job and { entries = entriesOf(id, job), failed = job.state == 'failed' and job or nil }
  return job
end

local function load(id)
  return admit(id, redis.call('HGET', key.jobs, id))
end

-- Totals of dead letters by code, and of their inline payloads.
local function countDead(job, by)
  local code = job.error and job.error.code or 'internal_error'
  if redis.call('HINCRBY', key.failed_codes, code, by) <= 0 then redis.call('HDEL', key.failed_codes, code) end
  if job.inline_bytes then redis.call('HINCRBY', key.meta, 'dead_inline_bytes', by * job.inline_bytes) end
end

local function moveEntries(before, after)
  for set, entry in pairs(before) do
    if not after[set] or after[set][2] ~= entry[2] then redis.call('ZREM', set, entry[2]) end
  end
  for set, entry in pairs(after) do
    local was = before[set]
    if not was or was[2] ~= entry[2] or was[1] ~= entry[1] then redis.call('ZADD', set, entry[1], entry[2]) end
  end
end

local function save(id, job)
  local before = stored[id] or { entries = {} }
  local after = { entries = entriesOf(id, job), failed = job.state == 'failed' and job or nil }
  moveEntries(before.entries, after.entries)
  redis.call('HSET', key.jobs, id, encode(job))
  if before.failed and not after.failed then countDead(before.failed, -1) end
  if after.failed and not before.failed then countDead(job, 1) end
  stored[id], latest[id] = after, job
end

-- Removes a loaded job for good.
local function remove(id)
  local before = stored[id]
  if before then
    moveEntries(before.entries, {})
    if before.failed then countDead(before.failed, -1) end
  end
  redis.call('HDEL', key.jobs, id)
  redis.call('HDEL', key.data, id)
  stored[id], latest[id] = nil, nil
end

-- Ends and waits ------------------------------------------------------------------------------------------------------

-- Ends a job that waits or runs.
local function finish(id, job, state)
  job.state, job.ended_at, job.place = state, now, nextSequence()
  job.available_at, job.waits_for, job.token, job.lease_until, job.stage, job.line_place = nil, nil, nil, nil, nil, nil
  if state ~= 'failed' then redis.call('HDEL', key.data, id) end
  redis.call('HINCRBY', key.meta, state, 1)
  save(id, job)
end

-- Dead-letters a job whose record or payload can't be read.
local function bury(id)
  local job = load(id)
  if not job then
    for _, set in ipairs(WAITING) do redis.call('ZREM', set, id) end
    redis.call('ZREM', key.processing, id)
    job = { key = '', product = '', image = '', priority = 'normal', max_attempts = 0, version = 0, sequence = 0,
      enqueued_at = now }
  end
  job.error, job.inline_bytes = cjson.decode(ERROR_UNREADABLE), nil
  redis.call('HDEL', key.data, id)
  finish(id, job, 'failed')
end

local function isNewer(job, other)
  return job.version > other.version or job.version == other.version and job.sequence > other.sequence
end

-- When a job is due: 0 for one that runs, is in line, or waits for its host or image.
local function dueOf(job)
  return job.available_at and job.available_at > now and job.available_at or 0
end

-- The other jobs of the product image that have not ended: a list of { id, job }.
local function siblingsOf(id, job)
  local prefix = imagePrefix(job, 'live')
  local members = redis.call('ZRANGE', key.images, '[' .. prefix, '(' .. prefix:sub(1, -2) .. '\1', 'BYLEX')
  local siblings = {}
  for _, member in ipairs(members) do
    local other = member:sub(#prefix + 1)
    local sibling = other ~= id and load(other)
    if sibling and sibling.state and not hasEnded(sibling) then
      siblings[#siblings + 1] = { id = other, job = sibling }
    elseif other ~= id then
      redis.call('ZREM', key.images, member)
    end
  end
  return siblings
end

-- What stays of a waiting job that a newer one replaces: its priority and its crashes.
local function inherit(job, replaced)
  if RANKS[replaced.priority] < RANKS[job.priority] then job.priority = replaced.priority end
  if replaced.crashes then job.crashes = math.max(job.crashes or 0, replaced.crashes) end
end

-- Lets a job wait until it is due, then in line; or behind its image's running job. The newest of an image wins:
-- the job ends as cancelled when a newer one is due no later, and cancels older ones that are due no sooner.
-- Returns whether it waits.
local function wait(id, job)
  local due, running, replaced = dueOf(job), false, {}
  for _, other in ipairs(siblingsOf(id, job)) do
    local isRunning = other.job.state == 'processing'
    if isNewer(other.job, job) and dueOf(other.job) <= due and not (isRunning and other.job.cancel) then
      finish(id, job, 'cancelled')
      return false
    end
    running = running or isRunning
    if not isRunning and isNewer(job, other.job) and dueOf(other.job) >= due then replaced[#replaced + 1] = other end
  end
  for _, other in ipairs(replaced) do
    job.place = math.min(job.place, other.job.place)
    inherit(job, other.job)
    finish(other.id, other.job, 'cancelled')
  end
  job.token, job.lease_until, job.stage, job.ended_at = nil, nil, nil, nil
  if due > 0 then
    job.state, job.waits_for = 'delayed', nil
  else
    job.available_at = nil
    if running then job.waits_for = 'image' end
    job.state = job.waits_for == 'host' and 'delayed' or 'queued'
  end
  save(id, job)
  return true
end

-- The running job of an image has ended: its follow-up gets in line. After a crash the others are suspects too.
local function freeFollowUp(id, job, crashes)
  for _, other in ipairs(siblingsOf(id, job)) do
    if other.job.waits_for == 'image' or crashes then
      if other.job.waits_for == 'image' then other.job.waits_for = nil end
      if crashes then other.job.crashes = math.max(other.job.crashes or 0, crashes) end
      save(other.id, other.job)
    end
  end
end

-- Adds the attempt that just ended to a running job's history, and its time to the time under leases.
local function endAttempt(job, outcome, endedAt, failure)
  local history = job.history or {}
  history[#history + 1] = {
    started_at = job.started_at, ended_at = endedAt, worker = job.worker, outcome = outcome, error = failure,
  }
  if #history > MAX_HISTORY then table.remove(history, 1) end
  job.history = history
  job.leased_ms = (job.leased_ms or 0) + math.max(0, endedAt - job.started_at)
  job.place, job.line_place = job.line_place, nil
end

-- A running job has to wait again.
local function requeue(id, job, crashes)
  if job.cancel then finish(id, job, 'cancelled') else wait(id, job) end
  if hasEnded(job) then freeFollowUp(id, job, crashes) end
end

-- Delayed jobs whose time has come get in line. Returns whether there may be more.
local PROMOTED_PER_CALL = 500
local function promoteDelayed()
  local last = digits(now * 1000 + 999)
  local due = redis.call('ZRANGE', key.delayed, '-inf', last, 'BYSCORE', 'LIMIT', 0, PROMOTED_PER_CALL)
  for _, id in ipairs(due) do
    local job = load(id)
    if not job then
      bury(id)
    elseif placeOf(job) == key.delayed then
      wait(id, job)
    else
      redis.call('ZREM', key.delayed, id)
    end
  end
  return #due == PROMOTED_PER_CALL
end

-- Reading -------------------------------------------------------------------------------------------------------------

local function countPending()
  local pending = redis.call('ZCARD', key.processing)
  for _, set in ipairs(WAITING) do pending = pending + redis.call('ZCARD', set) end
  return pending
end

-- How many are served before a job, plus one; -1 when it is not in line.
local function positionOf(id, job)
  local set = placeOf(job)
  local rank = set ~= key.followups and job.state == 'queued' and redis.call('ZRANK', set, id)
  if not rank then return -1 end
  if set == LINES[2] or set == LINES[3] then rank = rank + redis.call('ZCARD', LINES[1]) end
  if set == LINES[3] then rank = rank + redis.call('ZCARD', LINES[2]) end
  return rank + 1
end

-- Wakes idle workers, which listen to a channel of the name of META. A user of Redis without the right to publish only loses that.
local function announceWork()
  redis.pcall('PUBLISH', key.meta, '1')
end

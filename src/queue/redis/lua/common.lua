-- Shared by all scripts: the clock, and a job as a record. scripts.ts puts `key` (the names in KEYS) and the constants
-- of the port before it.
--
-- JOBS holds each job as JSON, DATA its payload, which no script reads. These fields are always there: state, key,
-- product, image, priority, max_attempts, version, sequence, enqueued_at. The others are absent until they apply.
-- Version, sequence and place have 16 digits, more than cjson writes: they are strings.
-- `callbacks` are the addresses, { url, host }, that the end of the job is reported to, by a job of its own: that one has
-- `delivers`, { job, url, state }, and no key, since it belongs to no image. Its payload is the record of the ended job.
-- `place` orders the jobs of a state: the microsecond at which its turn came or will come, or at which it was claimed
-- (`line_place` has its place in line then) or ended; absent when that is its sequence.
-- { alias_of, version, sequence, superseded } stands for an id whose data another job took.
--
-- Which sorted sets a job is in follows from its record: see toStored.

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

local function append(list, a, b, c)
  local n = #list
  list[n + 1], list[n + 2], list[n + 3] = a, b, c
end

-- Commands of many values go in parts, of whole pairs: Lua's stack holds some 8,000 values.
local PART = 4000
local function send(command, set, values)
  for first = 1, #values, PART do
    redis.call(command, set, unpack(values, first, math.min(first + PART - 1, #values)))
  end
end

local function collect(command, set, values)
  local replies = {}
  for first = 1, #values, PART do
    local part = redis.call(command, set, unpack(values, first, math.min(first + PART - 1, #values)))
    for i = 1, #part do replies[#replies + 1] = part[i] end
  end
  return replies
end

-- Records -------------------------------------------------------------------------------------------------------------

local function encode(job)
  local place = job.place
  if place == job.sequence then job.place = nil end
  local text = cjson.encode(job)
  job.place = place
  return text
end

-- The job, or nil when the text is not a record.
local function decode(text)
  local ok, job = pcall(cjson.decode, text)
  if not ok or type(job) ~= 'table' then return nil end
  local isJob = job.state and (job.key or job.delivers) and job.product and RANKS[job.priority]
  if not (job.alias_of or isJob) or not tonumber(job.version) or not tonumber(job.sequence) then return nil end
  job.place = job.place or job.sequence
  return job
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

-- How IMAGES finds the jobs of a product image: those that have not ended, and its dead letters.
local function imagePrefix(job, kind)
  return cjson.encode(job.product) .. NUL .. job.key .. NUL .. kind .. NUL
end

-- Loading and saving --------------------------------------------------------------------------------------------------
-- What a script changes is kept until flush writes it together, which is faster, and leaves nothing half done when the
-- script fails before. What reads a sorted set that this script may have changed flushes first.

-- By id: the job as this script left it (false: there is none, or it is unreadable), and how it is stored.
local jobs, stored = {}, {}
-- Whether this script made a job wait: it may be claimable, or due at some time.
local mayHaveWork = false
local changedJobs, changedImages, payloads, totals, lastSequence = {}, {}, {}, {}, nil

-- A record as text, and the entries that follow from it: its id in a set by score, and in others by itself.
local function toStored(id, job, text)
  if not job then return { text = text } end
  local set, score = placeOf(job)
  local is = { text = text, job = job, set = set, score = score, delivery = job.delivers and id }
  if set == key.failed then
    is.kind, is.inlineBytes = 'dead', job.inline_bytes
    is.failed = job.error.code .. NUL .. job.place .. NUL .. id
  elseif not job.alias_of and not hasEnded(job) then
    is.kind = 'live'
    if set == key.parked then is.parked = job.host .. NUL .. RANKS[job.priority] .. job.place .. NUL .. id end
  end
  return is
end

local function admit(id, text)
  local job = text and decode(text) or false
  jobs[id], stored[id] = job, toStored(id, job, text)
end

-- Reads several jobs at once.
local function prefetch(ids)
  local unknown = {}
  for _, id in ipairs(ids) do
    if jobs[id] == nil then unknown[#unknown + 1] = id end
  end
  local texts = collect('HMGET', key.jobs, unknown)
  for i, id in ipairs(unknown) do admit(id, texts[i]) end
end

local function load(id)
  if jobs[id] == nil then admit(id, redis.call('HGET', key.jobs, id)) end
  return jobs[id] or nil
end

local function save(id, job)
  jobs[id], changedJobs[id] = job, true
  if stored[id].kind ~= 'live' and job.key then changedImages[job.key] = true end
end

-- Removes a loaded job for good.
local function remove(id)
  jobs[id], changedJobs[id], payloads[id] = false, true, false
end

local function count(total, by)
  totals[total] = (totals[total] or 0) + by
end

-- Numbers that only grow, as text: the clock's microseconds, or one more than the last.
local function nextSequence()
  lastSequence = lastSequence or tonumber(redis.call('HGET', key.meta, 'sequence') or 0)
  lastSequence = math.max(lastSequence + 1, micros)
  return digits(lastSequence)
end

-- Moves an entry between sorted sets; nil where there is none.
local left, entered = {}, {}
local function move(fromSet, fromMember, toSet, score, toMember)
  if fromMember then
    left[fromSet] = left[fromSet] or {}
    append(left[fromSet], fromMember)
  end
  if toMember then
    entered[toSet] = entered[toSet] or {}
    append(entered[toSet], score, toMember)
  end
end

local function imageEntry(id, was)
  return was.kind and was.job.key and imagePrefix(was.job, was.kind) .. id or nil
end

local function flush()
  local texts, removed, packed, unpacked = {}, {}, {}, {}
  for id in pairs(changedJobs) do
    local job, was = jobs[id], stored[id]
    local is = toStored(id, job, job and encode(job))
    if job then append(texts, id, is.text) else append(removed, id) end
    if was.set ~= is.set then
      move(was.set, was.set and id, is.set, is.score, is.set and id)
    elseif was.score ~= is.score then
      move(nil, nil, is.set, is.score, id)
    end
    if was.kind ~= is.kind then move(key.images, imageEntry(id, was), key.images, 0, imageEntry(id, is)) end
    if was.parked ~= is.parked then move(key.parked_by_host, was.parked, key.parked_by_host, 0, is.parked) end
    if was.failed ~= is.failed then move(key.failed_by_code, was.failed, key.failed_by_code, 0, is.failed) end
    if was.delivery ~= is.delivery then
      move(key.deliveries, was.delivery, key.deliveries, is.delivery and job.sequence, is.delivery)
    end
    if was.inlineBytes ~= is.inlineBytes then
      move(key.failed_inline, was.inlineBytes and id, key.failed_inline, is.score, is.inlineBytes and id)
      count('dead_inline_bytes', (is.inlineBytes or 0) - (was.inlineBytes or 0))
    end
    stored[id] = is
  end
  for set, members in pairs(left) do send('ZREM', set, members) end
  for set, members in pairs(entered) do send('ZADD', set, members) end
  send('HSET', key.jobs, texts)
  send('HDEL', key.jobs, removed)
  for id, payload in pairs(payloads) do
    if payload then append(packed, id, payload) else append(unpacked, id) end
  end
  send('HSET', key.data, packed)
  send('HDEL', key.data, unpacked)
  for total, by in pairs(totals) do redis.call('HINCRBY', key.meta, total, by) end
  if lastSequence then redis.call('HSET', key.meta, 'sequence', digits(lastSequence)) end
  changedJobs, changedImages, payloads, totals, lastSequence, left, entered = {}, {}, {}, {}, nil, {}, {}
end

-- Wakes idle workers, which listen to the channel of the name of META. A user of Redis without the right to publish
-- loses only that.
local function wakeWorkers()
  redis.pcall('PUBLISH', key.meta, '1')
end

-- Ends and waits ------------------------------------------------------------------------------------------------------

-- A UUID of version 7 that only this seed makes.
local function toUuid(seed)
  local hash = redis.sha1hex(seed)
  local high, low = math.floor(now / 65536), now % 65536
  return string.format('%08x-%04x-7%s-8%s-%s', high, low, hash:sub(1, 3), hash:sub(4, 6), hash:sub(7, 18))
end

-- Adds a delivery to each address that wants to hear of the end of a job. Nothing stands between an end and its
-- delivery: both are stored by the same script, and a repeated one ends nothing.
local function reportEnd(id, job)
  for _, callback in ipairs(job.callbacks or {}) do
    local sequence, delivery = nextSequence(), toUuid(id .. job.place .. callback.url)
    load(delivery)
    payloads[delivery], mayHaveWork = encode(job), true
    save(delivery, {
      state = 'queued', delivers = { job = id, url = callback.url, state = job.state }, host = callback.host,
      product = job.product, image = job.image, priority = 'high', max_attempts = DELIVERY_ATTEMPTS,
      version = sequence, sequence = sequence, place = sequence, enqueued_at = now,
    })
  end
end

-- Ends a job: one that waits or runs, or a dead letter, whose failure was reported before.
local function finish(id, job, state)
  local wasEnded = hasEnded(job)
  job.state, job.ended_at, job.place = state, now, nextSequence()
  job.available_at, job.waits_for = nil, nil
  job.token, job.lease_until, job.stage, job.line_place = nil, nil, nil, nil
  if state ~= 'failed' then payloads[id] = false end
  if not job.delivers then count(state, 1) end
  save(id, job)
  if not wasEnded then reportEnd(id, job) end
end

-- Dead-letters a job whose record or payload can't be read.
local function bury(id)
  local job = load(id)
  if not job then
    for _, set in ipairs(WAITING) do redis.call('ZREM', set, id) end
    redis.call('ZREM', key.processing, id)
    redis.call('ZREM', key.deliveries, id)
    job = { key = '', product = '', image = '', priority = 'normal', max_attempts = 0, version = '0', sequence = '0',
      enqueued_at = now }
  end
  job.error, job.inline_bytes = cjson.decode(ERROR_UNREADABLE), nil
  payloads[id] = false
  finish(id, job, 'failed')
end

-- A job that a sorted set names. An entry that does not belong there goes, and an unreadable record is dead-lettered.
local function loadFrom(set, id)
  local job = load(id)
  if job and placeOf(job) == set then return job end
  if stored[id].text and not job then bury(id) else redis.call('ZREM', set, id) end
  return nil
end

local function isNewer(job, other)
  local version, otherVersion = tonumber(job.version), tonumber(other.version)
  if version == otherVersion then return tonumber(job.sequence) > tonumber(other.sequence) end
  return version > otherVersion
end

-- The place of a job that is due at an instant. Of one millisecond they keep their order, and mostly differ.
local function placeAt(availableAt, job)
  return digits(availableAt * 1000 + tonumber(job.sequence) % 1000)
end

-- When a job is due: 0 for one that runs, is in line, or waits for its host or image.
local function dueOf(job)
  return job.available_at and job.available_at > now and job.available_at or 0
end

-- The other jobs of the product image that have not ended: a list of { id, job }.
local function siblingsOf(id, job)
  if not job.key then return {} end
  if changedImages[job.key] then flush() end
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

-- Lets a job wait for its image's running one, whose record says so: then nobody else looks for a follow-up.
local function follow(job, running)
  job.waits_for, running.job.followed = 'image', true
  save(running.id, running.job)
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
  local due, running, replaced = dueOf(job), nil, {}
  for _, other in ipairs(siblingsOf(id, job)) do
    local isRunning = other.job.state == 'processing'
    if isNewer(other.job, job) and dueOf(other.job) <= due and not (isRunning and other.job.cancel) then
      finish(id, job, 'cancelled')
      return false
    end
    running = isRunning and other or running
    if not isRunning and isNewer(job, other.job) and dueOf(other.job) >= due then replaced[#replaced + 1] = other end
  end
  for _, other in ipairs(replaced) do
    if tonumber(other.job.place) < tonumber(job.place) then job.place = other.job.place end
    inherit(job, other.job)
    finish(other.id, other.job, 'cancelled')
  end
  job.token, job.lease_until, job.stage, job.ended_at = nil, nil, nil, nil
  if due > 0 then
    job.state, job.waits_for = 'delayed', nil
  else
    job.available_at = nil
    if running then follow(job, running) end
    job.state = job.waits_for == 'host' and 'delayed' or 'queued'
  end
  mayHaveWork = true
  save(id, job)
  return true
end

-- The running job of an image has ended: its follow-up gets in line. After a crash the others are suspects too.
local function freeFollowUp(id, job, crashes)
  if not job.followed and not crashes then return end
  job.followed, mayHaveWork = nil, true
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
  job.place, job.line_place = job.line_place or job.place, nil
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
  prefetch(due)
  for _, id in ipairs(due) do
    local job = loadFrom(key.delayed, id)
    if job then wait(id, job) end
  end
  if #due > 0 then flush() end
  return #due == PROMOTED_PER_CALL
end

-- Reading -------------------------------------------------------------------------------------------------------------

local function countPending()
  local pending = redis.call('ZCARD', key.processing)
  for _, set in ipairs(WAITING) do pending = pending + redis.call('ZCARD', set) end
  return pending
end

-- How many are served before a job, plus one; -1 when it is not in line. The last thing a script asks for.
local higher = { [key.suspects] = 0, [LINES[1]] = 0 }
local function positionOf(id, job)
  local set = placeOf(job)
  local rank = job.state == 'queued' and set ~= key.followups and redis.call('ZRANK', set, id)
  if not rank then return -1 end
  if not higher[set] then
    higher[LINES[2]] = redis.call('ZCARD', LINES[1])
    higher[LINES[3]] = higher[LINES[2]] + redis.call('ZCARD', LINES[2])
  end
  return higher[set] + rank + 1
end


-- Shared by all scripts: the clock, and jobs. Before it come `key` (the names in KEYS) and the constants of the port.
--
-- JOBS holds what a job is, as JSON: key, product, image, host, priority, max_attempts, version, sequence, enqueued_at,
-- inline_bytes, callbacks. Only newer data for its image, which may take its place, change that. STATES holds what became of it, as
-- JSON too; it is absent for a job that is in line and was never claimed. DATA holds its payload, which no script reads.
-- Here a job is its state, and falls back on what it is. Version, sequence and place have 16 digits, more than cjson
-- writes: they are strings. Errors, results and attempts are those of the port, as they are.
-- `callbacks` are the addresses, { url, host }, that the end of the job is reported to, by a job of its own: that one has
-- `delivers`, { job, url, state }, and no key, since it belongs to no image. Its payload is the ended job: what it was
-- and its state as one object.
-- `place` orders the jobs of a state: the microsecond at which its turn came or will come, or at which it was claimed
-- (`line_place` has its place in line then) or ended; absent when that is its sequence.
-- { alias_of, version, sequence, superseded } in JOBS stands for an id whose data another job took.
--
-- Which sorted sets a job is in follows from the job: see toStored.

local clock = redis.call('TIME')
local micros = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local now = math.floor(micros / 1000)

local NUL = '\0'
local RANKS = { high = 1, normal = 2, low = 3 }
local LINES = { key['queued:high'], key['queued:normal'], key['queued:low'] }
local WAITING = { LINES[1], LINES[2], LINES[3], key.suspects, key.followups, key.delayed, key.parked }
local ENDS = { completed = key.completed, failed = key.failed, cancelled = key.cancelled }
-- IMAGES finds the jobs of a product and of an image by their kind: those that have not ended, and dead letters.
local KINDS = { [key.processing] = 'live', [key.failed] = 'dead' }
for _, set in ipairs(WAITING) do KINDS[set] = 'live' end

local function digits(number)
  return string.format('%d', number)
end

local function append(list, a, b)
  local n = #list
  list[n + 1], list[n + 2] = a, b
end

-- Commands of many values go in parts, of whole pairs: Lua's stack holds some 8,000 values.
local PART = 4000
local function send(command, set, values)
  local replies = {}
  for first = 1, #values, PART do
    local reply = redis.call(command, set, unpack(values, first, math.min(first + PART - 1, #values)))
    if #values <= PART then return reply end
    for i, value in ipairs(type(reply) == 'table' and reply or {}) do replies[first + i - 1] = value end
  end
  return replies
end

-- Jobs as text --------------------------------------------------------------------------------------------------------

-- A job that falls back on what it is.
local function newJob(record, state)
  record.state, record.place, record.__index = 'queued', record.place or record.sequence, record
  return setmetatable(state, record)
end

-- Jobs of one claim mostly have the same state: it is read once.
local lastText, lastState
local function decodeState(text)
  if text ~= lastText then lastText, lastState = text, cjson.decode(text) end
  local state = {}
  for field, value in pairs(lastState) do state[field] = value end
  return state
end

-- The job, or nil when the texts are not those of one.
local function decode(text, stateText)
  local ok, record = pcall(cjson.decode, text)
  if not ok or type(record) ~= 'table' or not (record.alias_of or (record.key or record.delivers) and record.product) then
    return nil
  end
  if not stateText then return newJob(record, {}) end
  local ok, state = pcall(decodeState, stateText)
  return ok and newJob(record, state) or nil
end

local function hasEnded(job)
  return ENDS[job.state] ~= nil
end

-- The sorted set that a job waits, runs or has ended in, and its score there.
local function placeOf(job)
  local state, waitsFor = job.state, job.waits_for
  if job.alias_of then return key.aliases, job.place end
  if state == 'processing' then return key.processing, job.lease_until end
  if ENDS[state] then return ENDS[state], job.place end
  if waitsFor then return waitsFor == 'host' and key.parked or key.followups, job.place end
  if state == 'delayed' then return key.delayed, job.place end
  if job.crashes then return key.suspects, job.place end
  return LINES[RANKS[job.priority]], job.place
end

local function imagePrefix(job, kind)
  return cjson.encode(job.product) .. NUL .. job.key .. NUL .. kind .. NUL
end

-- Loading and saving --------------------------------------------------------------------------------------------------
-- What a script changes is kept until flush writes it together, which is faster, and leaves nothing half done when the
-- script fails before. What reads a sorted set that this script may have changed flushes first.

-- By id: a job as this script left it (false: there is none, or it is unreadable), and how it is stored: its texts, and
-- the entries that follow from it, which are its id in a set by score, and in others by themselves.
local loaded = {}
-- Whether this script made a job wait: it may be claimable, or due at some time.
local mayHaveWork = false
-- What flush will write: ids of jobs that changed, images that they are of, totals by their growth, and the arguments of
-- each command by its key.
local changed, changedImages, totals, lastSequence, pending
local COMMANDS = { 'ZREM', 'ZADD', 'HSET', 'HDEL' }
local function reset()
  changed, changedImages, totals, lastSequence, pending = {}, {}, {}, nil, { ZREM = {}, ZADD = {}, HSET = {}, HDEL = {} }
end
reset()

local function put(command, set, a, b)
  local list = pending[command][set]
  if not list then
    list = {}
    pending[command][set] = list
  end
  local n = #list
  list[n + 1] = a
  if b then list[n + 2] = b end
end

local function toEntry(id, job, text, stateText)
  if not job then return { job = false, text = text } end
  local set, score = placeOf(job)
  local entry = { job = job, text = text, state = stateText, set = set, score = score, kind = KINDS[set] }
  entry.delivery = job.delivers and id
  if set == key.parked then
    entry.parked = job.host .. NUL .. RANKS[job.priority] .. job.place .. NUL .. id
  elseif set == key.failed then
    entry.failed = job.error.code .. NUL .. job.place .. NUL .. id
    entry.inlineBytes = job.inline_bytes ~= 0 and job.inline_bytes or nil
  end
  return entry
end

local function admit(id, text, stateText)
  local entry = toEntry(id, text and decode(text, stateText), text, stateText)
  loaded[id] = entry
  return entry
end

-- Reads several jobs at once.
local function prefetch(ids)
  local texts, states = send('HMGET', key.jobs, ids), send('HMGET', key.states, ids)
  for i, id in ipairs(ids) do
    if not loaded[id] then admit(id, texts[i], states[i]) end
  end
end

local function load(id)
  local entry = loaded[id] or admit(id, redis.call('HGET', key.jobs, id), redis.call('HGET', key.states, id))
  return not entry.isRemoved and entry.job or nil
end

local function save(id, job)
  local entry = loaded[id]
  entry.job = job
  if not entry.isChanged then
    entry.isChanged = true
    changed[#changed + 1] = id
  end
  if entry.kind ~= 'live' and job.key then changedImages[job.key] = true end
end

-- Saves a job together with what it is: a new job, or one that exists and becomes another one.
local function create(id, record, state)
  local text = cjson.encode(record)
  local entry, job = loaded[id] or admit(id), newJob(record, state)
  entry.text = text
  put('HSET', key.jobs, id, text)
  save(id, job)
  return job
end

-- Removes a loaded job for good.
local function remove(id)
  save(id, loaded[id].job)
  loaded[id].isRemoved = true
  put('HDEL', key.jobs, id)
  put('HDEL', key.data, id)
end

local function count(total, by)
  totals[total] = (totals[total] or 0) + by
end

-- Numbers that only grow, as text: the clock's microseconds, or one more than the last.
local function nextSequence()
  lastSequence = lastSequence or tonumber(redis.call('HGET', key.meta, 'sequence') or 0)
  lastSequence = lastSequence < micros and micros or lastSequence + 1
  return digits(lastSequence)
end

-- Replaces an entry of a set that is ordered by its members.
local function exchange(set, was, is)
  if was == is then return end
  if was then put('ZREM', set, was) end
  if is then put('ZADD', set, 0, is) end
end

local function imageEntry(id, entry)
  return entry.kind and entry.job.key and imagePrefix(entry.job, entry.kind) .. id or nil
end

local function moveEntries(id, was, is)
  local moves = was.set ~= is.set
  if moves and was.set then put('ZREM', was.set, id) end
  if is.set and (moves or was.score ~= is.score) then put('ZADD', is.set, is.score, id) end
  if was.kind ~= is.kind then exchange(key.images, imageEntry(id, was), imageEntry(id, is)) end
  exchange(key.parked_by_host, was.parked, is.parked)
  exchange(key.failed_by_code, was.failed, is.failed)
  if was.delivery ~= is.delivery then
    if is.delivery then put('ZADD', key.deliveries, is.job.sequence, id) else put('ZREM', key.deliveries, id) end
  end
  if was.inlineBytes ~= is.inlineBytes then
    if is.inlineBytes then put('ZADD', key.failed_inline, is.score, id) else put('ZREM', key.failed_inline, id) end
    count('dead_inline_bytes', (is.inlineBytes or 0) - (was.inlineBytes or 0))
  end
end

local function flush()
  for _, id in ipairs(changed) do
    local was = loaded[id]
    local job = not was.isRemoved and was.job
    local state = job and next(job) and cjson.encode(job) or nil
    if state then put('HSET', key.states, id, state) elseif was.state then put('HDEL', key.states, id) end
    local is = toEntry(id, job, was.text, state)
    moveEntries(id, was, is)
    loaded[id] = is
  end
  if lastSequence then put('HSET', key.meta, 'sequence', digits(lastSequence)) end
  for _, command in ipairs(COMMANDS) do
    for set, values in pairs(pending[command]) do send(command, set, values) end
  end
  for total, by in pairs(totals) do redis.call('HINCRBY', key.meta, total, by) end
  reset()
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

-- What a job is and its state, as one text.
local function encodeWhole(job)
  local whole = {}
  for field, value in pairs(job.__index) do whole[field] = value end
  for field, value in pairs(job) do whole[field] = value end
  whole.__index = nil
  return cjson.encode(whole)
end

-- Adds a delivery to each address that wants to hear of the end of a job. Nothing stands between an end and its
-- delivery: both are stored by the same script, and a repeated one ends nothing.
local function reportEnd(id, job)
  for _, callback in ipairs(job.callbacks or {}) do
    local sequence, delivery = nextSequence(), toUuid(id .. job.place .. callback.url)
    put('HSET', key.data, delivery, encodeWhole(job))
    create(delivery, {
      delivers = { job = id, url = callback.url, state = job.state }, host = callback.host, product = job.product,
      image = job.image, priority = 'high', max_attempts = DELIVERY_ATTEMPTS, version = sequence, sequence = sequence,
      enqueued_at = now,
    }, {})
    mayHaveWork = true
  end
end

-- Ends a job: one that waits or runs, or a dead letter, whose failure was reported before.
local function finish(id, job, state)
  local wasEnded = hasEnded(job)
  job.state, job.place = state, nextSequence()
  job.available_at, job.waits_for, job.line_place = nil, nil, nil
  job.token, job.lease_until, job.stage = nil, nil, nil
  if state ~= 'failed' then put('HDEL', key.data, id) end
  if not job.delivers then count(state, 1) end
  save(id, job)
  if not wasEnded then reportEnd(id, job) end
end

-- Dead-letters a job whose texts or payload can't be read.
local function bury(id)
  local job = load(id)
  if not job then
    for _, set in ipairs(WAITING) do redis.call('ZREM', set, id) end
    redis.call('ZREM', key.processing, id)
    redis.call('ZREM', key.deliveries, id)
    job = create(id, { key = '', product = '', image = '', priority = 'normal', max_attempts = 0, version = '0',
      sequence = '0', enqueued_at = now }, {})
  end
  job.error, job.inline_bytes = cjson.decode(ERROR_UNREADABLE), 0
  put('HDEL', key.data, id)
  finish(id, job, 'failed')
end

-- A job that a sorted set names. An entry that does not belong there goes, and an unreadable job is dead-lettered.
local function loadFrom(set, id)
  local job = load(id)
  if job and placeOf(job) == set then return job end
  if not job and loaded[id].text then bury(id) else redis.call('ZREM', set, id) end
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

-- The other jobs of the product image that have not ended: a list of { id, job }. Then the prefix of their entries.
local function siblingsOf(id, job)
  if not job.key then return {} end
  if changedImages[job.key] then flush() end
  local prefix = imagePrefix(job, 'live')
  local members = redis.call('ZRANGE', key.images, '[' .. prefix, '(' .. prefix:sub(1, -2) .. '\1', 'BYLEX')
  local siblings = {}
  for _, member in ipairs(members) do
    local other = member:sub(#prefix + 1)
    local sibling = other ~= id and load(other)
    if sibling and not sibling.alias_of and not hasEnded(sibling) then
      siblings[#siblings + 1] = { id = other, job = sibling }
    elseif other ~= id then
      redis.call('ZREM', key.images, member)
    end
  end
  return siblings, prefix
end

-- Lets a job wait for its image's running one, whose state says so: then nobody else looks for a follow-up.
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
  job.token, job.lease_until, job.stage = nil, nil, nil
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
local COUNTED = { retried = 1, failed = 1, cancelled = 1 }
local function endAttempt(job, outcome, endedAt, failure)
  local history = { unpack(job.history or {}) }
  history[#history + 1] = {
    startedAt = job.started_at, endedAt = endedAt, workerId = job.worker, outcome = outcome, error = failure,
  }
  if #history > MAX_HISTORY then table.remove(history, 1) end
  job.history, job.redelivered = history, true
  job.attempts = (job.attempts or 0) + (COUNTED[outcome] or 0)
  job.leased_ms = (job.leased_ms or 0) + math.max(0, endedAt - job.started_at)
  -- Absent: its sequence is its place in line.
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
  prefetch(due)
  for _, id in ipairs(due) do
    local job = loadFrom(key.delayed, id)
    if job then wait(id, job) end
  end
  if #due > 0 then flush() end
  return #due == PROMOTED_PER_CALL
end

-- Slowed hosts --------------------------------------------------------------------------------------------------------
-- While HOSTS has a record of a host that asked to slow down, its jobs are claimed out of PARKED, in order, at the rate
-- of the record: { per_second, next_at (ms), slowed_at (µs), ceiling }. HOST_TURNS has the hosts with parked jobs by the
-- time of their next one.
--
-- The rate doubles each second until the host asks again, is halved then, and from there on looks for the highest rate
-- that the host allows: quickly up to just below the last one that was too high, then slowly.
local FIRST_CUT, LATER_CUT = 0.5, 0.85
local QUICK_STEP, SLOW_STEP = 0.1, 0.01

local function loadHost(name)
  local text = redis.call('HGET', key.hosts, name)
  return text and cjson.decode(text) or nil
end

local function saveHost(name, host)
  redis.call('HSET', key.hosts, name, cjson.encode(host))
end

local function newHost()
  return { per_second = HOST_START_PER_SECOND, next_at = now, slowed_at = digits(micros) }
end

-- A host asked to slow down for a job. Of the jobs that ran at once only the first one changes the rate.
local function slowDown(name, claimedAt, delayMs)
  local host = loadHost(name)
  if not host then
    host = newHost()
  elseif claimedAt > tonumber(host.slowed_at) then
    local cut = host.ceiling and LATER_CUT or FIRST_CUT
    host.ceiling, host.slowed_at = host.per_second, digits(micros)
    host.per_second = math.max(HOST_MIN_PER_SECOND, host.per_second * cut)
  end
  host.next_at = math.max(host.next_at, now + delayMs)
  saveHost(name, host)
  redis.call('ZADD', key.host_turns, host.next_at, name)
end

-- A slowed host served a job that was claimed since it asked.
local function speedUp(name, claimedAt)
  local host = loadHost(name)
  if not host or claimedAt <= tonumber(host.slowed_at) then return end
  local step = 1
  if host.ceiling then step = host.per_second < 0.9 * host.ceiling and QUICK_STEP or SLOW_STEP end
  host.per_second = host.per_second + step
  saveHost(name, host)
end

-- Reading -------------------------------------------------------------------------------------------------------------

local function countPending()
  local pending = redis.call('ZCARD', key.processing)
  for _, set in ipairs(WAITING) do pending = pending + redis.call('ZCARD', set) end
  return pending
end

-- How many are served before a job, plus one; -1 when it is not in line. The last thing a script asks for.
local higher = { [key.suspects] = 0, [LINES[1]] = 0 }
local function positionIn(set, id)
  local rank = redis.call('ZRANK', set, id)
  if not rank then return -1 end
  if not higher[set] then
    higher[LINES[2]] = redis.call('ZCARD', LINES[1])
    higher[LINES[3]] = higher[LINES[2]] + redis.call('ZCARD', LINES[2])
  end
  return higher[set] + rank + 1
end

local function positionOf(id, job)
  local set = placeOf(job)
  return job.state == 'queued' and set ~= key.followups and positionIn(set, id) or -1
end

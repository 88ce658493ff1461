-- Stores jobs, in order, until one finds no room.
-- ARGV: greatest number of pending jobs (0: no limit), 1 to go on after one that found no room, then for each job its
-- id, key, product, version ('': its sequence will be), priority if it may get in line at once ('': it has delay_ms,
-- at_ms or age_ms, or `cancelled`: it was before it came here), its record without the closing brace, which is completed here, and its payload.
-- Reply: for each job { id, state, position, replaced, superseded, version }, or 0 when it found no room.
local FIRST, WIDTH = 3, 7
local maxPending, goOn = tonumber(ARGV[1]), ARGV[2] == '1'
local pending = maxPending > 0 and countPending() or 0

-- Returns what a new job is and its state, with its sequence and the time at which it is due.
local function stamp(text, version)
  local record = cjson.decode(text .. '}')
  local acceptedAt = now - (record.age_ms or 0)
  record.version = version ~= '' and version or nil
  record.sequence = record.age_ms and digits(micros - math.floor(record.age_ms * 1000)) or nextSequence()
  record.enqueued_at = math.floor(acceptedAt)
  local availableAt = record.at_ms or record.delay_ms and math.ceil(acceptedAt + record.delay_ms)
  record.delay_ms, record.at_ms, record.age_ms = nil, nil, nil
  if not availableAt or availableAt <= now then return record, {} end
  return record, { state = 'delayed', available_at = availableAt, place = placeAt(availableAt, record) }
end

-- A job without an explicit version is newer than all that were enqueued before it.
local function isOutdated(record, other)
  if record.version then return isNewer(other, record) end
  return tonumber(other.sequence) > tonumber(record.sequence)
end

-- The callbacks of two jobs that one stands for from now on: each address once, of too many the last ones.
local function mergeCallbacks(first, second)
  local merged, known = {}, {}
  for _, callbacks in ipairs({ first or {}, second or {} }) do
    for _, callback in ipairs(callbacks) do
      if not known[callback.url] then merged[#merged + 1] = callback end
      known[callback.url] = true
    end
  end
  while #merged > MAX_CALLBACKS do table.remove(merged, 1) end
  return #merged > 0 and merged or nil
end

-- Lets a job report its end to these addresses too.
local function addCallbacks(id, job, callbacks)
  local record = cjson.decode(loaded[id].text)
  record.callbacks = mergeCallbacks(record.callbacks, callbacks)
  create(id, record, job)
end

-- Gives the data of a new job to the first of the waiting ones that it replaces; the others end.
local function mergeInto(replaced, record, state)
  table.sort(replaced, function(a, b) return tonumber(a.job.place) < tonumber(b.job.place) end)
  local id, holder = replaced[1].id, replaced[1].job
  for i, other in ipairs(replaced) do
    if RANKS[other.job.priority] < RANKS[record.priority] then record.priority = other.job.priority end
    if other.job.crashes then state.crashes = math.max(state.crashes or 0, other.job.crashes) end
    if i > 1 then finish(other.id, other.job, 'cancelled') end
  end
  -- A place in line is kept; a place in time, or in the line of another host, is not.
  local keepsPlace = not holder.available_at and not state.available_at
  if keepsPlace then state.place = holder.place end
  if keepsPlace and holder.waits_for == 'host' and holder.host == record.host then
    state.state, state.waits_for = 'delayed', 'host'
  end
  record.enqueued_at, record.callbacks = holder.enqueued_at, mergeCallbacks(holder.callbacks, record.callbacks)
  for _, field in ipairs({ 'history', 'started_at', 'worker', 'settled_token' }) do state[field] = holder[field] end
  return id
end

local function createAlias(id, holder, record, version, superseded)
  local place = nextSequence()
  create(id, { alias_of = holder, version = version, sequence = record.sequence, place = place, superseded = superseded }, {})
end

-- These return the id of the job that carries the data, replaced, superseded, version.

-- Most jobs simply get in line: what follows is what `create` would do for them.
local lines = {}
local function addToLine(id, key_, imagePrefix, version, priority, text, data)
  local sequence = nextSequence()
  if version == '' then version = sequence end
  text = text .. ',"version":"' .. version .. '","sequence":"' .. sequence .. '","enqueued_at":' .. now .. '}'
  lines[id], changedImages[key_] = LINES[RANKS[priority]], true
  put('HSET', key.jobs, id, text)
  put('HSET', key.data, id, data)
  put('ZADD', lines[id], sequence, id)
  put('ZADD', key.images, 0, imagePrefix .. id)
  return id, 0, 0, version
end

local function addCancelled(id, record)
  record.cancelled, record.version = nil, record.version or record.sequence
  finish(id, create(id, record, {}), 'cancelled')
  return id, 0, 0, record.version
end

local function add(id, siblings, record, state, data)
  local due, running, newest, replaced, version = dueOf(state), nil, nil, {}, record.sequence
  for _, other in ipairs(siblings) do
    local isRunning = other.job.state == 'processing'
    local dueNoLater = dueOf(other.job) <= due and not (isRunning and other.job.cancel)
    running = isRunning and other or running
    if not isOutdated(record, other.job) then
      if tonumber(other.job.version) > tonumber(version) then version = other.job.version end
      if not isRunning and dueOf(other.job) >= due then replaced[#replaced + 1] = other end
    elseif dueNoLater and (not newest or isNewer(other.job, newest.job)) then
      newest = other
    end
  end
  if newest then
    if record.callbacks then addCallbacks(newest.id, newest.job, record.callbacks) end
    createAlias(id, newest.id, record, newest.job.version, true)
    return newest.id, 0, 1, newest.job.version
  end
  if #replaced == 0 and maxPending > 0 and pending >= maxPending then return nil end
  pending = pending + 1 - #replaced
  record.version = record.version or version
  local holder = #replaced > 0 and mergeInto(replaced, record, state) or id
  if running and not state.available_at then follow(state, running) end
  put('HSET', key.data, holder, data)
  create(holder, record, state)
  if holder == id then return id, 0, 0, record.version end
  createAlias(id, holder, record, record.version)
  return holder, 1, 0, record.version
end

-- What an earlier call with the same id was answered.
local function recall(id, known)
  if not known.alias_of then return id, 0, 0, known.version end
  local superseded = known.superseded and 1 or 0
  return known.alias_of, 1 - superseded, superseded, known.version
end

local function enqueue(id, jobKey, product, version, priority, text, data)
  local siblings, imagePrefix = siblingsOf(id, { key = jobKey, product = product })
  if #siblings == 0 and priority ~= '' then
    if maxPending > 0 and pending >= maxPending then return nil end
    pending = pending + 1
    return addToLine(id, jobKey, imagePrefix, version, priority, text, data)
  end
  local record, state = stamp(text, version)
  if record.cancelled then return addCancelled(id, record) end
  return add(id, siblings, record, state, data)
end

local answers, ids = {}, {}
for at = FIRST, #ARGV, WIDTH do ids[#ids + 1] = ARGV[at] end
local known = send('HMGET', key.jobs, ids)
for i, id in ipairs(ids) do
  local at = FIRST + (i - 1) * WIDTH
  if lines[id] then flush() end
  local carrier, replaced, superseded, version
  if known[i] or loaded[id] or lines[id] then
    carrier, replaced, superseded, version = recall(id, load(id))
  else
    carrier, replaced, superseded, version = enqueue(unpack(ARGV, at, at + WIDTH - 1))
  end
  if not carrier and not goOn then break end
  answers[i] = carrier and { carrier, 'queued', -1, replaced, superseded, version } or 0
end

flush()
-- Where the jobs are now that all are stored. The job of an alias may be gone.
for _, answer in ipairs(answers) do
  local id = answer ~= 0 and answer[1]
  if id and lines[id] and not loaded[id] then
    answer[3] = positionIn(lines[id], id)
  elseif id then
    local job = load(id)
    answer[2], answer[3] = job and job.state or 'failed', job and positionOf(id, job) or -1
  end
end
wakeWorkers()
return answers

-- Stores jobs, in order, until one finds no room.
-- ARGV: greatest number of pending jobs (0: no limit), 1 to go on after one that found no room, then for each job its
-- id, its record and its payload. The record has, until it is stored, delay_ms, at_ms and age_ms instead of times.
-- Reply: for each job { id, state, position, replaced, superseded, version }, or 0 when it found no room.
local FIRST, WIDTH = 3, 3
local maxPending, goOn = tonumber(ARGV[1]), ARGV[2] == '1'
local pending = maxPending > 0 and countPending() or 0

-- What a new job is, once it has its sequence, and its state.
local function stamp(record)
  local acceptedAt = now - (record.age_ms or 0)
  record.sequence = record.age_ms and digits(micros - math.floor(record.age_ms * 1000)) or nextSequence()
  record.enqueued_at = math.floor(acceptedAt)
  local availableAt = record.at_ms or record.delay_ms and math.ceil(acceptedAt + record.delay_ms)
  record.delay_ms, record.at_ms, record.age_ms = nil, nil, nil
  if not availableAt or availableAt <= now then return {} end
  return { state = 'delayed', available_at = availableAt, place = placeAt(availableAt, record) }
end

-- A job without an explicit version is newer than all that were enqueued before it.
local function isOutdated(record, other)
  if record.version then return isNewer(other, record) end
  return tonumber(other.sequence) > tonumber(record.sequence)
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
  record.enqueued_at = holder.enqueued_at
  for _, field in ipairs({ 'history', 'started_at', 'worker', 'settled_token' }) do state[field] = holder[field] end
  return id
end

local lines = {}

-- Most jobs get in line and meet no other of their image: what follows is what save would do for them.
local function addFresh(id, record, data, imagePrefix)
  record.version = record.version or record.sequence
  lines[id], changedImages[record.key] = LINES[RANKS[record.priority]], true
  put('HSET', key.jobs, id, cjson.encode(record))
  put('HSET', key.data, id, data)
  put('ZADD', lines[id], record.sequence, id)
  put('ZADD', key.images, 0, imagePrefix .. id)
  return id, 0, 0, record.version
end

-- Returns the id of the job that carries the data, replaced, superseded, version; or nil when there is no room.
local function add(id, record, data)
  local state = stamp(record)
  local siblings, imagePrefix = siblingsOf(id, record)
  if #siblings == 0 and not state.state then
    if maxPending > 0 and pending >= maxPending then return nil end
    pending = pending + 1
    return addFresh(id, record, data, imagePrefix)
  end
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
    local alias = { alias_of = newest.id, superseded = true, version = newest.job.version }
    alias.sequence, alias.place = record.sequence, nextSequence()
    create(id, alias, {})
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
  local alias = { alias_of = holder, version = record.version, sequence = record.sequence, place = nextSequence() }
  create(id, alias, {})
  return holder, 1, 0, record.version
end

-- What an earlier call with the same id was answered.
local function recall(id, known)
  if not known.alias_of then return id, 0, 0, known.version end
  local superseded = known.superseded and 1 or 0
  return known.alias_of, 1 - superseded, superseded, known.version
end

local answers, ids = {}, {}
for at = FIRST, #ARGV, WIDTH do ids[#ids + 1] = ARGV[at] end
local known = send('HMGET', key.jobs, ids)
for i, id in ipairs(ids) do
  local at = FIRST + (i - 1) * WIDTH
  if lines[id] then flush() end
  local carrier, replaced, superseded, version
  if known[i] or lines[id] or loaded[id] then
    carrier, replaced, superseded, version = recall(id, load(id))
  else
    carrier, replaced, superseded, version = add(id, cjson.decode(ARGV[at + 1]), ARGV[at + 2])
  end
  if not carrier and not goOn then break end
  answers[#answers + 1] = carrier and { carrier, '', -1, replaced, superseded, version } or 0
end

flush()
-- Where the jobs are now that all are stored. The job of an alias may be gone.
for _, answer in ipairs(answers) do
  local line = answer ~= 0 and not loaded[answer[1]] and lines[answer[1]]
  local job = answer ~= 0 and not line and load(answer[1])
  if line then
    answer[2], answer[3] = 'queued', positionIn(line, answer[1])
  elseif job then
    answer[2], answer[3] = job.state, positionOf(answer[1], job)
  elseif answer ~= 0 then
    answer[2] = 'failed'
  end
end
wakeWorkers()
return answers

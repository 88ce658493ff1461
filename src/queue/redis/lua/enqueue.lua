-- Stores jobs, in order, until one finds no room.
-- ARGV: greatest number of pending jobs (0: no limit), 1 to go on after one that found no room, then for each job its
-- id, its record and its payload. The record has, until it is stored, delay_ms, at_ms and age_ms instead of times, and
-- `cancelled` when it was cancelled before it came here.
-- Reply: for each job { id, state, position, replaced, superseded, version }, or 0 when it found no room.
local FIRST, WIDTH = 3, 3
local maxPending, goOn = tonumber(ARGV[1]), ARGV[2] == '1'
local pending = maxPending > 0 and countPending() or 0

-- Gives a new job its sequence and the time at which it is due.
local function stamp(job)
  local acceptedAt = now - (job.age_ms or 0)
  job.sequence = job.age_ms and digits(micros - math.floor(job.age_ms * 1000)) or nextSequence()
  job.place = job.sequence
  job.enqueued_at = math.floor(acceptedAt)
  local availableAt = job.at_ms or job.delay_ms and math.ceil(acceptedAt + job.delay_ms)
  if availableAt and availableAt > now then
    job.available_at = availableAt
    job.place = placeAt(availableAt, job)
  end
  job.delay_ms, job.at_ms, job.age_ms = nil, nil, nil
end

-- A job without an explicit version is newer than all that were enqueued before it.
local function isOutdated(job, other)
  if job.version then return isNewer(other, job) end
  return tonumber(other.sequence) > tonumber(job.sequence)
end

-- The callbacks of two jobs that one stands for from now on: each address once, of too many the last ones.
local function mergeCallbacks(first, second)
  local merged, known = first or {}, {}
  for _, callback in ipairs(merged) do known[callback.url] = true end
  for _, callback in ipairs(second or {}) do
    if not known[callback.url] then merged[#merged + 1] = callback end
  end
  while #merged > MAX_CALLBACKS do table.remove(merged, 1) end
  return #merged > 0 and merged or nil
end

-- Gives the data of a new job to the first of the waiting ones that it replaces; the others end.
local function mergeInto(replaced, job)
  table.sort(replaced, function(a, b) return tonumber(a.job.place) < tonumber(b.job.place) end)
  local id, holder = replaced[1].id, replaced[1].job
  for i, other in ipairs(replaced) do
    inherit(job, other.job)
    if i > 1 then finish(other.id, other.job, 'cancelled') end
  end
  -- A place in line is kept; a place in time, or in the line of another host, is not.
  local keepsPlace = not holder.available_at and not job.available_at
  if keepsPlace then job.place = holder.place end
  if keepsPlace and holder.waits_for == 'host' and holder.host == job.host then job.waits_for = 'host' end
  job.callbacks = mergeCallbacks(holder.callbacks, job.callbacks)
  for _, field in ipairs({ 'enqueued_at', 'history', 'started_at', 'worker', 'settled_token' }) do
    job[field] = holder[field]
  end
  return id
end

-- Returns the id of the job that carries the data, replaced, superseded, version; or nil when there is no room.
local function add(id, job, data)
  stamp(job)
  if job.cancelled then
    job.cancelled, job.version = nil, job.version or job.sequence
    finish(id, job, 'cancelled')
    return id, 0, 0, job.version
  end
  local due, running, newest, replaced, version = dueOf(job), nil, nil, {}, job.sequence
  for _, other in ipairs(siblingsOf(id, job)) do
    local isRunning = other.job.state == 'processing'
    local dueNoLater = dueOf(other.job) <= due and not (isRunning and other.job.cancel)
    running = isRunning and other or running
    if not isOutdated(job, other.job) then
      if tonumber(other.job.version) > tonumber(version) then version = other.job.version end
      if not isRunning and dueOf(other.job) >= due then replaced[#replaced + 1] = other end
    elseif dueNoLater and (not newest or isNewer(other.job, newest.job)) then
      newest = other
    end
  end
  if newest then
    local version, place = newest.job.version, nextSequence()
    if job.callbacks then
      newest.job.callbacks = mergeCallbacks(newest.job.callbacks, job.callbacks)
      save(newest.id, newest.job)
    end
    save(id, { alias_of = newest.id, superseded = true, version = version, sequence = job.sequence, place = place })
    return newest.id, 0, 1, newest.job.version
  end
  if #replaced == 0 then
    if maxPending > 0 and pending >= maxPending then return nil end
    pending = pending + 1
  else
    pending = pending - #replaced + 1
  end

  job.version = job.version or version
  local holder = #replaced > 0 and mergeInto(replaced, job) or id
  if running and not job.available_at then follow(job, running) end
  job.state = (job.available_at or job.waits_for == 'host') and 'delayed' or 'queued'
  payloads[holder] = data
  save(holder, job)
  if holder == id then return id, 0, 0, job.version end
  save(id, { alias_of = holder, version = job.version, sequence = job.sequence, place = nextSequence() })
  return holder, 1, 0, job.version
end

-- What an earlier call with the same id was answered.
local function recall(id, known)
  if not known.alias_of then return id, 0, 0, known.version end
  local superseded = known.superseded and 1 or 0
  return known.alias_of, 1 - superseded, superseded, known.version
end

local answers, ids = {}, {}
for at = FIRST, #ARGV, WIDTH do ids[#ids + 1] = ARGV[at] end
prefetch(ids)
for i, id in ipairs(ids) do
  local at = FIRST + (i - 1) * WIDTH
  local known = load(id)
  local carrier, replaced, superseded, version
  if known then
    carrier, replaced, superseded, version = recall(id, known)
  else
    carrier, replaced, superseded, version = add(id, cjson.decode(ARGV[at + 1]), ARGV[at + 2])
  end
  if not carrier and not goOn then break end
  answers[#answers + 1] = carrier and { carrier, '', -1, replaced, superseded, version } or 0
end

flush()
-- Where the jobs are now that all are stored. The job of an alias may be gone.
for _, answer in ipairs(answers) do
  local job = answer ~= 0 and load(answer[1])
  if job then
    answer[2], answer[3] = job.state, positionOf(answer[1], job)
  elseif answer ~= 0 then
    answer[2] = 'failed'
  end
end
wakeWorkers()
return answers

-- What people ask for, and the list of workers. ARGV: the name of an action, and what it says below.
local act = {}

-- Returns whether a job ended at once; a running one is asked to stop.
local function cancelJob(id, job)
  if job.state == 'processing' then
    job.cancel = true
    save(id, job)
    return false
  end
  finish(id, job, 'cancelled')
  return true
end

-- ARGV: id. Reply: cancelled, requested, ended or unknown.
function act.cancel(id)
  local job = load(id)
  if job and job.alias_of then
    -- The job that took its data, unless that carries newer data by now.
    local alias = job
    id = alias.alias_of
    job = load(id)
    if alias.superseded or not job or job.sequence ~= alias.sequence then return 'ended' end
  end
  if not job then return 'unknown' end
  if job.state == 'cancelled' then return 'cancelled' end
  if hasEnded(job) then return 'ended' end
  return cancelJob(id, job) and 'cancelled' or 'requested'
end

-- Cancels every job of a product, or of one image of it, that was enqueued before a deletion. ARGV: its id, greatest
-- number of jobs to look at, sequence of the deletion and the entry to go on after (both '' at first), an image's id or ''.
-- Reply: { sequence, entry to go on after or '' at the end, cancelled, image ids }.
function act.forget(product, limit, sequence, after, image)
  sequence, limit = sequence == '' and nextSequence() or sequence, tonumber(limit)
  local prefix = cjson.encode(product) .. NUL
  local from = after == '' and '[' .. prefix or '(' .. after
  local last = '(' .. prefix:sub(1, -2) .. '\1'
  local members = redis.call('ZRANGE', key.images, from, last, 'BYLEX', 'LIMIT', 0, limit)
  local cancelled, images = 0, {}
  for _, member in ipairs(members) do
    local id = member:match('([^%z]*)$')
    local job = load(id)
    local isMeant = job and (image == '' or job.image == image)
    if isMeant and tonumber(job.sequence) < tonumber(sequence) then
      images[#images + 1] = job.image
      if cancelJob(id, job) then cancelled = cancelled + 1 end
    end
  end
  return { sequence, #members == limit and members[limit] or '', cancelled, images }
end

-- Reply: the next sequence, of a change that cancels nothing.
function act.sequence()
  return nextSequence()
end

local function eachDead(ids, change)
  local changed = 0
  prefetch(ids)
  for _, id in ipairs(ids) do
    local job = load(id)
    if job and job.state == 'failed' and change(id, job) then changed = changed + 1 end
  end
  return changed
end

-- ARGV: ids of dead letters. Reply: how many were.
function act.purge(...)
  return eachDead({ ... }, function(id)
    remove(id)
    return true
  end)
end

-- They come back with their old versions and sequences, so that newer jobs of their images and deletions win.
function act.redrive(...)
  return eachDead({ ... }, function(id, job)
    if redis.call('HEXISTS', key.data, id) == 0 then return false end
    for _, other in ipairs(siblingsOf(id, job)) do
      if other.job.state == 'processing' and not other.job.cancel and isNewer(other.job, job) then
        finish(id, job, 'cancelled')
        return false
      end
    end
    job.attempts, job.crashes, job.cancel, job.leased_ms, job.deferred_at = nil, nil, nil, nil, nil
    job.place = nextSequence()
    return wait(id, job)
  end)
end

-- Removes every job and resets the totals; the pause and the sequence stay. A new epoch hides the remembered answers.
-- Reply: how many jobs there were.
function act.flush()
  local known = redis.call('HLEN', key.jobs) - redis.call('ZCARD', key.aliases)
  for name, set in pairs(key) do
    if name ~= 'meta' and name ~= 'heartbeats' and name ~= 'workers' then redis.call('UNLINK', set) end
  end
  redis.call('HDEL', key.meta, 'completed', 'failed', 'cancelled', 'dead_dropped', 'dead_inline_bytes')
  redis.call('HDEL', key.meta, 'turn', 'repair_cursor')
  redis.call('HINCRBY', key.meta, 'epoch', 1)
  return known
end

function act.pause()
  redis.call('HSET', key.meta, 'paused', 1)
end

function act.resume()
  redis.call('HDEL', key.meta, 'paused')
  mayHaveWork = true
end

-- ARGV: id and report of a worker.
function act.heartbeat(id, report)
  redis.call('HSET', key.workers, id, now .. ' ' .. report)
end

-- ARGV: how many ms a worker stays listed. Reply: for each, its report and the ms since it came.
function act.workers(ttlMs)
  local all, reply = redis.call('HGETALL', key.workers), {}
  for i = 1, #all, 2 do
    local seenAt, report = all[i + 1]:match('^(%d+) (.*)$')
    if now - seenAt < tonumber(ttlMs) then append(reply, report, now - seenAt) else redis.call('HDEL', key.workers, all[i]) end
  end
  return reply
end

local reply = act[ARGV[1]](unpack(ARGV, 2))
flush()
if mayHaveWork then wakeWorkers() end
return reply

-- Takes back expired leases, drops what is kept too long, and repairs some jobs; bounded, to be called until there is no
-- more. ARGV: greatest number of jobs for each of these, lease ms, stale heartbeat ms, outage ms, ended ttl ms, max ended,
-- max dead, max dead inline bytes, cursor of the repair ('': go on where the last call ended).
-- Reply: { 1 when there is more to take or drop, recovered, poisoned, repaired, checked, next cursor }.
local limit, leaseMs, staleMs, outageMs = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local endedTtlMs, maxEnded = tonumber(ARGV[5]), tonumber(ARGV[6])
local maxDead, maxDeadInlineBytes = tonumber(ARGV[7]), tonumber(ARGV[8])
local recovered, poisoned, more = 0, 0, false

-- Nobody called for a while: the queue was unreachable, and workers get a full lease to renew.
local lastReap = tonumber(redis.call('HGET', key.meta, 'last_reap'))
if not lastReap or now - lastReap > outageMs then redis.call('HSET', key.meta, 'reachable_since', now) end
redis.call('HSET', key.meta, 'last_reap', now)
local reachableSince = tonumber(redis.call('HGET', key.meta, 'reachable_since'))

-- A worker that is alive but does not renew a lease never learned of it.
local function isAlive(worker)
  local seenAt = tonumber(redis.call('ZSCORE', key.heartbeats, worker) or nil)
  return seenAt and now - seenAt <= staleMs
end

local function countCrash(id, job, leaseUntil)
  endAttempt(job, 'crashed', leaseUntil)
  job.crashes = (job.crashes or 0) + 1
  if job.crashes < MAX_CRASHES or job.cancel then
    requeue(id, job, job.crashes)
    if not hasEnded(job) then recovered = recovered + 1 end
    return
  end
  job.error = cjson.decode(ERROR_POISON)
  finish(id, job, 'failed')
  freeFollowUp(id, job, job.crashes)
  poisoned = poisoned + 1
end

local function takeBack(id, leaseUntil)
  local job = load(id)
  if not job then
    bury(id)
  elseif job.state ~= 'processing' then
    redis.call('ZREM', key.processing, id)
  else
    job.attempts = job.attempts - 1
    if isAlive(job.worker) then
      endAttempt(job, 'released', leaseUntil)
      requeue(id, job)
      if not hasEnded(job) then recovered = recovered + 1 end
    else
      countCrash(id, job, leaseUntil)
    end
  end
end

local function takeBackExpired()
  if now - reachableSince < leaseMs then return end
  local expired = redis.call('ZRANGE', key.processing, '-inf', now, 'BYSCORE', 'LIMIT', 0, limit, 'WITHSCORES')
  for i = 1, #expired, 2 do takeBack(expired[i], tonumber(expired[i + 1])) end
  more = more or #expired == limit * 2
  redis.call('ZREMRANGEBYSCORE', key.heartbeats, '-inf', now - 10 * (leaseMs + staleMs))
end

-- Drops the first ones of a set that ended before an instant, in microseconds.
local function dropBefore(set, instant, atMost)
  local ids = redis.call('ZRANGE', set, '-inf', digits(instant), 'BYSCORE', 'LIMIT', 0, atMost)
  for _, id in ipairs(ids) do
    load(id)
    remove(id)
    redis.call('ZREM', set, id)
  end
  more = more or #ids == limit
  return #ids
end

-- The place of the entry that is the last of those to drop, so that a number of them stay.
local function placeOfExcess(set, excess)
  return tonumber(redis.call('ZRANGE', set, excess - 1, excess - 1, 'WITHSCORES')[2])
end

local function dropEnded()
  for _, set in ipairs({ key.completed, key.cancelled, key.aliases }) do
    dropBefore(set, micros - endedTtlMs * 1000, limit)
  end
  -- Of too many, the older ones of both sets go, whichever they are in.
  local counts = { [key.completed] = redis.call('ZCARD', key.completed), [key.cancelled] = redis.call('ZCARD', key.cancelled) }
  local excess = math.min(limit, counts[key.completed] + counts[key.cancelled] - maxEnded)
  more = more or excess == limit
  for _ = 1, excess do
    local completedAt, cancelledAt = placeOfExcess(key.completed, 1), placeOfExcess(key.cancelled, 1)
    local isCompleted = completedAt and (not cancelledAt or completedAt < cancelledAt)
    dropBefore(isCompleted and key.completed or key.cancelled, isCompleted and completedAt or cancelledAt, 1)
  end
  local aliases = math.min(limit, redis.call('ZCARD', key.aliases) - maxEnded)
  if aliases > 0 then dropBefore(key.aliases, placeOfExcess(key.aliases, aliases), aliases) end
end

local function dropDead()
  local excess = math.min(limit, redis.call('ZCARD', key.failed) - maxDead)
  if excess > 0 then
    redis.call('HINCRBY', key.meta, 'dead_dropped', dropBefore(key.failed, placeOfExcess(key.failed, excess), excess))
  end
  -- The oldest inline payloads go; their dead letters stay.
  for _ = 1, limit do
    if tonumber(redis.call('HGET', key.meta, 'dead_inline_bytes') or 0) <= maxDeadInlineBytes then return end
    local id = redis.call('ZRANGE', key.failed_inline, 0, 0)[1]
    local job = id and load(id)
    if not job then return end
    redis.call('HDEL', key.data, id)
    redis.call('HINCRBY', key.meta, 'dead_inline_bytes', -job.inline_bytes)
    job.inline_bytes = nil
    save(id, job)
  end
end

-- Puts a job that is missing from a place back there, and one that waits for a running job that is not there in line.
local function repair(id, text)
  local job, repaired = admit(id, text), false
  if not job then
    bury(id)
    return true
  end
  for set, entry in pairs(stored[id].entries) do
    if not redis.call('ZSCORE', set, entry[2]) then
      redis.call('ZADD', set, entry[1], entry[2])
      repaired = true
    end
  end
  if job.waits_for == 'image' then
    job.waits_for = nil
    wait(id, job)
    repaired = repaired or job.waits_for ~= 'image'
  elseif job.waits_for == 'host' then
    redis.call('ZADD', key.host_turns, 'NX', now, job.host)
  end
  return repaired
end

local function repairSome()
  local cursor = ARGV[9] ~= '' and ARGV[9] or redis.call('HGET', key.meta, 'repair_cursor') or '0'
  local reply = redis.call('HSCAN', key.jobs, cursor, 'COUNT', ARGV[9] ~= '' and limit or 10)
  local repaired, found = 0, reply[2]
  for i = 1, #found, 2 do
    if repair(found[i], found[i + 1]) then repaired = repaired + 1 end
  end
  redis.call('HSET', key.meta, 'repair_cursor', reply[1])
  return repaired, #found / 2, reply[1]
end

takeBackExpired()
dropEnded()
dropDead()
local repaired, checked, cursor = repairSome()
if recovered + repaired > 0 then announceWork() end
return { more and 1 or 0, recovered, poisoned, repaired, checked, cursor }

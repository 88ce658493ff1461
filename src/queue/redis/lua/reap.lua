-- Takes back expired leases, drops what is kept too long, and repairs some jobs; bounded, to be called until there is
-- no more. ARGV: greatest number of jobs for each of these, lease ms, stale heartbeat ms, outage ms, ended ttl ms, max
-- ended, max dead, max dead inline bytes, cursor of the repair ('': go on where the last call ended).
-- Reply: { 1 when there is more to take or drop, recovered, poisoned, repaired, checked, next cursor }.
local limit, leaseMs, staleMs, outageMs = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local endedTtlMs, maxEnded = tonumber(ARGV[5]), tonumber(ARGV[6])
local maxDead, maxDeadInlineBytes = tonumber(ARGV[7]), tonumber(ARGV[8])
local recovered, poisoned, more = 0, 0, false

-- Nobody called for a while: the queue was unreachable, and workers get a full lease to renew.
local lastReap, reachableSince = unpack(redis.call('HMGET', key.meta, 'last_reap', 'reachable_since'))
if now - (tonumber(lastReap) or 0) > outageMs then reachableSince = now end
reachableSince = tonumber(reachableSince) or 0
redis.call('HSET', key.meta, 'last_reap', now, 'reachable_since', reachableSince)

-- A worker that is alive but does not renew a lease never learned of it.
local function isAlive(worker)
  local seenAt = tonumber(redis.call('ZSCORE', key.heartbeats, worker) or nil)
  return seenAt and now - seenAt < staleMs
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
  local job = loadFrom(key.processing, id)
  if not job then return end
  if not isAlive(job.worker) then return countCrash(id, job, leaseUntil) end
  endAttempt(job, 'released', leaseUntil)
  requeue(id, job)
  if not hasEnded(job) then recovered = recovered + 1 end
end

local function takeBackExpired()
  if now - reachableSince < leaseMs then return end
  local expired = redis.call('ZRANGE', key.processing, '-inf', now, 'BYSCORE', 'LIMIT', 0, limit, 'WITHSCORES')
  for i = 1, #expired, 2 do takeBack(expired[i], tonumber(expired[i + 1])) end
  more = more or #expired == limit * 2
  redis.call('ZREMRANGEBYSCORE', key.heartbeats, '-inf', now - 10 * (leaseMs + staleMs))
  flush()
end

-- Drops the first ones of a set.
local function drop(set, ids)
  prefetch(ids)
  for _, id in ipairs(ids) do
    if loadFrom(set, id) then remove(id) end
  end
  more = more or #ids == limit
  flush()
  return #ids
end

local function dropOld(set, ttlMs)
  drop(set, redis.call('ZRANGE', set, '-inf', digits(micros - ttlMs * 1000), 'BYSCORE', 'LIMIT', 0, limit))
end

local function dropExcess(set, excess)
  return excess > 0 and drop(set, redis.call('ZRANGE', set, 0, math.min(excess, limit) - 1)) or 0
end

-- Of too many completed and cancelled jobs the oldest go, of either kind.
local function dropExcessEnded()
  local excess = redis.call('ZCARD', key.completed) + redis.call('ZCARD', key.cancelled) - maxEnded
  for _ = 1, math.min(excess, limit) do
    local completed = redis.call('ZRANGE', key.completed, 0, 0, 'WITHSCORES')
    local cancelled = redis.call('ZRANGE', key.cancelled, 0, 0, 'WITHSCORES')
    local isCompleted = completed[2] and (not cancelled[2] or tonumber(completed[2]) < tonumber(cancelled[2]))
    drop(isCompleted and key.completed or key.cancelled, { isCompleted and completed[1] or cancelled[1] })
  end
  more = more or excess > limit
end

-- The oldest inline payloads of dead letters go; the dead letters stay.
local function dropInlinePayloads()
  local excess = tonumber(redis.call('HGET', key.meta, 'dead_inline_bytes') or 0) - maxDeadInlineBytes
  for _, id in ipairs(excess > 0 and redis.call('ZRANGE', key.failed_inline, 0, limit - 1) or {}) do
    local job = load(id)
    if not job or excess <= 0 then break end
    excess = excess - job.inline_bytes
    job.inline_bytes = 0
    put('HDEL', key.data, id)
    save(id, job)
  end
  flush()
end

-- Puts a job that is missing from a place back there, and one that waits for a running job that is not there in line.
local function repair(id)
  if loaded[id] and loaded[id].isChanged then flush() end
  local job, repaired = load(id), false
  if not job then
    bury(id)
    return true
  end
  local is = loaded[id]
  local function restore(set, score, member)
    if member and not redis.call('ZSCORE', set, member) then
      redis.call('ZADD', set, score, member)
      repaired = true
    end
  end
  restore(is.set, is.score, id)
  restore(key.images, 0, imageEntry(id, is))
  restore(key.parked_by_host, 0, is.parked)
  restore(key.failed_by_code, 0, is.failed)
  restore(key.deliveries, job.sequence, is.delivery)
  restore(key.failed_inline, is.score, is.inlineBytes and id)
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
    if repair(found[i]) then repaired = repaired + 1 end
  end
  redis.call('HSET', key.meta, 'repair_cursor', reply[1])
  return repaired, #found / 2, reply[1]
end

takeBackExpired()
dropOld(key.completed, endedTtlMs)
dropOld(key.cancelled, endedTtlMs)
dropOld(key.aliases, ENQUEUE_ID_TTL_MS)
dropExcessEnded()
dropExcess(key.aliases, redis.call('ZCARD', key.aliases) - maxEnded)
count('dead_dropped', dropExcess(key.failed, redis.call('ZCARD', key.failed) - maxDead))
dropInlinePayloads()
local repaired, checked, cursor = repairSome()
flush()
if mayHaveWork or repaired > 0 then wakeWorkers() end
return { more and 1 or 0, recovered, poisoned, repaired, checked, cursor }

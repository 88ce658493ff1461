-- ARGV: greatest number of ended jobs to look at, crashes that make a job poison, the error of poison,
-- how long an ended job is remembered (ms). Gives {1 when there may be more to do, recovered, poisoned}.
local limit, maxCrashes, ttlMs = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[4])

-- The claims that are due. Leases that were renewed make them due again later; without a lease a claim is over.
local MAX_CLAIMS = 10
local due = redis.call('ZRANGE', CLAIMS_DUE, '-inf', now, 'BYSCORE', 'LIMIT', 0, MAX_CLAIMS)
local rawClaims = collect('HMGET', CLAIMS, due)
local expired, later, over = {}, {}, {}
for i = 1, #due do
  local claim = decodeClaim(rawClaims[i])
  local ids, first = claim.ids, claim.keepUntil > now and claim.keepUntil or nil
  local raws = collect('HMGET', LEASES, ids)
  for n = 1, #ids do
    local lease = raws[n] and decodeLease(raws[n])
    if lease and lease.token == due[i] then
      if lease.leaseUntil <= now then
        expired[#expired + 1] = ids[n]
      else
        first = math.min(first or lease.leaseUntil, lease.leaseUntil)
      end
    end
  end
  if first then
    later[#later + 1], later[#later + 2] = first, due[i]
  else
    over[#over + 1] = due[i]
  end
end

local recovered, poisoned = 0, 0
load(expired)
loadSlotsOf(expired)
for i = 1, #expired do
  local id = expired[i]
  local s = jobs[id]
  if s and s.place == 'r' then
    record(s, 'crashed')
    s.attempts, s.crashes = s.attempts - 1, s.crashes + 1
    if s.cancel == 0 and s.crashes >= maxCrashes then
      s.error = ARGV[3]
      vacate(s)
      finish(id, s, 'f')
      poisoned = poisoned + 1
    else
      s.availableAt = 0
      local follower = requeue(id, s)
      if follower ~= '' and s.cancel == 0 then
        -- What crashed may be the same image: the follow-up inherits the suspicion.
        local f = job(follower)
        f.crashes = math.max(f.crashes, s.crashes)
        f.place = lineOf(f)
      elseif s.cancel == 0 then
        recovered = recovered + 1
      end
    end
  end
end

-- What ended long ago is forgotten.
local trims, more = {}, #due == MAX_CLAIMS
for home in pairs(LISTS) do
  local old = redis.call('LRANGE', home, 0, limit - 1)
  local raws, n = collect('HMGET', JOBS, old), 0
  for i = 1, #old do
    -- What is no end, or no more, is only taken off the list.
    local endedAt = raws[i] and tonumber(raws[i]:match('^[cxa]%z(%d+)'))
    if endedAt and endedAt > now - ttlMs then break end
    if endedAt then change(old[i], false) end
    n = i
  end
  trims[home] = n
  more = more or n == limit
end
commit()
send('ZADD', CLAIMS_DUE, later)
send('ZREM', CLAIMS_DUE, over)
send('HDEL', CLAIMS, over)
for home, n in pairs(trims) do
  if n > 0 then redis.call('LTRIM', home, n, -1) end
end
return { more and 1 or 0, recovered, poisoned }

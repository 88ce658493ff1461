-- ARGV: greatest number of leases to look at, crashes that make a job poison, the error of poison,
-- how long an ended job is remembered (ms). Gives {leases looked at, recovered, poisoned, forgotten}.
local limit, maxCrashes, ttlMs = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[4])

local recovered, poisoned = 0, 0
local expired = redis.call('ZRANGE', HOMES.r, '-inf', now, 'BYSCORE', 'LIMIT', 0, limit)
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
        f.used = true
        f.crashes = math.max(f.crashes, s.crashes)
        f.place = lineOf(f)
      elseif s.cancel == 0 then
        recovered = recovered + 1
      end
    end
  end
end

-- What ended long ago is forgotten.
local forgotten = 0
for _, home in ipairs({ HOMES.c, HOMES.a }) do
  local old = redis.call('ZRANGE', home, '-inf', now - ttlMs, 'BYSCORE', 'LIMIT', 0, limit)
  load(old)
  for i = 1, #old do change(old[i], false) end
  forgotten = forgotten + #old
end
commit()
return { #expired, recovered, poisoned, forgotten }

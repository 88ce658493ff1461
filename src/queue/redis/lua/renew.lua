-- Renews leases, and records that the worker is alive. ARGV: worker, lease ms, then id, token and stage of each lease.
-- Reply: 1 renewed, 2 to be cancelled or 0 lost for each.
local WIDTH = 3
local leaseUntil = now + tonumber(ARGV[2])
redis.call('ZADD', key.heartbeats, now, ARGV[1])

local answers, ids, renewed = {}, {}, {}
for at = 3, #ARGV, WIDTH do ids[#ids + 1] = ARGV[at] end
prefetch(ids)
for at = 3, #ARGV, WIDTH do
  local id, token, stage = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local job = load(id)
  if job and job.state == 'processing' and job.token == token then
    -- The record keeps the first end of the lease; what counts is the sorted set.
    append(renewed, leaseUntil, id)
    if job.stage ~= stage then
      job.stage = stage
      save(id, job)
    end
    answers[#answers + 1] = job.cancel and 2 or 1
  else
    answers[#answers + 1] = 0
  end
end
flush()
send('ZADD', key.processing, renewed)
return answers

-- Redrives or purges dead letters. ARGV: 'redrive' or 'purge', then ids. Reply: how many were.
local act = {}

function act.purge(id)
  remove(id)
  return true
end

-- It comes back with its old version and sequence, so that newer jobs of its image and deletions win.
function act.redrive(id, job)
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
end

local changed, ids = 0, { unpack(ARGV, 2) }
prefetch(ids)
for _, id in ipairs(ids) do
  local job = load(id)
  if job and job.state == 'failed' and act[ARGV[1]](id, job) then changed = changed + 1 end
end
flush()
if mayHaveWork then wakeWorkers() end
return changed

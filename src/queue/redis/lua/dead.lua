-- Redrives or purges dead letters. ARGV: 'redrive' or 'purge', then 'ids' and the ids;
-- or 'all', greatest number to look at, error code ('': any), the place to begin after ('' at first), and the place to
-- end at ('' at first: what dies later is left alone).
-- Reply: { how many were changed, how many were looked at, place to begin after, place to end at }.
local action = ARGV[1]

local act = {}

function act.purge(id)
  remove(id)
  return 1
end

-- It comes back with its old version and sequence, so that newer jobs of its image and deletions win.
function act.redrive(id, job)
  if redis.call('HEXISTS', key.data, id) == 0 then return 0 end
  for _, other in ipairs(siblingsOf(id, job)) do
    if other.job.state == 'processing' and not other.job.cancel and isNewer(other.job, job) then
      finish(id, job, 'cancelled')
      return 0
    end
  end
  job.attempts, job.crashes, job.cancel, job.leased_ms, job.deferred_at = nil, nil, nil, nil, nil
  job.place = nextSequence()
  return wait(id, job) and 1 or 0
end

local ids, after, last = {}, '', ''
if ARGV[2] == 'ids' then
  for i = 3, #ARGV do ids[#ids + 1] = ARGV[i] end
else
  local limit, code = tonumber(ARGV[3]), ARGV[4]
  after, last = ARGV[5], ARGV[6] == '' and nextSequence() or ARGV[6]
  if code == '' then
    local found = redis.call('ZRANGE', key.failed, '(' .. (after == '' and '0' or after), last, 'BYSCORE', 'LIMIT', 0, limit, 'WITHSCORES')
    for i = 1, #found, 2 do ids[#ids + 1], after = found[i], found[i + 1] end
  else
    local prefix = code .. NUL
    local found = redis.call('ZRANGE', key.failed_by_code, '(' .. prefix .. after, '(' .. prefix .. last, 'BYLEX', 'LIMIT', 0, limit)
    for _, member in ipairs(found) do
      after = member:sub(#prefix + 1)
      ids[#ids + 1] = after:match('%z(.*)$')
    end
  end
end

local changed = 0
prefetch(ids)
for _, id in ipairs(ids) do
  local job = load(id)
  if job and job.state == 'failed' then
    changed = changed + act[action](id, job)
  end
end
flush()
if action == 'redrive' and changed > 0 then wakeWorkers() end
return { changed, #ids, after, last }

-- Completes jobs in their first attempt that nothing else has touched since their claim: most are. What they become is
-- written by the caller, who has their records from the claim; Redis adds when.
-- ARGV, for each job: id, token, key, entry in the index of products, record between its end and its history.
-- Gives 1 completed, or 0 for what settle has to look at, for each.
local WIDTH = 5
local ids = {}
for at = 1, #ARGV, WIDTH do ids[#ids + 1] = ARGV[at] end
local leases = collect('HMGET', LEASES, ids)

local head = 'c' .. SEPARATOR .. now .. SEPARATOR
local tails = {}
local function tailOf(lease)
  local tail = tails[lease]
  if not tail then
    tail = SEPARATOR .. withAttempt('', lease.startedAt, lease.worker, 'completed') .. SEPARATOR
    tails[lease] = tail
  end
  return tail
end

local answers, records, done, keys, entries = {}, {}, {}, {}, {}
for i = 1, #ids do
  local at, lease = (i - 1) * WIDTH + 1, leases[i] and decodeLease(leases[i])
  if lease and lease.token == ARGV[at + 1] and lease.cancel == 0 and not lease.followed then
    local n = #done + 1
    done[n], keys[n], entries[n] = ids[i], ARGV[at + 2], ARGV[at + 3]
    records[n * 2 - 1], records[n * 2] = ids[i], head .. ARGV[at + 4] .. tailOf(lease)
    answers[i] = 1
  else
    answers[i] = 0
  end
end
count('completed', #done)
commitTotals(#done, #done)
send('HSET', JOBS, records)
send('HDEL', LEASES, done)
send('RPUSH', HOMES.c, done)
send('HDEL', SLOTS, keys)
send('ZREM', PRODUCTS, entries)
return answers

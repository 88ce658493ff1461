-- ARGV: lease ms, then id and token of each lease. Gives 1 renewed, 2 cancel, 0 lost for each.
local until_ = now + tonumber(ARGV[1])
local ids = {}
for at = 2, #ARGV, 2 do ids[#ids + 1] = ARGV[at] end
local raws = collect('HMGET', LEASES, ids)
local answers, renewed = {}, {}
-- The leases of a claim are one text, and stay so.
local texts = {}
local function renewedText(raw, lease)
  if not texts[raw] then
    lease.leaseUntil = until_
    texts[raw] = encodeLease(lease)
    -- A renewal may shorten a lease too. That it is longer is seen when the claim is due.
    redis.call('ZADD', CLAIMS_DUE, 'XX', 'LT', until_, lease.token)
  end
  return texts[raw]
end

for i = 1, #ids do
  local lease = raws[i] and decodeLease(raws[i])
  if lease and lease.token == ARGV[i * 2 + 1] then
    answers[i] = lease.cancel == 1 and 2 or 1
    renewed[#renewed + 1] = ids[i]
    renewed[#renewed + 1] = renewedText(raws[i], lease)
  else
    answers[i] = 0
  end
end
send('HSET', LEASES, renewed)
return answers

-- ARGV: lease ms, then id and token of each lease. Gives 1 renewed, 2 cancel, 0 lost for each.
local until_ = now + tonumber(ARGV[1])
local ids = {}
for at = 2, #ARGV, 2 do ids[#ids + 1] = ARGV[at] end
load(ids)
local answers, renewed = {}, {}
for i = 1, #ids do
  local s = jobs[ids[i]]
  if s and s.place == 'r' and s.token == ARGV[i * 2 + 1] then
    answers[i] = s.cancel == 1 and 2 or 1
    renewed[#renewed + 1] = until_
    renewed[#renewed + 1] = ids[i]
  else
    answers[i] = 0
  end
end
send('ZADD', HOMES.r, renewed)
return answers

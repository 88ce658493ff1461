-- ARGV: limit. Gives the views of running jobs, longest running first.
local ids = redis.call('HKEYS', LEASES)
load(ids)
local running = {}
for i = 1, #ids do
  if jobs[ids[i]] then running[#running + 1] = ids[i] end
end
table.sort(running, function(a, b)
  if jobs[a].startedAt == jobs[b].startedAt then return a < b end
  return jobs[a].startedAt < jobs[b].startedAt
end)
local views = {}
for i = 1, math.min(#running, tonumber(ARGV[1])) do views[i] = view(running[i], jobs[running[i]]) end
return views

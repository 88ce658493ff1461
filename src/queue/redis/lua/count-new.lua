-- ARGV: id, key, version or '' of jobs that are about to be enqueued.
-- Gives the pending jobs there are, and those that these would add.
local ids, keys = {}, {}
for at = 1, #ARGV, 3 do
  ids[#ids + 1] = ARGV[at]
  keys[#keys + 1] = ARGV[at + 1]
end
load(ids)
loadSlots(keys)

local pending, new = countPending(), 0
for i = 1, #ids do
  local slot = slotOf(keys[i])
  local running = slot.r ~= '' and job(slot.r)
  local version = tonumber(ARGV[i * 3])
  local stale = version and running and running.cancel == 0 and version < running.version
  if not job(ids[i]) and slot.w == '' and not stale then new = new + 1 end
end
return { pending, new }

-- ARGV: redrive or purge; ids, code or all; the greatest order to touch, or '' to begin; limit; then the ids or
-- the code.
-- Gives {greatest order, looked at, changed}: called until it looks at none.
local action, mode, limit = ARGV[1], ARGV[2], tonumber(ARGV[4])

-- What dies while the calls go on is left for another time.
local last = ARGV[3] ~= '' and ARGV[3] or redis.call('HGET', META, 'last') or '0'

local ids = {}
if mode == 'ids' then
  for i = 5, #ARGV do ids[#ids + 1] = ARGV[i] end
elseif mode == 'code' then
  local prefix = ARGV[5] .. SEPARATOR
  local top = '(' .. prefix .. string.format('%016.0f', tonumber(last) + 1)
  local members = redis.call('ZRANGE', DEAD_CODES, '[' .. prefix, top, 'BYLEX', 'LIMIT', 0, limit)
  for i = 1, #members do ids[i] = members[i]:sub(#prefix + 18) end
else
  ids = redis.call('ZRANGE', HOMES.f, '-inf', last, 'BYSCORE', 'LIMIT', 0, limit)
end
load(ids)

local act = {}

function act.purge(id)
  payloads[id] = false
  change(id, false)
  return 1
end

-- A dead letter comes back as if it were enqueued with its old version: newer jobs of its key win.
function act.redrive(id, s)
  local slot = slotOf(s.key)
  local waiting = slot.w ~= '' and job(slot.w)
  local running = slot.r ~= '' and job(slot.r)
  if waiting and waiting.version >= s.version
    or running and running.cancel == 0 and running.version >= s.version then
    finish(id, s, 'x')
    return 0
  end
  if waiting then finish(slot.w, waiting, 'x') end
  s.attempts, s.crashes, s.cancel, s.firstClaimedAt, s.endedAt, s.availableAt = 0, 0, 0, 0, 0, 0
  s.order = nextOrder()
  s.place = running and 'p' or lineOf(s)
  setSlot(s, id, nil)
  change(id, s)
  return 1
end

local done = 0
for i = 1, #ids do
  local s = jobs[ids[i]]
  if s and s.place == 'f' then done = done + act[action](ids[i], s) end
end
commit()
return { last, #ids, done }

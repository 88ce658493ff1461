-- ARGV: slots or products, then keys of slots, or members of the index of products. Removes what points nowhere.
-- Gives how many it mended.
local mended = 0
if ARGV[1] == 'products' then
  for i = 2, #ARGV do
    local key = ARGV[i]:match('([^%z]*)$')
    if redis.call('HEXISTS', SLOTS, key) == 0 then
      redis.call('ZREM', PRODUCTS, ARGV[i])
      mended = mended + 1
    end
  end
  return mended
end
for i = 2, #ARGV do
  local key = ARGV[i]
  local slot = slotOf(key)
  local waiting = slot.w ~= '' and job(slot.w)
  local running = slot.r ~= '' and job(slot.r)
  local w = waiting and waiting.key == key and PENDING[waiting.place] and waiting.place ~= 'r' and slot.w or ''
  local r = running and running.key == key and running.place == 'r' and slot.r or ''
  if w ~= slot.w or r ~= slot.r then
    if w == '' and r == '' then
      redis.call('HDEL', SLOTS, key)
    else
      redis.call('HSET', SLOTS, key, encodeSlot(w, r))
    end
    mended = mended + 1
  end
end
return mended

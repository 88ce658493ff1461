-- ARGV: the error of a job whose payload is gone, then ids found anywhere. Mends each that is in no place, in
-- several or in the wrong one, and its slot. Gives how many it mended.
local ids = {}
for i = 2, #ARGV do ids[#ids + 1] = ARGV[i] end
load(ids)

local homeKeys = {}
for i = 8, FIXED_KEYS do homeKeys[#homeKeys + 1] = KEYS[i] end
local strays, mended = {}, 0

local function inOnePlace(id, s)
  local right = s and HOMES[s.place]
  local sound = true
  for _, home in ipairs(homeKeys) do
    local found = redis.call('ZSCORE', home, id)
    if found and home ~= right then
      append(strays, home, id)
      sound = false
    elseif home == right and (not found or (s.place ~= 'r' and tonumber(found) ~= score(s))) then
      -- A running job without a lease is nobody's: it counts as expired.
      if s.place == 'r' then s.leaseUntil = now end
      change(id, s)
      sound = false
    end
  end
  return sound
end

local function holds(other, s, role)
  return other and other.key == s.key and PENDING[other.place] and (other.place == 'r') == (role == 'r')
end

local function inItsSlot(id, s)
  local role = s.place == 'r' and 'r' or 'w'
  local slot = slotOf(s.key)
  local holder = slot[role]
  if holder ~= id then
    local other = holder ~= '' and job(holder)
    if holds(other, s, role) and other.version >= s.version then
      finish(id, s, 'x')
      return false
    end
    if holds(other, s, role) then finish(holder, other, 'x') end
    if role == 'r' then setSlot(s, nil, id) else setSlot(s, id, nil) end
    return false
  end
  if not redis.call('ZSCORE', PRODUCTS, s.product .. SEPARATOR .. s.key) then
    slot.stored = false
    setSlot(s, nil, nil)
    return false
  end
  return true
end

local function rightlyParked(id, s)
  if s.place == 'r' then return true end
  local holder = slotOf(s.key).r
  local running = holder ~= '' and job(holder)
  local blocked = holds(running, s, 'r')
  if (s.place == 'p') == (blocked and true or false) then return true end
  s.place = blocked and 'p' or lineOf(s)
  change(id, s)
  return false
end

for _, id in ipairs(ids) do
  local s = jobs[id]
  local sound = inOnePlace(id, s)
  local bare = s and PENDING[s.place] and dataOf(s) == '' and redis.call('HEXISTS', DATA, id) == 0
  if bare then
    s.error = ARGV[1]
    if slotOf(s.key).w == id then setSlot(s, '', nil) end
    if slotOf(s.key).r == id then vacate(s) end
    finish(id, s, 'f')
    sound = false
  elseif s and PENDING[s.place] then
    -- Every check mends, so each must run.
    local seated = inItsSlot(id, s)
    local placed = not PENDING[s.place] or rightlyParked(id, s)
    sound = sound and seated and placed
  end
  if not sound then mended = mended + 1 end
end
for home, members in pairs(strays) do send('ZREM', home, members) end
commit()
return mended

-- ARGV: the error of a job whose payload is gone, how long an ended job is remembered (ms), then ids found anywhere.
-- Mends each that is in no place, in several or in the wrong one, and its slot; what should have been forgotten long
-- ago is. Gives how many it mended.
local forgetBefore = now - 2 * tonumber(ARGV[2])
local ids = {}
for i = 3, #ARGV do ids[#ids + 1] = ARGV[i] end
load(ids)

local homeKeys = {}
for i = FIRST_HOME, LAST_HOME do
  if not LISTS[KEYS[i]] then homeKeys[#homeKeys + 1] = KEYS[i] end
end
local strays, mended = {}, 0

local function inOnePlace(id, s)
  local right = s and HOMES[s.place]
  -- A lease of no job is nobody's.
  local sound = s and true or redis.call('HDEL', LEASES, id) == 0
  if right and LISTS[right] and s.endedAt < forgetBefore then
    change(id, false)
    sound = false
  end
  for _, home in ipairs(homeKeys) do
    local found = redis.call('ZSCORE', home, id)
    if found and home ~= right then
      append(strays, home, id)
      sound = false
    elseif home == right and tonumber(found or nil) ~= score(s) then
      change(id, s)
      sound = false
    end
  end
  return sound
end

-- What expires is found by its claim.
local function inItsClaim(id, s)
  local claim, due = decodeClaim(redis.call('HGET', CLAIMS, s.token)), redis.call('ZSCORE', CLAIMS_DUE, s.token)
  for i = 1, #claim.ids do
    if claim.ids[i] == id and due then return true end
  end
  claim.ids[#claim.ids + 1] = id
  saveClaim(s.token, claim)
  redis.call('ZADD', CLAIMS_DUE, 'LT', s.leaseUntil, s.token)
  return false
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
  local bare = s and PENDING[s.place] and s.data == '' and redis.call('HEXISTS', DATA, id) == 0
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
    local claimed = s.place ~= 'r' or inItsClaim(id, s)
    sound = sound and seated and placed and claimed
  end
  if not sound then mended = mended + 1 end
end
for home, members in pairs(strays) do send('ZREM', home, members) end
commit()
return mended

-- ARGV: greatest number of pending jobs (0: no limit), number of calls, then for each call its number of jobs,
-- then for each job: id, key, entry in the index of products, record from its key on, payload to be kept apart (''
-- when the record has it), and as a JSON list priority, greatest attempts, version ('' for none), delay kind ('',
-- 'in', 'at') and delay in ms, the last three as text.
-- Gives three values a job, flat: 0, position (-1: it is delayed) and version where nothing is to be told but that it
-- was stored; {id, status, position, replaced, superseded, version}, 0, 0 of any other; -1, 0, 0 when its call was
-- refused as too many.
local WIDTH = 6
local maxPending, calls = tonumber(ARGV[1]), tonumber(ARGV[2])
local first = 3 + calls

local ids, keys = {}, {}
-- Which jobs share their id or key with another one of this script.
local repeated, byId, byKey = {}, {}, {}
for at = first, #ARGV, WIDTH do
  local n, id, key = #ids + 1, ARGV[at], ARGV[at + 1]
  ids[n], keys[n] = id, key
  local other = byId[id] or byKey[key]
  if other then repeated[n], repeated[byId[id] or n], repeated[byKey[key] or n] = true, true, true end
  byId[id], byKey[key] = n, n
end
local rawJobs, rawSlots = collect('HMGET', JOBS, ids), collect('HMGET', SLOTS, keys)

-- A plain job meets nothing: it needs no look at other jobs.
local plain, known, met, metSlots = {}, {}, {}, {}
for n = 1, #ids do
  plain[n] = not (rawJobs[n] or rawSlots[n] or repeated[n])
  if rawJobs[n] then known[#known + 1] = ids[n] end
  if not plain[n] then met[#met + 1], metSlots[#met + 1] = keys[n], rawSlots[n] end
end
load(known)
admitSlots(met, metSlots)

-- Most jobs of a call have the same options: each text is read once.
local texts = {}
local function optionsOf(n)
  local text = ARGV[first + n * WIDTH - 1]
  local options = texts[text]
  if not options then
    local v = cjson.decode(text)
    options = { priority = v[1], maxAttempts = v[2], version = tonumber(v[3]), kind = v[4], delay = tonumber(v[5]) }
    -- What of a record follows its place.
    options.begin = SEPARATOR .. SEPARATOR .. v[1] .. SEPARATOR .. v[2] .. SEPARATOR
    texts[text] = options
  end
  return options
end

local function availableAt(options)
  local kind, delay = options.kind, options.delay
  if kind == 'in' and delay > 0 then return now + delay end
  if kind == 'at' and delay > now then return delay end
  return 0
end

local function isStale(version, other)
  return version ~= nil and other and version < other.version
end

-- The jobs of the key: the waiting one, and the running one unless it is being cancelled.
local function holders(key)
  local slot = slotOf(key)
  local waiting = slot.w ~= '' and job(slot.w) or nil
  local running = slot.r ~= '' and job(slot.r) or nil
  return waiting, running, running and running.cancel == 0 and running or nil, slot
end

local function countNew(from, to)
  local new, seen = 0, {}
  for n = from, to do
    local key = keys[n]
    if plain[n] then
      new = new + 1
    elseif not job(ids[n]) and not seen[key] then
      local waiting, _, live = holders(key)
      if not waiting and not isStale(optionsOf(n).version, live) then
        new = new + 1
        seen[key] = true
      end
    end
  end
  return new
end

-- What plain jobs add; all else goes through commit().
local states, data, held, products, lines = {}, {}, {}, {}, {}
-- Jobs in the order in which they went to the end of a line: an id; or of a plain one, its number, and its line.
local moved, lineOfPlain = {}, {}

local answers = {}
local function answer(n, told, position, version)
  local i = n * 3
  answers[i - 2], answers[i - 1], answers[i] = told, position, version
end

local nowField = SEPARATOR .. now .. SEPARATOR

local function addPlain(n)
  local id, key, at = ids[n], keys[n], first + (n - 1) * WIDTH
  local payload = ARGV[at + 4]
  local options = optionsOf(n)
  local order, available = nextOrder(), availableAt(options)
  local place, orderText, s = available > 0 and 'd' or LINES[options.priority], digits(order), #states
  local versionText = options.version and digits(options.version) or orderText
  if payload ~= '' then data[#data + 1], data[#data + 2] = id, payload end
  states[s + 1], states[s + 2] = id, place .. options.begin .. versionText .. SEPARATOR .. orderText .. nowField
    .. (available > 0 and available or '') .. SEPARATOR .. ARGV[at + 3]
  held[s + 1], held[s + 2] = key, id
  products[s + 1], products[s + 2] = 0, ARGV[at + 2]
  append(lines, HOMES[place], available > 0 and available or orderText, id)
  answer(n, 0, -1, options.version or order)
  if available == 0 then
    moved[#moved + 1] = n
    lineOfPlain[n] = place
  end
end

local function newJob(key, product, image, priority, order, place)
  return {
    place = place, endedAt = 0, priority = priority, maxAttempts = 0, version = 0, order = order, enqueuedAt = now,
    availableAt = 0, key = key, product = product, image = image, cancel = 0, attempts = 0, crashes = 0,
    firstClaimedAt = 0, startedAt = 0, processingMs = -1, settledToken = '', worker = '', error = '', result = '',
    history = '',
  }
end

-- An id that another job absorbed is a record too: its key is that job's id, and two numbers tell the outcome.
local function absorb(id, target, version, replaced, superseded)
  local s = newJob(target, '', '', 0, 0, 'a')
  s.version, s.attempts, s.maxAttempts, s.endedAt, s.data = version, replaced, superseded, now, ''
  change(id, s)
  return target, replaced, superseded, version
end

-- Gives the job's id, replaced, superseded, version.
local function add(n)
  local id, key, at = ids[n], keys[n], first + (n - 1) * WIDTH
  local known = job(id)
  if known then
    if known.place == 'a' then return known.key, known.attempts, known.maxAttempts, known.version end
    return id, 0, 0, known.version
  end
  local options = optionsOf(n)
  local waiting, running, live, slot = holders(key)
  if isStale(options.version, waiting) then return absorb(id, slot.w, waiting.version, 0, 1) end
  if isStale(options.version, live) then return absorb(id, slot.r, live.version, 0, 1) end

  local order = nextOrder()
  local version = options.version
  if version == nil then
    version = math.max(order, waiting and waiting.version + 1 or 0, running and running.version + 1 or 0)
  end
  local s = waiting
  local product, image, data = ARGV[at + 3]:match('^[^%z]*%z([^%z]*)%z([^%z]*)%z+(.*)$')
  if s then
    s.priority = math.min(s.priority, options.priority)
    s.attempts, s.error, s.firstClaimedAt = 0, '', 0
    if s.place == 'd' then
      s.order = order
      moved[#moved + 1] = slot.w
    end
  else
    moved[#moved + 1] = id
    s = newJob(key, product, image, options.priority, order)
  end
  local holder = waiting and slot.w or id
  s.version, s.maxAttempts, s.availableAt = version, options.maxAttempts, availableAt(options)
  s.place = running and 'p' or lineOf(s)
  setPayload(holder, s, data, ARGV[at + 4])
  change(holder, s)
  if waiting then return absorb(id, holder, version, 1, 0) end
  setSlot(s, id, nil)
  return id, 0, 0, version
end

local pending = maxPending > 0 and countPending() or 0

local late, from = {}, 1
for call = 1, calls do
  local to = from + tonumber(ARGV[2 + call]) - 1
  local new = maxPending > 0 and countNew(from, to) or 0
  if new > 0 and pending + new > maxPending then
    for n = from, to do answer(n, -1, 0, 0) end
  else
    pending = pending + new
    for n = from, to do
      if plain[n] then
        addPlain(n)
      else
        local told = { '', 'failed', -1 }
        told[1], told[4], told[5], told[6] = add(n)
        answer(n, told, 0, 0)
        late[#late + 1] = told
      end
    end
  end
  from = to + 1
end
commit()
send('HSET', JOBS, states)
send('HSET', DATA, data)
send('HSET', SLOTS, held)
send('ZADD', PRODUCTS, products)
for home, members in pairs(lines) do send('ZADD', home, members) end

-- Where the jobs are now. Those that this script put at the end of a line are counted from its end.
local cards, positions = {}, {}
for i = 1, 3 do cards[LINES[i]] = redis.call('ZCARD', HOMES[LINES[i]]) end
local higher, ahead = { h = 0, n = cards.h, l = cards.h + cards.n }, { h = cards.h, n = cards.n, l = cards.l }
for i = #moved, 1, -1 do
  local id = moved[i]
  local place = lineOfPlain[id] or jobs[id].place
  if ahead[place] and not positions[id] then
    local position = higher[place] + ahead[place]
    ahead[place] = ahead[place] - 1
    if lineOfPlain[id] then answers[id * 3 - 1] = position else positions[id] = position end
  end
end
for _, told in ipairs(late) do
  local id = told[1]
  local s = job(id)
  -- Only a purged dead letter is gone before those that it absorbed; its id may have come again since.
  if s and s.place ~= 'a' then told[2], told[3] = statusOf(s), positions[id] or position(id, s) end
end
return answers

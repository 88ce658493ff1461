-- Shared by claim and settle: hosts that asked to slow down. While HOSTS has a record of a host, its jobs are claimed
-- out of PARKED, in order, at the rate of the record: { per_second, next_at (ms), slowed_at (µs), ceiling }. HOST_TURNS
-- has the hosts with parked jobs by the time of their next one.
--
-- The rate doubles each second until the host asks again, is halved then, and from there on looks for the highest rate
-- that the host allows: quickly up to just below the last one that was too high, then slowly.
local FIRST_CUT, LATER_CUT = 0.5, 0.85
local QUICK_STEP, SLOW_STEP = 0.1, 0.01

local function loadHost(name)
  local text = redis.call('HGET', key.hosts, name)
  local host = text and cjson.decode(text)
  if host then host.slowed_at = tonumber(host.slowed_at) end
  return host or nil
end

local function saveHost(name, host)
  local slowedAt = host.slowed_at
  host.slowed_at = digits(slowedAt)
  redis.call('HSET', key.hosts, name, cjson.encode(host))
  host.slowed_at = slowedAt
end

local function newHost()
  return { per_second = HOST_START_PER_SECOND, next_at = now, slowed_at = micros }
end

-- A host asked to slow down for a job. Of the jobs that ran at once only the first one changes the rate.
local function slowDown(name, claimedAt, delayMs)
  local host = loadHost(name)
  if not host then
    host = newHost()
  elseif claimedAt > host.slowed_at then
    local cut = host.ceiling and LATER_CUT or FIRST_CUT
    host.ceiling, host.slowed_at = host.per_second, micros
    host.per_second = math.max(HOST_MIN_PER_SECOND, host.per_second * cut)
  end
  host.next_at = math.max(host.next_at, now + delayMs)
  saveHost(name, host)
  redis.call('ZADD', key.host_turns, host.next_at, name)
end

-- A slowed host served a job that was claimed since it asked.
local function speedUp(name, claimedAt)
  local host = loadHost(name)
  if not host or claimedAt <= host.slowed_at then return end
  local step = 1
  if host.ceiling then step = host.per_second < 0.9 * host.ceiling and QUICK_STEP or SLOW_STEP end
  host.per_second = host.per_second + step
  saveHost(name, host)
end
